"""What looking for spikes and gaps costs: CPU time of the survey, in µs a committed row.

    python -m bench.survey

Registered thermometers, one reading every ten seconds each, noise below a spike; batches as large as they get
when the worker is behind, and as small as they are when it is not. The first rows of a series cost more: a
series is entered once, and its first 16 steps are looked at. The last conditions are gathered while somebody
looks at the worker's page.
"""

from __future__ import annotations

import random
import time
from typing import NamedTuple
from uuid import uuid4

from ingest.model import Row, Series
from ingest.quality import Directory, Limits, Place, Survey

_SECOND_US = 1_000_000
_NOW_US = 1_763_374_560_000_000
_SERIES_OF_GREENHOUSE = 1_000
_TYPES = 5


class _Sensor(NamedTuple):
    code: str = "T"
    is_active: bool = True
    expected_interval_s: int | None = 10


def main() -> None:
    """Print one line a load."""
    for series, batch_rows, every_s in (
        (22, 20_000, 0.2),
        (1_000, 20_000, 0.2),
        (10_000, 20_000, 0.2),
        (1_000, 100, 1.0),
        (10_000, 1_000, 1.0),
    ):
        spent = _us_a_row(series, batch_rows, every_s)
        warm = sorted(spent[len(spent) // 2 :])
        print(
            f"{series:6} series, {batch_rows:6} rows every {every_s} s: "
            f"{warm[len(warm) // 2]:.2f} us a row, the first batch {spent[0]:.2f}"
        )
    for greenhouses, each in ((50, 1_000), (10_000, 5)):
        spent_ms = _conditions_ms(greenhouses, each)
        print(f"{greenhouses:6} greenhouses, {each:5} series each: {spent_ms:.0f} ms for the last conditions")


def _conditions_ms(greenhouses: int, series_of_each: int) -> float:
    """Give what it takes to gather the last conditions: the median of nine times."""
    survey = Survey(
        Limits(10.0, 5.0, 60 * _SECOND_US, flagged=False, gaps=True),
        window_us=300 * _SECOND_US,
        late_after_us=2 * 86_400 * _SECOND_US,
        now_us=_NOW_US,
    )
    types = {number: f"TYPE_{number}" for number in range(_TYPES)}
    houses = {uuid4(): Place("Tenant", f"{number:05}") for number in range(greenhouses)}
    survey.know(Directory({}, frozenset(houses), types, {1: "°C"}, frozenset()))
    for house in houses:
        for number in range(series_of_each):
            series = Series(house, house, uuid4(), number % _TYPES, 1, -50.0, 100.0)
            survey.rows([Row(series, _NOW_US, 20.0, None, "")], _NOW_US)
    spent = []
    for _ in range(9):
        started_s = time.process_time()
        survey.conditions(_NOW_US, houses.get)
        spent.append((time.process_time() - started_s) * 1e3)
    return sorted(spent)[4]


def _us_a_row(count: int, batch_rows: int, every_s: float) -> list[float]:
    """Give the cost a row of each batch: forty readings of each series, 20 batches at least."""
    greenhouses = [uuid4() for _ in range(count // _SERIES_OF_GREENHOUSE + 1)]
    series = [
        Series(greenhouses[number // _SERIES_OF_GREENHOUSE], greenhouses[0], uuid4(), 1, 1, -50.0, 100.0)
        for number in range(count)
    ]
    survey = Survey(
        Limits(10.0, 5.0, 60 * _SECOND_US, flagged=False, gaps=True),
        window_us=300 * _SECOND_US,
        late_after_us=2 * 86_400 * _SECOND_US,
        now_us=_NOW_US,
    )
    sensors = {each.sensor_id: _Sensor() for each in series}
    survey.know(Directory(sensors, frozenset(greenhouses), {1: "TEMPERATURE"}, {1: "°C"}, frozenset()))
    batches = max(20, 40 * count // batch_rows)
    interval_us = min(10 * _SECOND_US, 86_400 * _SECOND_US * count // (batches * batch_rows))
    noise = random.Random(1)  # noqa: S311 (a temperature, not a secret)
    spent = []
    sent = 0
    for batch in range(batches):
        rows = []
        for _ in range(batch_rows):
            time_us = _NOW_US - 86_400 * _SECOND_US + sent // count * interval_us
            rows.append(Row(series[sent % count], time_us, 20.0 + noise.random(), None, ""))
            sent += 1
        now_us = _NOW_US + int(batch * every_s * _SECOND_US)
        survey.hears(now_us, hears=True)
        started_s = time.process_time()
        survey.rows(rows, now_us)
        spent.append((time.process_time() - started_s) * 1e6 / batch_rows)
    return spent


if __name__ == "__main__":
    main()
