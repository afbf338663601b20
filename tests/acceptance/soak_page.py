"""The page of a soak: the verdict, and what was sampled as lines over time. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ingest.load import charts
from ingest.load.charts import Line, Mark, Title
from ingest.load.page import Figure, Page, Section, Table, html, number
from ingest.load.report import latency_figure, over_time, rate_figure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ingest.load.measured import Meter

_MOST_MARKS: Final = 40
"""Faults drawn; beyond, lines beside lines say nothing."""


class _Plot(NamedTuple):
    name: str
    title: str
    unit: str
    scale: float
    lines: tuple[tuple[str, str], ...]
    """The sample's key, and what it is called."""


_PLOTS: Final = (
    _Plot("memory", "Resident memory of the worker", "MB", 1e6, (("rss_bytes", "memory"),)),
    _Plot("handles", "Open files of the worker", "files", 1.0, (("handles", "files"),)),
    _Plot(
        "lag",
        "Behind the broker",
        "messages",
        1.0,
        (("lag", "acknowledged, not committed"), ("queue", "in the worker")),
    ),
    _Plot("wait", "Oldest message that waits", "s", 1.0, (("waits_s", "waits"),)),
    _Plot("rows", "Rows", "rows", 1.0, (("rows", "rows"),)),
    _Plot(
        "chunks", "Chunks of the readings", "chunks", 1.0, (("chunks", "all"), ("compressed", "compressed"))
    ),
    _Plot("disk", "Disk", "MB", 1e6, (("database_bytes", "database"), ("wal_bytes", "WAL kept"))),
)
_LOOKS: Final = ("s0", "s1")


def render(report: Mapping[str, Any], samples: Sequence[Mapping[str, Any]], meter: Meter, made: str) -> str:
    """Give the page; *report* is the JSON that the soak ends with."""
    facts = (
        ("seed", report["seed"]),
        ("gateways", report["gateways"]),
        ("seconds", number(report["seconds"])),
        ("database", report["database"]),
        ("chaos", "yes" if report["chaos"] else "no"),
        ("samples", report["samples"]),
    )
    violations = report["violations"]
    verdict = f"{len(violations)} violations." if violations else "Nothing is lost, nothing grows."
    return html(
        Page(
            title=f"Soak, seed {report['seed']}",
            verdict=verdict,
            ok=report["ok"],
            facts=facts,
            sections=tuple(_sections(report, samples, meter)),
            made=made,
        )
    )


def _sections(
    report: Mapping[str, Any], samples: Sequence[Mapping[str, Any]], meter: Meter
) -> Iterator[Section]:
    verdict = [
        Table("Violations", ("",), tuple((each,) for each in report["violations"]), words=True)
    ] if report["violations"] else []  # fmt: skip
    grown = Table("Growth after warm-up", ("",), tuple((each,) for each in report["growth"]), words=True)
    remark = "" if report["growth"] else "No process lived long enough to judge its growth."
    yield Section("Verdict", remark, (*verdict, *([grown] if report["growth"] else [])))
    account = tuple((name, number(count)) for name, count in report["account"].items())
    parts = [Table("The account", ("", "messages or readings"), account)]
    if report["missing"]:
        columns = ("message", "topic", "field", "why")
        parts.append(Table("Missing", columns, tuple(map(tuple, report["missing"])), words=True))
    ledgers = tuple((name, number(count)) for name, count in report["ledgers"].items())
    yield Section("Account", "", (*parts, Table("The worker's ledgers", ("", ""), ledgers)))
    marks = [at_s for at_s, _ in report["marks"]]
    figures = [_figure(plot, samples, marks) for plot in _PLOTS if _known(plot, samples)]
    if meter.rates:
        figures.insert(0, rate_figure(meter.rates))
    figures += [latency_figure("puback", each) for each in meter.latency("From PUBLISH to PUBACK")]
    remark = "Dashed: something was broken." if 0 < len(marks) <= _MOST_MARKS else ""
    yield Section("Over time", remark, tuple(figures))
    if report["faults"]:
        rows = tuple(report["faults"].items())
        yield Section("What was broken", "", (Table("Faults", ("", "times"), rows),))


def _known(plot: _Plot, samples: Sequence[Mapping[str, Any]]) -> bool:
    return any(sample[key] is not None for sample in samples for key, _ in plot.lines)


def _figure(plot: _Plot, samples: Sequence[Mapping[str, Any]], marks: Sequence[float]) -> Figure:
    unit_s, unit = charts.elapsed(samples[-1]["at_s"])
    lines = []
    for (key, name), look in zip(plot.lines, _LOOKS, strict=False):
        points = [
            (sample["at_s"] / unit_s, None if sample[key] is None else sample[key] / plot.scale)
            for sample in samples
        ]
        lines.append(Line(name, points, look))
    values = [value for line in lines for _, value in line.points if value is not None]
    chart = charts.line_chart(
        Title(
            plot.name,
            plot.title,
            f"Over {samples[-1]['at_s'] / unit_s:.3g} {unit}: {number(min(values))} to {number(max(values))} "
            f"{plot.unit}, {number(values[-1])} in the end.",
        ),
        charts.linear([0, samples[-1]["at_s"] / unit_s], unit, tight=True),
        charts.linear(values, plot.unit),
        lines,
        marks=[Mark(at_s / unit_s, "") for at_s in marks] if len(marks) <= _MOST_MARKS else (),
    )
    columns = (unit, *(f"{line.name}, {plot.unit}" for line in lines))
    return Figure(chart, over_time(plot.title, columns, [line.points for line in lines]))
