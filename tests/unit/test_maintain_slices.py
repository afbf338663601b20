"""From where to where `ingest maintain` refreshes an aggregate: what retention has taken from is left."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ingest.operate.maintain_jobs import slices
from ingest.operate.status_facts import Aggregate

HOURLY, DAILY, MONTHLY = (f"cagg_sensor_readings_{each}" for each in ("hourly", "daily", "monthly"))


def day(month: int, day_of_month: int = 1, hour: int = 0) -> datetime:
    return datetime(2026, month, day_of_month, hour, tzinfo=UTC)


def sliced(
    name: str, watermark: datetime | None, wanted: datetime, oldest: datetime
) -> list[tuple[datetime, datetime]]:
    aggregate = Aggregate(name, watermark, wanted, 1, True, None, None, None, 0, 0)  # noqa: FBT003 (as read)
    return list(slices(aggregate, oldest))


def test_months_are_whole_and_weeks_follow_each_other() -> None:
    months = [(day(3), day(4)), (day(4), day(5))]
    assert sliced(MONTHLY, None, day(5), day(3, 14)) == months
    assert sliced(MONTHLY, day(4), day(5), day(1, 20)) == months
    weeks = [(day(3, 1), day(3, 8)), (day(3, 8), day(3, 10))]
    assert sliced(DAILY, day(3, 4), day(3, 10), day(1)) == weeks


def test_a_month_that_retention_took_from_stays_as_the_aggregate_has_it() -> None:
    # Materialised up to 1 May; of April the readings from the 14th on are left.
    assert sliced(MONTHLY, day(5), day(7), day(4, 14)) == [(day(5), day(6)), (day(6), day(7))]
    assert sliced(MONTHLY, day(5), day(5), day(4, 14)) == []


def test_what_it_does_not_have_yet_is_taken_from_what_is_left() -> None:
    # Up to 1 April, and of April nothing: half of it is more than none.
    assert sliced(MONTHLY, day(4), day(5), day(4, 14)) == [(day(4), day(5))]


@pytest.mark.parametrize(("name", "first"), [(HOURLY, day(3, 9, 12)), (DAILY, day(3, 10))])
def test_chunks_that_begin_within_a_day_leave_what_is_before_them(name: str, first: datetime) -> None:
    found = sliced(name, day(3, 11), day(3, 14), day(3, 9, 12))
    assert found == [(first, day(3, 14))]
