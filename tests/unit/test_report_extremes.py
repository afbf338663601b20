"""Values that any gateway may send, up to the last that a float holds: a page is drawn, and can be read."""

from __future__ import annotations

import math
import re

import pytest

from ingest.load import charts
from ingest.load.measured import Day, DayPart, Measured
from ingest.load.page import number
from ingest.load.report import render

LARGEST = 1.7976931348623157e308
AT_US = 1_764_147_600_000_000
PART_US = 600_000_000


@pytest.mark.parametrize(
    "parts",
    [
        [(-LARGEST, 0.0, LARGEST)] * 3,
        [(20.0, 21.0, LARGEST), (20.0, 21.0, 22.0)],
        [(1e306, 1.1e306, 1.2e306)] * 2,
        [(20.0, 21.0, math.nan), (20.0, 21.0, 22.0)],
        [(-math.inf, math.inf, math.inf)],
        [(5e-324, 5e-324, 5e-324)],
    ],
)
def test_a_day_of_any_values_is_drawn(parts: list[tuple[float, float, float]]) -> None:
    day = Day("SETPOINT", "value", [DayPart(AT_US + PART_US * at, *each) for at, each in enumerate(parts)])
    page = render(Measured(title="t", verdict="v", ok=None, days=(day,)))
    drawn = re.findall(r'(?:points|d)="([^"]*)"', page.partition("<svg")[2])
    assert drawn
    assert not [each for each in drawn if "nan" in each or "inf" in each]
    assert max(map(len, re.findall(r">([^<]*)<", page.partition("<svg")[2]))) < 100


@pytest.mark.parametrize("ends", [(0.0, LARGEST), (-LARGEST, LARGEST), (LARGEST, LARGEST), (-1e300, 1e-300)])
@pytest.mark.parametrize("from_zero", [True, False])
def test_an_axis_of_any_values_has_ticks(ends: tuple[float, float], *, from_zero: bool) -> None:
    axis = charts.linear(ends, "", from_zero=from_zero)
    assert -math.inf < axis.low < axis.high < math.inf
    assert 2 <= len(axis.ticks) <= 14
    assert all(len(said) <= 9 for _, said in axis.ticks)


def test_any_number_is_told_in_a_few_letters() -> None:
    told = [
        number(each) for each in (1e308, -1e308, math.nan, math.inf, 123_456_789.0, 999_999_999_999_999.0)
    ]
    assert told == ["1e+308", "-1e+308", "nan", "inf", "123,456,789", "999,999,999,999,999"]
