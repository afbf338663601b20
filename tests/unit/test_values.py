"""Numbers and times as gateways write them."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.decode.values import QUOTED_CHARS, Fault, parse_time, parse_value, quoted
from ingest.model import ClockFault
from ingest.storable import storable
from tests.fuzzing import examples

ANY_TIME = (-(10**30), 10**30)
MOMENT_US = 1_763_374_500_123_456
"""2025-11-17T10:15:00.123456Z"""
SECOND_US = 1_763_374_500_000_000


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (24.3, 24.3),
        (0, 0.0),
        (-7, -7.0),
        (2**63, 2.0**63),
        (True, 1.0),
        (False, 0.0),
        ("2.31", 2.31),
        ("2,31", 2.31),
        (" 24.5 ", 24.5),
        ("\t-3\n", -3.0),
        ("+4", 4.0),
        ("1e3", 1000.0),
        ("1,5E-2", 0.015),
        (".5", 0.5),
        ("5.", 5.0),
        ("ON", 1.0),
        ("off", 0.0),
        ("True", 1.0),
        (" FALSE ", 0.0),
    ],
)
def test_numbers(value: object, number: float) -> None:
    parsed = parse_value(value)
    assert type(parsed) is float
    assert parsed == number


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "1,234.5",
        "1.234,5",
        "1,2,3",
        "1.2.3",
        "nan",
        "NaN",
        "inf",
        "-Infinity",
        "0x10",
        "1_000",
        "1 000",
        "24.5 °C",
        "٢٤",
        ".",
        ",",
        "e5",
        "1e",
        "1e999",
        "9" * 5000,
        "yes",
        "error",
        "null",
        "\0",
        "\ud800",
        math.nan,
        math.inf,
        -math.inf,
        [],
        [1],
        {},
        {"value": 1},
    ],
)
def test_what_is_no_number(value: object) -> None:
    fault = parse_value(value)
    assert isinstance(fault, Fault)
    assert fault.isprintable()
    assert len(fault) < QUOTED_CHARS + 60


def test_null_is_neither() -> None:
    assert parse_value(None) is None


@pytest.mark.parametrize(
    ("value", "time_us"),
    [
        ("2025-11-17T10:15:00Z", SECOND_US),
        ("2025-11-17T10:15:00z", SECOND_US),
        ("2025-11-17t10:15:00Z", SECOND_US),
        ("2025-11-17T10:15:00", SECOND_US),
        ("2025-11-17 10:15:00", SECOND_US),
        ("2025-11-17 10:15", SECOND_US),
        (" 2025-11-17T10:15:00Z ", SECOND_US),
        ("2025-11-17T10:15:00+00:00", SECOND_US),
        ("2025-11-17T11:15:00+01:00", SECOND_US),
        ("2025-11-17T11:15:00+0100", SECOND_US),
        ("2025-11-17T04:45:00-05:30", SECOND_US),
        ("20251117T101500Z", SECOND_US),
        ("2025-11-17T10:15:00.1Z", SECOND_US + 100_000),
        ("2025-11-17T10:15:00,123Z", SECOND_US + 123_000),
        ("2025-11-17T10:15:00.123456Z", MOMENT_US),
        ("2025-11-17T10:15:00.123456999Z", MOMENT_US),
        (1_763_374_500, SECOND_US),
        (1_763_374_500_123, SECOND_US + 123_000),
        (MOMENT_US, MOMENT_US),
        (1_763_374_500.123456, MOMENT_US),
        (1_763_374_500_123.456, MOMENT_US),
        (1.7633745e9, SECOND_US),
        ("1763374500", SECOND_US),
        (" 1763374500 ", SECOND_US),
        ("1763374500123", SECOND_US + 123_000),
        ("1763374500123456", MOMENT_US),
        ("1763374500.5", SECOND_US + 500_000),
        ("1.7633745E9", SECOND_US),
        ("1712122512345", 1_712_122_512_345_000),  # fromisoformat alone takes it for the year 1712
        (0, 0),
        (-1, -1_000_000),
        (10**11 - 1, (10**11 - 1) * 1_000_000),  # seconds up to the year 5138
        (10**11, 10**14),  # milliseconds from 1973-03-03
        (10**14, 10**14),  # µs from 1973-03-03
        ("9999-12-31T23:59:59.999999Z", 253_402_300_799_999_999),
        ("0001-01-01T00:00:00+14:00", -62_135_596_800_000_000 - 14 * 3_600_000_000),
    ],
)
def test_times(value: object, time_us: int) -> None:
    parsed = parse_time(value, ANY_TIME)
    assert type(parsed) is int
    assert parsed == time_us


@pytest.mark.parametrize(
    "value",
    [
        "",
        "now",
        "2025-11-17",
        "10:15:00",
        "17/11/2025 10:15:00",
        "2025-11-17x10:15:00Z",
        "2025-13-17T10:15:00Z",
        "2025-02-29T10:15:00Z",
        "2025-11-17T24:15:00Z",
        "2025-11-17T10:15:60Z",
        "2025-11-17T10:15:00+25:00",
        "2025-11-17T10:15:00 Europe/Madrid",
        "1763374500s",
        "1,7633745",
        "0x6919",
        "9" * 5000,
        "1e400",
        "\ud800",
        "2025-11-17T\ud800",
        1_763_374_500_123_456_789,  # nanoseconds
        10**17,
        2.0**90,
        math.nan,
        math.inf,
        True,
        False,
        [],
        {},
    ],
)
def test_what_is_no_time(value: object) -> None:
    fault = parse_time(value, ANY_TIME)
    assert isinstance(fault, Fault)
    assert "is no ISO 8601 date and time and no epoch number" in fault
    assert fault.isprintable()


def test_a_time_outside_the_range_says_what_it_means() -> None:
    fault = parse_time(4_294_967_295, (0, SECOND_US))
    assert fault == (
        "timestamp 4294967295 means 2106-02-07T06:28:15Z, in the future: later than the accepted "
        "2025-11-17T10:15:00Z; check the gateway's clock"
    )
    early = parse_time(-(10**10), (0, SECOND_US))
    assert isinstance(early, ClockFault)
    assert "too old: earlier than the accepted 1970-01-01T00:00:00Z" in early
    assert "µs since 1970" in str(parse_time(-(10**11) + 1, (0, SECOND_US)))


@settings(max_examples=examples(40), deadline=None)
@given(
    st.datetimes(datetime(1974, 1, 1), datetime(5000, 1, 1)),  # noqa: DTZ001 - hypothesis adds the zone
    st.integers(-23 * 60, 23 * 60),
)
def test_every_iso_time_comes_back_to_the_microsecond(moment: datetime, offset_min: int) -> None:
    aware = moment.replace(tzinfo=timezone(timedelta(minutes=offset_min)))
    expected = (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert parse_time(aware.isoformat(), ANY_TIME) == expected
    assert parse_time(expected, ANY_TIME) == expected
    assert parse_time(str(expected), ANY_TIME) == expected


@settings(max_examples=examples(40), deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_survives_as_text(number: float) -> None:
    assert parse_value(repr(number)) == number
    assert parse_value(repr(number).replace(".", ",")) == number


@settings(max_examples=examples(60), deadline=None)
@given(st.text(st.characters(), max_size=30) | st.text("0123456789-+.,:TZeE ", max_size=30) | st.floats())
def test_nothing_raises(value: object) -> None:
    for parsed in (parse_value(value), parse_time(value, (0, SECOND_US))):
        if isinstance(parsed, str):
            assert "\0" not in parsed
            parsed.encode()


def test_quoting() -> None:
    assert quoted("furlong") == "'furlong'"
    assert [quoted(value) for value in (1, 1.5, True, False, None)] == ["1", "1.5", "true", "false", "null"]
    assert quoted("\x1b\0\ud800") == r"'\x1b\x00\ud800'"
    assert len(quoted("a" * 5000)) == QUOTED_CHARS
    assert quoted("a" * 5000).endswith("a…")
    assert storable("a\0b\ud800") == "a\ufffdb\ufffd"
