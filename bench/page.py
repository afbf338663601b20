"""The kept figures as a page of their own, as a replay's report is one. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bench.figures import CONTENDERS, WORKER
from bench.plot import chart
from bench.targets import judge
from ingest.load.charts import WIDTH, Bar, Line, Title, bar_chart, line_chart, linear, logarithmic
from ingest.load.page import Figure, Page, Section, Table, html, number

if TYPE_CHECKING:
    from collections.abc import Iterator

_MET: Final = {True: "met", False: "MISSED", None: "not measured"}
_SHARES: Final = (
    ("p50", "p50_ms", "s0"),
    ("p99", "p99_ms", "s1"),
    ("p99.9", "p99_9_ms", "s2"),
)


def render(kept: dict[str, Any], made: str) -> str:
    """Give the page of *kept*, which may lack parts; *made* says when it was drawn."""
    workloads = kept.get("workloads", {})
    exact = all(each["exact"] for each in workloads.values())
    facts = (("machine", kept.get("machine")), ("database", kept.get("target")))
    return html(
        Page(
            title="greenhouse-ingest: the benchmark",
            verdict="Every reading was stored once." if exact else "The worker lost or doubled readings.",
            ok=exact if workloads else None,
            facts=tuple((name, said) for name, said in facts if said),
            sections=tuple(_sections(kept, workloads)),
            made=made,
        )
    )


def _sections(kept: dict[str, Any], workloads: dict[str, Any]) -> Iterator[Section]:
    if workloads:
        rows = tuple((each.says, each.wanted, each.measured, _MET[each.met]) for each in judge(kept))
        table = Table("Targets", ("target", "wanted", "measured", ""), rows, words=True)
        yield Section("Targets", "", (table,))
    if workloads:
        yield Section("Speed", "Compared within one run, on one backlog.", (_speed(workloads),))
        yield Section("Cost", "", (_cost(workloads),))
    if "latency_ms" in kept:
        yield Section("Latency", "From publishing to COMMIT.", (_latency(kept["latency_ms"]),))
    if "stages_us" in kept:
        yield Section("Steps of the hot path", "", (_stages(kept["stages_us"]),))


def _speed(workloads: dict[str, Any]) -> Figure:
    rows = tuple(
        (
            f"{name}: {each['says']}" if contender == WORKER else "",
            contender,
            f"{each['rows_per_s'][contender]:,}",
        )
        for name, each in workloads.items()
        for contender in CONTENDERS
        if contender in each["rows_per_s"]
    )
    table = Table("Rows a second", ("workload", "contender", "rows/s"), rows)
    return Figure(chart(workloads, (WIDTH, 180, 76)), table)


def _cost(workloads: dict[str, Any]) -> Figure:
    spent = {name: each["cpu_us_per_message"] for name, each in workloads.items()}
    most = max(spent.values())
    drawn = bar_chart(
        Title("cost", "The worker's CPU time, µs a message", f"{number(most)} µs at most."),
        [(name, [Bar(us / most, f"{us:.1f} µs")]) for name, us in spent.items()],
        size=(WIDTH, 180, 76),
    )
    rows = tuple(
        (name, number(each["cpu_us_per_message"]), number(each["rss_mb"])) for name, each in workloads.items()
    )
    return Figure(drawn, Table("The worker's cost", ("workload", "µs a message", "MiB"), rows))


def _latency(latency_ms: dict[str, Any]) -> Figure:
    rates = sorted(latency_ms, key=int)
    lines = [
        Line(name, [(float(rate), latency_ms[rate][key]) for rate in rates], look)
        for name, key, look in _SHARES
    ]
    values = [value for line in lines for _, value in line.points if value is not None]
    drawn = line_chart(
        Title("latency", "From publishing to COMMIT", f"{number(max(values))} ms at most."),
        logarithmic(float(rates[0]), float(rates[-1]), "messages a second"),
        linear(values, "ms"),
        lines,
    )
    rows = tuple(
        (f"{int(rate):,}", *(number(latency_ms[rate][key]) for _, key, _ in _SHARES)) for rate in rates
    )
    return Figure(drawn, Table("Latency in ms", ("messages/s", "p50", "p99", "p99.9"), rows))


def _stages(stages_us: dict[str, Any]) -> Table:
    names = list(stages_us)
    rows = tuple((step, *(f"{stages_us[name][step]:.2f}" for name in names)) for step in stages_us[names[0]])
    return Table("µs a message", ("step", *names), rows)
