"""A spike is a value far off the one before it and the one after it, and nothing else is."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.model import Row
from tests.batches import NOW_US
from tests.unit.quality_stream import HUMIDITY, SENSOR, SETPOINT, Stream, series_of

if TYPE_CHECKING:
    from ingest.model import Series

THERMOMETER = series_of()


def count_in(*values: float) -> int:
    stream = Stream()
    stream.steady(THERMOMETER)
    stream.send(THERMOMETER, *values)
    return sum(issue.count for issue in stream.issues("SPIKE"))


@pytest.mark.parametrize(
    ("values", "count"),
    [
        ((85.0, 20.0), 1),  # the power-on value of a DS18B20
        ((0.0, 20.1), 1),
        ((85.0, 85.0, 20.0), 2),  # a gateway that asks twice as often as the sensor measures
        ((85.0, 90.0, 84.0, 20.0), 3),
        ((85.0, 20.0, 20.1, 0.0, 20.0), 2),
        ((40.0, 38.0, 24.0), 2),  # more than half the way back
        ((85.0, 85.0, 85.0, 85.0, 20.0), 0),  # a new level, and another
        ((85.0,), 0),  # nobody knows yet
        ((34.0, 20.0), 0),  # 14 °C are a step that can be
        ((25.0, 30.0, 35.0, 40.0, 45.0), 0),
    ],
)
def test_what_is_a_spike(values: tuple[float, ...], count: int) -> None:
    assert count_in(*values) == count


def test_an_issue_tells_the_first_and_the_worst() -> None:
    stream = Stream()
    stream.steady(THERMOMETER)
    stream.send(THERMOMETER, 60.0, 20.0, 20.1, 99.0, 20.0, 20.1, 50.0, 20.0)
    (issue,) = stream.issues("SPIKE")
    assert issue.count == 3
    assert issue.first is not None
    assert issue.worst is not None
    assert (issue.first["value"], issue.worst["value"]) == (60.0, 99.0)
    assert issue.worst["before"] == pytest.approx(20.1)
    assert issue.worst["after"] == 20.0
    assert (issue.first_us, issue.last_us) == (
        NOW_US + 40 * 10_000_000,
        NOW_US + 46 * 10_000_000,
    )
    assert issue.subject.sensor_id == THERMOMETER.sensor_id
    assert issue.data_source == "iot.sensor_readings"
    assert issue.facts["unit"] == "°C"
    assert "cable" in issue.description


def test_a_series_with_large_steps_of_its_own_is_judged_by_them() -> None:
    stream, gusts = Stream(), random.Random(4)  # noqa: S311 (a wind, not a secret)
    stream.send(THERMOMETER, *(gusts.uniform(0, 40) for _ in range(300)))
    assert stream.issues("SPIKE") == []


def test_one_spike_does_not_hide_the_next() -> None:
    stream = Stream()
    stream.steady(THERMOMETER)
    for _ in range(20):
        stream.send(THERMOMETER, 85.0, *[20.0, 20.1] * 5)
    assert sum(issue.count for issue in stream.issues("SPIKE")) == 20


@pytest.mark.parametrize(
    "series",
    [
        series_of(None, -math.inf, math.inf, SETPOINT),
        series_of(None, -math.inf, math.inf, SENSOR),
        series_of(None, 0.0, 100.0, SENSOR),  # an opening of 0..100 by a label rule
        series_of(None, 0.0, 1.0, HUMIDITY),  # a type of its own for a contact, on and off
        series_of(None, -math.inf, math.inf),  # nothing says what is much
    ],
)
def test_switches_set_values_and_types_without_limits_have_no_spikes(series: Series) -> None:
    stream = Stream()
    stream.send(series, *[0.0] * 40, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0)
    if series.maximum != 1.0:
        stream.send(series, 100.0, 0.0, 0.0, 50.0, 0.0)
    assert stream.issues("SPIKE") == []


def test_a_unit_of_its_own_is_a_series_of_its_own() -> None:
    stream = Stream()
    fahrenheit = series_of(THERMOMETER.sensor_id, -58.0, 212.0, unit_id=2)
    for _ in range(60):
        stream.send(THERMOMETER, 20.0)
        stream.send(fahrenheit, 68.0)
    assert stream.issues() == []


def test_nothing_is_unusual_before_enough_was_seen() -> None:
    stream = Stream()
    stream.send(THERMOMETER, *[20.0] * 10, 85.0, 20.0)
    assert stream.issues("SPIKE") == []


def test_many_rows_of_one_batch_are_judged_one_by_one() -> None:
    stream = Stream()
    stream.steady(THERMOMETER)
    values = [20.0] * 100 + [85.0] + [20.0] * 100
    stream.batch(
        *(
            Row(THERMOMETER, stream.now_us + number * 1_000_000, value, None, "")
            for number, value in enumerate(values)
        )
    )
    (issue,) = stream.issues("SPIKE")
    assert issue.count == 1


def test_a_repeated_or_older_reading_is_no_step() -> None:
    stream = Stream()
    stream.steady(THERMOMETER)
    stream.batch(
        Row(THERMOMETER, stream.now_us, 20.0, None, ""),
        Row(THERMOMETER, stream.now_us - 3_000_000, 85.0, None, ""),
        Row(THERMOMETER, stream.now_us + 1_000_000, 20.0, None, ""),
    )
    assert stream.issues("SPIKE") == []


@settings(max_examples=50, deadline=None)
@given(
    values=st.lists(st.floats(19.0, 21.0), min_size=1, max_size=60),
    level=st.floats(-30.0, 90.0),
)
def test_noise_below_the_floor_and_steps_that_stay_are_never_spikes(
    values: list[float], level: float
) -> None:
    stream = Stream()
    stream.steady(THERMOMETER)
    stream.send(THERMOMETER, *values)
    stream.send(THERMOMETER, *[level + value for value in values] * 4)
    assert stream.issues("SPIKE") == []
