from __future__ import annotations

from typing import TYPE_CHECKING

from ingest.model import Row
from ingest.write.late import LATE_AFTER_US, late_hours
from tests.batches import NOW_US, WriterUnderTest, batch_of, series_of

if TYPE_CHECKING:
    import asyncpg

HOUR_US = 3_600_000_000
SERIES = series_of()


def at(age_us: int, value: float = 1.0) -> Row:
    return Row(SERIES, NOW_US - age_us, value, None, "")


def test_only_hours_older_than_the_limit_are_late() -> None:
    hours = late_hours([at(0), at(LATE_AFTER_US), at(LATE_AFTER_US + 1), at(LATE_AFTER_US + 2)], NOW_US)

    late_us = NOW_US - LATE_AFTER_US - 1
    assert hours == {
        (late_us - late_us % HOUR_US, SERIES.greenhouse_id, SERIES.sensor_type_id): 2,
    }


async def test_late_rows_are_noted_with_them_and_repeats_are_not(
    timeseries_dsn: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    week_us = 7 * 24 * HOUR_US
    async with WriterUnderTest(timeseries_dsn) as writer:
        await writer.commit(batch_of([at(0), at(week_us), at(week_us + HOUR_US)]))
        await writer.commit(batch_of([at(week_us), at(week_us + HOUR_US)]))  # a gateway sends it all again
        await writer.commit(batch_of([at(week_us + 1)]))

    notes = await connection.fetch("select * from iot.ingest_late_buckets order by bucket")
    assert [note["rows"] for note in notes] in ([1, 2], [1, 1, 1])
    assert {note["greenhouse_id"] for note in notes} == {SERIES.greenhouse_id}
    stored = await connection.fetchval("select count(*) from iot.sensor_readings")
    assert (stored, sum(note["rows"] for note in notes)) == (4, 3)
