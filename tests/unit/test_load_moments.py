"""Times of historical readings: offsets, zones, epochs, and the hours that a clock has twice or never."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.decode.values import Fault
from ingest.errors import ConfigurationError
from ingest.load.moments import NAIVE, Times, zone_named

WIDE = (0, 4_102_444_800_000_000)
MADRID = ZoneInfo("Europe/Madrid")
NOON_US = 1_720_000_800_000_000
"""2024-07-03T10:00:00Z, noon in Madrid."""


@pytest.mark.parametrize(
    "cell",
    [
        "2024-07-03T10:00:00Z",
        "2024-07-03 10:00:00+00:00",
        "2024-07-03T12:00:00+02:00",
        "2024-07-03 12:00:00+0200",
        "20240703T120000+02",
        " 2024-07-03t10:00z ",
        1_720_000_800,
        1_720_000_800_000,
        NOON_US,
        "1720000800",
        "1720000800000",
        "1720000800.0",
        1_720_000_800.0,
    ],
)
def test_what_says_its_zone_needs_none(cell: object) -> None:
    assert Times(None, WIDE).read(cell) == NOON_US
    assert Times(MADRID, WIDE).read(cell) == NOON_US


@pytest.mark.parametrize(
    "cell", ["2024-07-03T12:00:00", "2024-07-03 12:00", "20240703T120000", "2024-07-03 12:00:00.0"]
)
def test_what_does_not_is_of_the_zone_given(cell: str) -> None:
    assert Times(MADRID, WIDE).read(cell) == NOON_US
    assert Times(UTC, WIDE).read(cell) == NOON_US + 7_200_000_000
    assert Times(None, WIDE).read(cell) == NAIVE


def test_an_hour_that_was_twice_or_never_is_no_time() -> None:
    madrid = Times(MADRID, WIDE)
    for cell, said in (
        ("2024-10-27 02:00:00", "was there twice in Europe/Madrid"),
        ("2024-10-27 02:59:59", "was there twice in Europe/Madrid"),
        ("2024-03-31 02:00:00", "was never there in Europe/Madrid"),
        ("2024-03-31 02:59:59", "was never there in Europe/Madrid"),
    ):
        fault = madrid.read(cell)
        assert isinstance(fault, Fault)
        assert said in fault
    for cell in ("2024-10-27 01:59:59", "2024-10-27 03:00:00", "2024-03-31 01:59:59", "2024-03-31 03:00:00"):
        assert isinstance(madrid.read(cell), int)
    assert madrid.read("2024-10-27 02:30:00+01:00") == 1_729_992_600_000_000


@pytest.mark.parametrize(
    "cell", ["yesterday", "", "2024-07-03", "2024-13-03T10:00:00", None, True, [], "03/07/2024 12:00"]
)
def test_what_is_no_time(cell: object) -> None:
    assert isinstance(Times(MADRID, WIDE).read(cell), Fault)


def test_the_range_is_told() -> None:
    fault = Times(MADRID, (NOON_US, NOON_US)).read("2024-07-03 12:00:01")
    assert isinstance(fault, str)
    assert "later than the accepted 2024-07-03T10:00:00Z" in fault


@given(st.datetimes(datetime(1980, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_a_local_time_means_what_the_zone_says_or_nothing(moment: datetime) -> None:
    local = moment.astimezone(MADRID)
    read = Times(MADRID, WIDE).read(local.replace(tzinfo=None).isoformat())
    at_us = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // (datetime.resolution)
    assert read == at_us or (isinstance(read, Fault) and "twice" in read)
    assert Times(MADRID, WIDE).read(local.isoformat()) == at_us


def test_zones_are_found_by_their_names() -> None:
    assert zone_named(None) is None
    assert zone_named("utc") is UTC
    assert zone_named("Europe/Madrid") == MADRID
    for name, said in (
        ("Madrid", "there is Europe/Madrid"),
        ("Mars/Olympus", "like Europe/Madrid"),
        ("../../etc/passwd", "is no time zone"),
        ("", "is no time zone"),
    ):
        with pytest.raises(ConfigurationError, match=said):
            zone_named(name)
