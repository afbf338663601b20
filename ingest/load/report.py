"""The report of a replay or a simulation: what was measured -> the text of one HTML file. Pure.

Rate over time, latency, readings by type, a day of each sensor type, and the account with what is missing;
what was not measured is left out. The page itself is `page`, its charts `charts`.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from ingest.load import charts
from ingest.load.charts import Band, Line, Mark, Title
from ingest.load.page import Figure, Page, Section, Table, html, number

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ingest.load.measured import Day, Latency, Measured, Rate

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ROWS: Final = 24
"""Of the table beside a chart over time: each is the mean of what the chart has in between."""
_BINS_A_TEN: Final = 10
"""Bars of a latency histogram for a power of ten."""
_HOUR_US: Final = 3_600_000_000


def render(measured: Measured) -> str:
    """Give the report."""
    return html(
        Page(
            measured.title,
            measured.verdict,
            measured.ok,
            measured.facts,
            tuple(_sections(measured)),
            measured.made,
        )
    )


def _sections(measured: Measured) -> Iterator[Section]:
    if measured.account:
        yield _account(measured)
    if measured.rates:
        yield Section("Rate over time", "", (rate_figure(measured.rates),))
    if measured.latencies:
        figures = [latency_figure(f"latency-{n}", each) for n, each in enumerate(measured.latencies)]
        yield Section("Latency", "", tuple(figures))
    if measured.readings:
        yield Section(f"{measured.readings_are.capitalize()} by sensor type", "", (_readings(measured),))
    if measured.days:
        days = [_day(f"day-{n}", each) for n, each in enumerate(measured.days)]
        remark = "The line is the median of what the sensors of a type read, the band holds eight in ten."
        yield Section("A day of each sensor type", remark, tuple(days))


def _account(measured: Measured) -> Section:
    lines = tuple(
        (each.name, number(each.number), "" if not each.amiss else "must be 0" if each.number else "good")
        for each in measured.account
    )
    parts = [Table("The account", ("", "messages or readings", ""), lines)]
    if measured.missing:
        shown = len(measured.missing)
        more = f", the first {shown}" if measured.missing_in_all > shown else ""
        parts.append(
            Table(
                f"Missing: {measured.missing_in_all:,}{more}",
                ("file, block, message", "topic", "field", "why"),
                tuple(measured.missing),
                words=True,
            )
        )
    return Section("Account", "", tuple(parts))


def rate_figure(rates: Sequence[Rate]) -> Figure:
    """Draw messages a second."""
    unit_s, unit = charts.elapsed(rates[-1].at_s)
    lines = (
        Line("published", [(each.at_s / unit_s, each.published) for each in rates], "s1"),
        Line("acknowledged", [(each.at_s / unit_s, each.acknowledged) for each in rates], "s0"),
    )
    most = max(max(each.published, each.acknowledged) for each in rates)
    chart = charts.line_chart(
        Title(
            "rate",
            "Messages a second",
            f"Published and acknowledged over {rates[-1].at_s / unit_s:.3g} {unit}; {number(most)} at most.",
        ),
        charts.linear([0, rates[-1].at_s / unit_s], unit, tight=True),
        charts.linear([0, most], "messages/s"),
        lines,
    )
    columns = (unit, "published/s", "acknowledged/s")
    return Figure(chart, over_time("Messages a second", columns, [line.points for line in lines]))


def over_time(
    caption: str, columns: tuple[str, ...], lines: Sequence[Sequence[tuple[float, float | None]]]
) -> Table:
    """Give *lines*, which share their x, as a table of at most 24 rows: means of what is in between."""
    xs = [x for x, _ in lines[0]]
    size = max(1, -(-len(xs) // _ROWS))
    rows: list[tuple[object, ...]] = []
    for begin in range(0, len(xs), size):
        cells = []
        for line in lines:
            held = [y for _, y in line[begin : begin + size] if y is not None]
            cells.append(number(sum(held) / len(held)) if held else None)
        rows.append((number(xs[min(begin + size, len(xs)) - 1]), *cells))
    return Table(caption if size == 1 else f"{caption}, means", columns, tuple(rows))


def latency_figure(name: str, latency: Latency) -> Figure:
    """Draw a histogram over milliseconds, with p50, p99 and the longest."""
    low_us = max(min(latency.counts), 1)
    first = math.floor(math.log10(low_us) * _BINS_A_TEN)
    last = math.floor(math.log10(max(latency.most_us, low_us)) * _BINS_A_TEN)
    held = dict.fromkeys(range(first, last + 1), 0)
    for taken_us, count in latency.counts.items():
        held[min(math.floor(math.log10(max(taken_us, 1)) * _BINS_A_TEN + 1e-9), last)] += count
    edges_ms = {place: 10 ** (place / _BINS_A_TEN) / 1_000 for place in range(first, last + 2)}
    bins = [charts.Bin(edges_ms[place], edges_ms[place + 1], count) for place, count in held.items()]
    named = [(said, latency.at_ms(share)) for said, share in _SHARES]
    total = sum(latency.counts.values())
    chart = charts.histogram(
        Title(
            name,
            latency.name,
            f"{total:,} in all; " + ", ".join(f"{said} {number(each)} ms" for said, each in named) + ".",
        ),
        charts.logarithmic(edges_ms[first], edges_ms[last + 1], "milliseconds"),
        charts.linear([0, *held.values()], "how many"),
        bins,
        [Mark(each, f"{said} {number(each)}") for said, each in named if said in _MARKED],
    )
    rows = (*((said, number(each)) for said, each in named), ("how many", f"{total:,}"))
    return Figure(chart, Table(latency.name, ("", "ms"), rows))


_SHARES: Final = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0))
_MARKED: Final = ("p50", "p99", "max")


def _readings(measured: Measured) -> Figure:
    most = max(count for _, count in measured.readings) or 1
    total = sum(count for _, count in measured.readings)
    title = f"{measured.readings_are.capitalize()} by sensor type"
    chart = charts.bar_chart(
        Title(
            "readings",
            title,
            f"{total:,} of {len(measured.readings)} types.",
        ),
        [(name, [charts.Bar(count / most, f"{count:,}")]) for name, count in measured.readings],
    )
    rows = tuple(
        (name, f"{count:,}", f"{100 * count / (total or 1):.1f} %") for name, count in measured.readings
    )
    return Figure(chart, Table(title, ("sensor type", measured.readings_are, "share"), rows))


def _day(name: str, day: Day) -> Figure:
    began = _EPOCH + timedelta(microseconds=day.parts[0].at_us)
    midnight_us = (began.replace(hour=0, minute=0, second=0, microsecond=0) - _EPOCH) // timedelta(
        microseconds=1
    )
    hours = [(part.at_us - midnight_us) / _HOUR_US for part in day.parts]
    middles: list[tuple[float, float | None]] = []
    step_h = min((b - a for a, b in pairwise(hours)), default=1.0)
    for at_h, part in zip(hours, day.parts, strict=True):
        if middles and at_h - middles[-1][0] > 3 * step_h:
            middles.append((at_h - step_h, None))
        middles.append((at_h, part.middle))
    values = [each for part in day.parts for each in (part.low, part.high) if math.isfinite(each)] or [0.0]
    shown = _without_outliers(values)
    extremes = f"from {number(min(values))} to {number(max(values))} {day.unit}"
    beyond = "" if len(shown) == len(values) else f"; cut off: {extremes}"
    chart = charts.line_chart(
        Title(
            name,
            day.sensor_type,
            f"{began:%Y-%m-%d} UTC, by the hour, {extremes}.",
        ),
        _clock(hours[0], hours[-1], f"{began:%Y-%m-%d}, UTC{beyond}"),
        charts.linear(shown, day.unit, from_zero=False),
        [Line("median", middles)],
        band=Band("10 to 90 %", list(zip(hours, [p.low for p in day.parts], [p.high for p in day.parts],
                                         strict=True))),
    )  # fmt: skip
    size = max(1, -(-len(day.parts) // _ROWS))
    rows = tuple(
        (said(hours[place]), number(part.low), number(part.middle), number(part.high))
        for place, part in enumerate(day.parts)
        if place % size == 0
    )
    return Figure(chart, Table(f"{day.sensor_type}, {day.unit}", ("UTC", "10 %", "median", "90 %"), rows))


def _without_outliers(values: Sequence[float]) -> list[float]:
    """Give *values* but those of a probe that is broken: beside them nothing else would be seen."""
    ordered = sorted(values)
    low, high = (ordered[int(share * (len(ordered) - 1))] for share in (0.05, 0.95))
    room = _FENCE * (high - low)
    return [value for value in values if low - room <= value <= high + room] if room else ordered


_FENCE: Final = 1.5


def said(hour: float) -> str:
    """Give *hour*, which may be one of the day after, as a clock shows it."""
    seconds = round(hour * 3_600)
    clock = f"{seconds // 3_600 % 24:02d}:{seconds // 60 % 60:02d}"
    return clock if seconds % 60 == 0 else f"{clock}:{seconds % 60:02d}"


_CLOCK_STEPS_S: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 14_400)
_MOST_CLOCK_TICKS: Final = 7


def _clock(low_h: float, high_h: float, label: str) -> charts.Axis:
    """Make an axis of hours with ticks where a clock has them."""
    if high_h - low_h < 1 / 3_600:
        high_h = low_h + 1 / 3_600
    span_s = (high_h - low_h) * 3_600
    step_s = next((each for each in _CLOCK_STEPS_S if span_s / each <= _MOST_CLOCK_TICKS), _CLOCK_STEPS_S[-1])
    ticks: list[tuple[float, str]] = []
    at_s = math.ceil(low_h * 3_600 / step_s) * step_s
    while at_s <= high_h * 3_600:
        ticks.append((at_s / 3_600, said(at_s / 3_600)))
        at_s += step_s
    return charts.Axis(low_h, high_h, tuple(ticks), label)
