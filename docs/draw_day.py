"""Draws docs/simulate.svg, two days of one simulated greenhouse: `python -m docs.draw_day`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ingest.load.charts import Axis, Line, Title, alone, line_chart, linear
from ingest.load.simulate.climate import QUANTITIES, Greenhouse
from ingest.load.simulate.randomness import chance
from ingest.load.simulate.weather import Weather

PAGE: Final = Path(__file__).with_name("simulate.svg")
LATITUDE_DEG: Final = 36.8
START_S: Final = 1_774_310_400
"""2026-03-24T00:00:00Z."""
HOURS: Final = 48
SEED: Final = 7
_STEP_MINUTES: Final = 5
_TICK_H: Final = 6
_PANELS: Final = (
    ("temperature", "Temperature", "°C"),
    ("humidity", "Humidity", "%"),
    ("light", "Light", "lux"),
    ("co2", "CO2", "ppm"),
    ("soil", "Soil moisture", "%"),
)


def drawn() -> str:
    """Give the picture as SVG."""
    weather = Weather(SEED, "0", LATITUDE_DEG)
    house = Greenhouse(weather, chance(SEED, "picture"), (START_S - 86_400) * 1_000_000)
    minutes = range(0, HOURS * 60, _STEP_MINUTES)
    rows = [house.at((START_S + minute * 60) * 1_000_000) for minute in minutes]
    outside = [weather.at(START_S // 60 + minute).temperature_c for minute in minutes]
    hours = [minute / 60 for minute in minutes]
    ticks = tuple((float(hour), f"{hour % 24:02d}:00") for hour in range(0, HOURS, _TICK_H))
    x = Axis(0, HOURS, ticks, "2026-03-24 and 25, UTC")
    charts: list[str] = []
    for quantity, title, unit in _PANELS:
        inside = [row[QUANTITIES.index(quantity)] for row in rows]
        lines = [Line("inside", list(zip(hours, inside, strict=True)))]
        if quantity == "temperature":
            lines.append(Line("outside", list(zip(hours, outside, strict=True)), "q0"))
        values = [value for line in lines for _, value in line.points if value is not None]
        said = f"Two days, from {min(values):.0f} to {max(values):.0f} {unit}."
        y = linear(values, unit, from_zero=False)
        charts.append(line_chart(Title(quantity, title, said), x, y, lines))
    return alone(*charts)


if __name__ == "__main__":
    PAGE.write_text(drawn(), encoding="utf-8")
