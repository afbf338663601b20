"""Draws docs/simulate.svg, two days of one simulated greenhouse: `python -m docs.draw_day`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from ingest.load.simulate.climate import QUANTITIES, Greenhouse
from ingest.load.simulate.randomness import chance
from ingest.load.simulate.weather import Weather

if TYPE_CHECKING:
    from collections.abc import Sequence

PAGE: Final = Path(__file__).with_name("simulate.svg")
LATITUDE_DEG: Final = 36.8
START_S: Final = 1_774_310_400
"""2026-03-24T00:00:00Z."""
HOURS: Final = 48
SEED: Final = 7
_STEP_MINUTES: Final = 5
_LEFT, _WIDTH, _HEIGHT, _GAP, _TOP = 150, 620, 70, 22, 14
_PANELS: Final = (
    ("temperature", "temperature, °C", "#c0392b"),
    ("humidity", "humidity, %", "#2471a3"),
    ("light", "light, lux", "#b7950b"),
    ("co2", "CO2, ppm", "#1e8449"),
    ("soil", "soil moisture, %", "#6e4b2a"),
)


def drawn() -> str:
    """Give the picture as SVG."""
    weather = Weather(SEED, "0", LATITUDE_DEG)
    house = Greenhouse(weather, chance(SEED, "picture"), (START_S - 86_400) * 1_000_000)
    minutes = range(0, HOURS * 60, _STEP_MINUTES)
    rows = [house.at((START_S + minute * 60) * 1_000_000) for minute in minutes]
    outside = [weather.at(START_S // 60 + minute).temperature_c for minute in minutes]
    parts: list[str] = []
    for place, (quantity, title, colour) in enumerate(_PANELS):
        values = [row[QUANTITIES.index(quantity)] for row in rows]
        also = outside if quantity == "temperature" else None
        parts += _panel(_TOP + place * (_HEIGHT + _GAP), title, colour, values, also)
    bottom = _TOP + len(_PANELS) * (_HEIGHT + _GAP)
    parts += [
        _text(_LEFT + _WIDTH * hour / HOURS, bottom, f"{hour % 24:02d}:00", "middle")
        for hour in range(0, HOURS + 1, 6)
    ]
    size = f'width="{_LEFT + _WIDTH + 30}" height="{bottom + 12}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>", ""])


def _panel(
    top: float, title: str, colour: str, values: Sequence[float], also: Sequence[float] | None
) -> list[str]:
    low, high = min([*values, *(also or ())]), max([*values, *(also or ())])
    frame = f'<rect x="{_LEFT}" y="{top}" width="{_WIDTH}" height="{_HEIGHT}" fill="none" stroke="#ccc"/>'
    parts = [
        frame,
        _text(_LEFT - 48, top + _HEIGHT / 2 + 4, title, "end"),
        _text(_LEFT - 6, top + 9, f"{high:.0f}", "end"),
        _text(_LEFT - 6, top + _HEIGHT, f"{low:.0f}", "end"),
    ]
    if also is not None:
        parts.append(_line(top, also, low, high, "#999"))
        parts.append(_text(_LEFT + 6, top + 12, "grey: outside", "start"))
    return [*parts, _line(top, values, low, high, colour)]


def _line(top: float, values: Sequence[float], low: float, high: float, colour: str) -> str:
    points = " ".join(
        f"{_LEFT + _WIDTH * number / (len(values) - 1):.1f},"
        f"{top + _HEIGHT - (value - low) / (high - low) * _HEIGHT:.1f}"
        for number, value in enumerate(values)
    )
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.3"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{text}</text>'


if __name__ == "__main__":
    PAGE.write_text(drawn(), encoding="utf-8")
