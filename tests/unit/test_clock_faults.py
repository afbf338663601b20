"""Times at their boundaries: which unit an epoch number has, and what a time says that nobody believes."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from ingest.decode.values import parse_time
from ingest.model import ClockFault, Decoded, Rejection
from tests.batches import NOW_US
from tests.unit.examples import default_decoder

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US
YEAR_1971_US = 365 * DAY_US
ANY_TIME = (-(2**62), 2**62)
ACCEPTED = (NOW_US - 30 * DAY_US, NOW_US + 300 * SECOND_US)


@pytest.mark.parametrize(
    ("number", "unit_us"),
    [
        (10**11 - 1, SECOND_US),
        (-(10**11) + 1, SECOND_US),
        (10**11, 1_000),
        (-(10**11), 1_000),
        (10**14 - 1, 1_000),
        (10**14, 1),
        (10**17 - 1, 1),
    ],
)
def test_an_epoch_number_changes_its_unit_exactly_at_its_limits(number: int, unit_us: int) -> None:
    for value in (number, str(number), f" {number} "):
        assert parse_time(value, ANY_TIME) == number * unit_us
    if abs(number) < 10**12:  # a float has 53 bits, also for the µs that come of it
        assert parse_time(float(number), ANY_TIME) == number * unit_us


@pytest.mark.parametrize("number", [NOW_US // SECOND_US, NOW_US // 1_000, NOW_US])
def test_today_is_today_in_every_unit(number: int) -> None:
    assert parse_time(number, ACCEPTED) == NOW_US


@pytest.mark.parametrize(
    ("time_us", "kind"),
    [
        (ACCEPTED[0], None),
        (ACCEPTED[0] - 1, "ancient"),
        (ACCEPTED[1], None),
        (ACCEPTED[1] + 1, "future"),
        (4_294_967_295 * SECOND_US, "future"),  # 2106: -1 as an unsigned 32 bit number
        (0, "unset"),
        (-1, "ancient"),
        (YEAR_1971_US - 1, "unset"),
        (YEAR_1971_US, "ancient"),
        (946_684_800 * SECOND_US, "ancient"),  # 2000-01-01
    ],
)
def test_a_time_that_is_not_believed_says_of_which_kind_it_is(time_us: int, kind: str | None) -> None:
    stamp = f"{time_us / SECOND_US:.6f}"
    parsed = parse_time(stamp, ACCEPTED)
    if kind is None:
        assert parsed == time_us
        return
    assert isinstance(parsed, ClockFault)
    assert (parsed.kind, parsed.time_us) == (kind, time_us)
    words = {"future": "in the future", "ancient": "too old", "unset": "a clock begins that was never set"}
    assert [each for each, word in words.items() if word in parsed] == [kind]


def rejections_of(topic: str, payload: Any) -> list[Rejection]:  # noqa: ANN401 (any JSON)
    decoded = default_decoder().decode(topic, orjson.dumps(payload), NOW_US)
    assert isinstance(decoded, Decoded)
    return list(decoded.rejections)


@pytest.mark.parametrize(
    ("stamp", "kind"),
    [
        (0, "unset"),
        (3_600, "unset"),
        ("1970-01-01T00:05:00Z", "unset"),
        (NOW_US // SECOND_US - 31 * 86_400, "ancient"),
        ("2000-01-01T00:00:00Z", "ancient"),
        (NOW_US // SECOND_US + 301, "future"),
        ("2106-02-07T06:28:15Z", "future"),
        ("yesterday", None),
    ],
)
def test_every_format_quarantines_a_wrong_clock_and_keeps_what_is_wrong_with_it(
    stamp: object, kind: str | None
) -> None:
    sent = [
        ("greenhouse/G1/sensors/temperature", {"value": 1, "timestamp": stamp}),
        ("greenhouse/G1/readings", [{"value": 1, "sensor_type": "co2", "timestamp": stamp}]),
        ("greenhouse/G1/readings", {"timestamp": stamp, "readings": [{"value": 1, "sensor_type": "co2"}]}),
        ("GREENHOUSE/SARA", {"timestamp": stamp, "SENSOR_01": 1}),
    ]
    for topic, payload in sent:
        (rejection,) = rejections_of(topic, payload)
        assert rejection.reason == "bad_timestamp"
        assert getattr(rejection.detail, "kind", None) == kind
