"""Charts as SVG: lines, bars and histograms over axes with round ticks; `bench` draws with it too. Pure.

By hand, and why: matplotlib is 10 MB and numpy, writes colours and letters into the picture for good, and no
<title>; pygal brings scripts and a style sheet a chart. These follow the reader's light or dark setting, need
no script, and say in <title> and <desc> what they show. A series is told by its dashes as well as by its
colour. Everything that is text is escaped here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Final, NamedTuple

from ingest.observe.terminal import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

STYLE: Final = """
    .chart { --ink: #24292f; --faint: #57606a; --grid: #d8dee4; --ground: #ffffff;
      --s0: #1a7f37; --s1: #0969da; --s2: #bc4c00; --s3: #8250df; --q0: #8c959f; --q1: #c9d1d9 }
    @media screen and (prefers-color-scheme: dark) {
      .chart { --ink: #e6edf3; --faint: #9198a1; --grid: #30363d; --ground: #0d1117;
        --s0: #3fb950; --s1: #58a6ff; --s2: #f0883e; --s3: #bc8cff; --q0: #6e7681; --q1: #484f58 }
    }
    .chart text { font: 12px system-ui, sans-serif; fill: var(--ink) }
    .chart .title { font-size: 14px; font-weight: 600 }
    .chart .faint { fill: var(--faint) }
    .chart .ground { fill: var(--ground) }
    .chart .grid { stroke: var(--grid) }
    .chart .mark { stroke: var(--faint); stroke-dasharray: 3 3; stroke-opacity: .7 }
    .chart .line { fill: none; stroke-width: 1.6; stroke-linejoin: round }
    .chart .key { stroke-width: 4 }
    .chart .band, .chart .pale { opacity: .25 }
    .chart .s0 { --own: var(--s0) } .chart .s1 { --own: var(--s1); stroke-dasharray: 6 3 }
    .chart .s2 { --own: var(--s2); stroke-dasharray: 2 2 }
    .chart .s3 { --own: var(--s3); stroke-dasharray: 8 2 2 2 }
    .chart .q0 { --own: var(--q0) } .chart .q1 { --own: var(--q1) }
    .chart .line { stroke: var(--own) } .chart .area, .chart .band { fill: var(--own) }"""
"""Goes once into a page, or into a picture that stands alone (`alone`)."""

WIDTH: Final = 440
"""Of a chart in a page: on a telephone of 390 pixels its letters are 10 high, on a desk they grow."""
_HEIGHT: Final = 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 14, 48, 40
_LETTER: Final = 6.6
"""Width of a letter of 12 pixels, on average."""
_BAR, _GAP = 13, 16
_MOST_TICKS: Final = 6
_LEAST: Final = 1e-12
_MOST: Final = 1e300
_LONG: Final = 1e9
"""Ticks so far apart are told with an exponent: any gateway may send 1e308, which has 309 digits."""
_STEPS: Final = (1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Axis:
    """From *low* to *high*, with ticks at values and what stands beside them."""

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    label: str
    log: bool = False

    def place(self, value: float) -> float:
        """Give where *value* is, 0 to 1; what is beyond an end is at it."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(max(value, low))
        return min(1.0, max(0.0, (value - low) / (high - low)))


class Title(NamedTuple):
    """What a chart is called, and what it says to who cannot see it; *name* tells its ids from others'."""

    name: str
    title: str
    description: str


class Line(NamedTuple):
    """Points in the order of x; where y is None the line is interrupted."""

    name: str
    points: Sequence[tuple[float, float | None]]
    look: str = "s0"


class Band(NamedTuple):
    """What lies between two lines: x, low, high."""

    name: str
    points: Sequence[tuple[float, float, float]]
    look: str = "s0"


class Mark(NamedTuple):
    """A place on the x axis with a name, which may be empty."""

    at: float
    name: str


class Bar(NamedTuple):
    """A bar over *share* of the width, which may be a tenth too long, and what is said behind it."""

    share: float
    said: str
    look: str = "s0"


class Bin(NamedTuple):
    """A bar of a histogram."""

    low: float
    high: float
    held: int


def text(value: object) -> str:
    """Give *value* so that it may stand in HTML and SVG, wherever it comes from."""
    return escape(printable(str(value)))


# axes


def linear(values: Iterable[float], label: str, *, from_zero: bool = True, tight: bool = False) -> Axis:
    """Make an axis that holds *values*; its ends are ticks, or with *tight* the outermost values."""
    # What is as good as 0 is 0: an axis of 5e-324 has no ticks that a float can hold, nor has one of 1e308.
    held = [
        max(-_MOST, min(_MOST, value)) if abs(value) > _LEAST else 0.0
        for value in values
        if math.isfinite(value)
    ] or [0.0]
    low, high = min(held), max(held)
    if from_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if high - low <= abs(high) * 1e-9:
        low, high = (0.0, 1.0) if not high else (low - abs(low) / 10, high + abs(high) / 10)
        low = 0.0 if from_zero and high > 0 else low
    step = _step(high - low)
    if not tight:
        low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    places = max(0, -math.floor(math.log10(step)))
    form = f",.{places}f" if step < _LONG else "g"
    marks = tuple((number * step, f"{number * step:{form}}") for number in range(first, last + 1))
    return Axis(low, high, marks, label)


def logarithmic(low: float, high: float, label: str) -> Axis:
    """Make a logarithmic axis over *low* to *high*, both above 0, with ticks at 1, 2 and 5 or at tens."""
    if high <= low * 1.001:
        low, high = low / 2, high * 2
    tens = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if high / low <= 500 else (1,)  # noqa: PLR2004 (more would not be legible)
    marks = [step * 10.0**ten for ten in tens for step in steps]
    ticks = tuple((mark, f"{mark:,g}") for mark in marks if low * 0.999 <= mark <= high * 1.001)
    return Axis(low, high, ticks, label, log=True)


def elapsed(seconds: float) -> tuple[float, str]:
    """Give the seconds of the unit in which a time of *seconds* is best read, and that unit."""
    for limit_s, unit_s, name in ((180.0, 1.0, "seconds"), (10_800.0, 60.0, "minutes")):
        if seconds <= limit_s:
            return unit_s, name
    return (3_600.0, "hours") if seconds <= 259_200.0 else (86_400.0, "days")  # noqa: PLR2004 (three days)


def _step(span: float) -> float:
    """Give the distance of ticks: 1, 2 or 5 times a power of ten."""
    rough = span / _MOST_TICKS
    ten = 10.0 ** math.floor(math.log10(rough))
    return next(step * ten for step in _STEPS if step * ten >= rough * 0.999)


# charts


def line_chart(
    title: Title,
    x: Axis,
    y: Axis,
    lines: Sequence[Line],
    *,
    band: Band | None = None,
    marks: Sequence[Mark] = (),
) -> str:
    """Draw *lines* over each other, *band* and *marks* under them."""
    body = [*_axes(x, y), *_marks(x, marks)]
    if band is not None and band.points:
        across = [_point(x, y, at, high) for at, _, high in band.points]
        back = [_point(x, y, at, low) for at, low, _ in reversed(band.points)]
        body.append(f'  <polygon class="band {band.look}" points="{" ".join(across + back)}"/>')
    for line in lines:
        path = _path(x, y, line.points)
        body.append(f'  <path class="line {line.look}" d="{path}"/>')
        body += [_dot(line.look, *_at(x, y, at, value)) for at, value in _single(line.points)]
    named = [(line.look, line.name) for line in lines]
    if band is not None:
        named.append((f"{band.look} pale", band.name))
    return _chart(title, (WIDTH, _HEIGHT), [*_legend(named), *body])


def histogram(title: Title, x: Axis, y: Axis, bins: Sequence[Bin], marks: Sequence[Mark]) -> str:
    """Draw *bins* with *marks* over them."""
    body = list(_axes(x, y))
    for each in bins:
        left, top = _at(x, y, each.low, each.held)
        right, bottom = _at(x, y, each.high, y.low)
        body.append(_area("s0", left, top, (max(right - left - 0.5, 0.5), bottom - top)))
    return _chart(title, (WIDTH, _HEIGHT), [*body, *_marks(x, marks)])


def bar_chart(
    title: Title,
    groups: Sequence[tuple[str, Sequence[Bar]]],
    *,
    legend: Sequence[tuple[str, str]] = (),
    mark: str = "",
    size: tuple[int, int, int] = (WIDTH, 150, 70),
) -> str:
    """Draw lying bars in *groups* with their names; *legend* is (look, name), *mark* the full width.

    *size*: the width of all, and what of it is left of the bars and right of them.
    """
    width, left, right = size
    full = width - left - right
    top = 34 + (22 if legend or mark else 0)
    height = top + sum(len(bars) * _BAR + _GAP for _, bars in groups) + 8
    body = list(_legend(legend))
    if mark:
        at = left + full
        body += [
            f'  <line class="mark" x1="{at}" x2="{at}" y1="{top - 6}" y2="{height - 8}"/>',
            f'  <text class="faint" x="{at}" y="{top - 12}" text-anchor="middle">{text(mark)}</text>',
        ]
    y = top
    for said, bars in groups:
        middle = y + len(bars) * _BAR / 2 + 4
        shown = _cut(said, (left - 12) / _LETTER)
        body.append(f'  <text x="{left - 8}" y="{middle:g}" text-anchor="end">{text(shown)}</text>')
        for bar in bars:
            long = full * min(max(bar.share, 0.0), 1.1)
            at_x, at_y = left + long + 5, y + _BAR - 3
            body += [
                _area(bar.look, left, y, (long, _BAR - 2)),
                f'  <text class="faint" x="{at_x:.1f}" y="{at_y}">{text(bar.said)}</text>',
            ]
            y += _BAR
        y += _GAP
    return _chart(title, (width, height), body)


def alone(*charts: str) -> str:
    """Give *charts*, one under the other, as a file of its own."""
    sizes = [_size_of(chart) for chart in charts]
    width, height = max(wide for wide, _ in sizes), sum(high for _, high in sizes)
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>'
    parts = [head, f"  <style>{STYLE}\n  </style>"]
    y = 0
    for chart, (wide, high) in zip(charts, sizes, strict=True):
        parts.append(chart.replace("<svg ", f'<svg y="{y}" width="{wide}" height="{high}" ', 1))
        y += high
    return "\n".join([*parts, "</svg>\n"])


def _size_of(chart: str) -> tuple[int, int]:
    _, _, width, height = chart.partition('viewBox="')[2].partition('"')[0].split()
    return int(width), int(height)


def _chart(title: Title, size: tuple[int, int], body: Iterable[str]) -> str:
    width, height = size
    name = title.name
    named = f'aria-labelledby="{name}-title {name}-desc"'
    return "\n".join(
        (
            f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" {named}>',
            f'  <title id="{name}-title">{text(title.title)}</title>',
            f'  <desc id="{name}-desc">{text(title.description)}</desc>',
            f'  <rect class="ground" width="{width}" height="{height}"/>',
            f'  <text class="title" x="12" y="20">{text(title.title)}</text>',
            *body,
            "</svg>",
        )
    )


def _area(look: str, x: float, y: float, size: tuple[float, float]) -> str:
    width, height = size
    at = f'x="{x:.1f}" y="{y:.1f}"'
    return f'  <rect class="area {look}" {at} width="{width:.1f}" height="{height:.1f}"/>'


def _legend(named: Sequence[tuple[str, str]]) -> Iterator[str]:
    if len(named) < 2:  # noqa: PLR2004 (the title says what one is)
        return
    x = 12.0
    for look, said in named:
        yield f'  <path class="line key {look}" d="M{x:g} 36h16"/>'
        yield f'  <text x="{x + 21:g}" y="40">{text(said)}</text>'
        x += 33 + _LETTER * len(said)


def _axes(x: Axis, y: Axis) -> Iterator[str]:
    right, bottom = WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    for value, said in y.ticks:
        row = _at(x, y, x.low, value)[1]
        yield f'  <line class="grid" x1="{_LEFT}" x2="{right}" y1="{row:.1f}" y2="{row:.1f}"/>'
        yield f'  <text class="faint" x="{_LEFT - 5}" y="{row + 4:.1f}" text-anchor="end">{text(said)}</text>'
    for value, said in x.ticks:
        column = _at(x, y, value, y.low)[0]
        yield f'  <line class="grid" x1="{column:.1f}" x2="{column:.1f}" y1="{bottom}" y2="{bottom + 4}"/>'
        anchor = "middle" if column + _LETTER * len(said) / 2 < WIDTH else "end"
        at = f'x="{column:.1f}" y="{bottom + 16}" text-anchor="{anchor}"'
        yield f'  <text class="faint" {at}>{text(said)}</text>'
    at = f'x="{(_LEFT + right) / 2:g}" y="{_HEIGHT - 8}"'
    yield f'  <text class="faint" {at} text-anchor="middle">{text(x.label)}</text>'
    yield f'  <text class="faint" x="{right}" y="20" text-anchor="end">{text(y.label)}</text>'


def _marks(x: Axis, marks: Sequence[Mark]) -> Iterator[str]:
    """Draw marks; names that would run into each other go one line down."""
    ends = [-math.inf] * 3
    for mark in sorted(marks):
        at = _LEFT + x.place(mark.at) * (WIDTH - _LEFT - _RIGHT)
        yield f'  <line class="mark" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>'
        if mark.name:
            long = _LETTER * len(mark.name)
            back = at + long + 4 > WIDTH
            begin = at - long - 4 if back else at + 3
            row = next((row for row, end in enumerate(ends) if end <= begin), len(ends) - 1)
            ends[row] = begin + long
            anchor = ' text-anchor="end"' if back else ""
            place = f'x="{at - 3 if back else at + 3:.1f}" y="{_TOP + 10 + 14 * row}"{anchor}'
            yield f"  <text {place}>{text(mark.name)}</text>"


def _at(x: Axis, y: Axis, x_value: float, y_value: float) -> tuple[float, float]:
    return (
        _LEFT + x.place(x_value) * (WIDTH - _LEFT - _RIGHT),
        _HEIGHT - _BOTTOM - y.place(y_value) * (_HEIGHT - _TOP - _BOTTOM),
    )


def _point(x: Axis, y: Axis, x_value: float, y_value: float) -> str:
    return "{:.1f},{:.1f}".format(*_at(x, y, x_value, y_value))


def _path(x: Axis, y: Axis, points: Sequence[tuple[float, float | None]]) -> str:
    """Give the points as a path."""
    parts: list[str] = []
    drawing = False
    for at, value in points:
        if value is None:
            drawing = False
            continue
        parts.append(f"{'L' if drawing else 'M'}{_point(x, y, at, value)}" + ("" if drawing else "h.1"))
        drawing = True
    return "".join(parts)


def _single(points: Sequence[tuple[float, float | None]]) -> Iterator[tuple[float, float]]:
    """Give those without a neighbour, of which a path shows nothing."""
    values = [None, *(value for _, value in points), None]
    for (at, value), before, after in zip(points, values[:-2], values[2:], strict=True):
        if value is not None and before is None and after is None:
            yield at, value


def _dot(look: str, x: float, y: float) -> str:
    return f'  <circle class="area {look}" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>'


def _cut(said: str, letters: float) -> str:
    most = int(letters)
    return said if len(said) <= most else f"{said[: most - 1]}…"
