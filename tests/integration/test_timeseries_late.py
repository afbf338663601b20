"""What arrives after aggregates and rollups have passed its hour, and is computed again."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest

from ingest.migrate import Database, migrate
from tests.integration.timeseries_rows import (
    GREENHOUSE,
    SENSORS,
    THERMOMETER,
    add,
    agree,
    every,
    hold_jobs,
    midnight,
    run_all,
    run_jobs,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.timeseries_rows import Iot

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
NOTE = """
    insert into iot.ingest_late_buckets as stored (bucket, greenhouse_id, sensor_type_id, rows)
    values ($1, $2, $3, 1)
    on conflict (bucket, greenhouse_id, sensor_type_id) do update
        set rows = stored.rows + 1, noted_at = now()
"""


@pytest.fixture
async def iot(timescale_dsn: str) -> AsyncIterator[Iot]:
    await migrate(timescale_dsn, Database.TIMESERIES)
    connection = await asyncpg.connect(timescale_dsn, server_settings={"timezone": "Europe/Madrid"})
    await hold_jobs(connection)
    yield connection
    await connection.close()


async def compress(iot: Iot) -> None:
    """Compress every chunk of readings and rollups."""
    for table in await iot.fetch("""
        select hypertable_name from timescaledb_information.hypertables where hypertable_schema = 'iot'
    """):
        await iot.execute(f"select compress_chunk(c, true) from show_chunks('iot.{table[0]}') as c")


@pytest.mark.parametrize("settled", ["compressed", "open"])
async def test_a_late_reading_appears_everywhere(iot: Iot, settled: str) -> None:
    day = midnight(days_ago=3)
    for sensor in (THERMOMETER, SENSORS[2], SENSORS[3]):
        await add(iot, sensor, every(timedelta(minutes=10), day - 6 * HOUR, day + DAY))
    await iot.fetchval("select iot.note_late_buckets($1, $2)", day - DAY, day + DAY)
    await run_jobs(iot, "recompute_late_buckets")
    await run_all(iot)
    if settled == "compressed":
        await compress(iot)
    late = day + 9 * HOUR + timedelta(minutes=5)
    await add(iot, THERMOMETER, [late])
    await iot.execute(NOTE, late.replace(minute=0), GREENHOUSE, THERMOMETER.sensor_type_id)
    count = "select count_readings from iot.{} where bucket = $1 and unit_id = 1"
    for table in ("cagg_sensor_readings_hourly", "sensor_readings_hourly"):
        assert await iot.fetchval(count.format(table), late.replace(minute=0)) == 6
    assert await run_jobs(iot, "recompute_late_buckets") == 1
    assert await iot.fetchval("select count(*) from iot.ingest_late_buckets") == 0
    for table in ("cagg_sensor_readings_hourly", "sensor_readings_hourly"):
        assert await iot.fetchval(count.format(table), late.replace(minute=0)) == 7
    await agree(iot, day, day + DAY)


async def test_a_day_with_summer_time_long_ago(iot: Iot) -> None:
    """The last Sunday of March has 23 hours in Madrid, and 24 in every table."""
    year = datetime.now(UTC).year - 1
    end = datetime(year, 4, 1, tzinfo=UTC)
    sunday = end - timedelta(days=end.weekday() + 1)
    await add(iot, THERMOMETER, every(timedelta(minutes=15), sunday - DAY, sunday + 2 * DAY))
    await run_all(iot)  # materialises the last days, and so hides what was before
    assert await iot.fetchval("select iot.note_late_buckets($1, $2)", sunday - DAY, sunday + 2 * DAY) == 72
    await run_jobs(iot, "recompute_late_buckets")
    await agree(iot, sunday - DAY, sunday + 2 * DAY)
    rows = await iot.fetch(
        "select bucket, readings, completeness_pct from iot.sensor_performance_daily "
        "where readings > 0 order by bucket"
    )
    assert [(row["bucket"], row["readings"], int(row["completeness_pct"])) for row in rows] == [
        (sunday + n * DAY, 96, 100) for n in (-1, 0, 1)
    ]


async def test_a_run_without_notes_changes_nothing(iot: Iot) -> None:
    await add(iot, THERMOMETER, every(HOUR, midnight(days_ago=2), midnight()))
    await run_all(iot)
    query = "select tableoid, ctid::text, xmin::text from iot.sensor_readings_daily order by 1, 2"
    before = await iot.fetch(query)
    await run_jobs(iot, "recompute_late_buckets")
    assert await iot.fetch(query) == before


async def test_a_run_takes_so_many_days_and_the_next_goes_on(iot: Iot) -> None:
    days = [midnight(days_ago=number) for number in (9, 7, 5)]
    for day in days:
        await add(iot, THERMOMETER, [day + HOUR])
        await iot.execute(NOTE, day + HOUR, GREENHOUSE, THERMOMETER.sensor_type_id)
    await iot.execute("""
        select alter_job(job_id, config => config || '{"max_days": 2}')
        from timescaledb_information.jobs where proc_name = 'recompute_late_buckets'
    """)
    await run_jobs(iot, "recompute_late_buckets")
    assert [row[0] for row in await iot.fetch("select bucket from iot.ingest_late_buckets")] == [
        days[2] + HOUR
    ]
    await run_jobs(iot, "recompute_late_buckets")
    assert await iot.fetchval("select count(*) from iot.ingest_late_buckets") == 0
    assert await iot.fetchval("select count(*) from iot.sensor_readings_daily") == 3


async def test_a_note_of_the_present_hour_hides_nothing(iot: Iot) -> None:
    now = datetime.now(UTC)
    await add(iot, THERMOMETER, [now - timedelta(seconds=1)])
    await iot.execute(NOTE, now.replace(minute=0, second=0, microsecond=0), GREENHOUSE, 1)
    await run_jobs(iot, "recompute_late_buckets")
    await add(iot, THERMOMETER, [now - timedelta(seconds=2)])
    for name in ("hourly", "daily", "monthly"):
        query = f"select sum(count_readings) from iot.cagg_sensor_readings_{name}"
        assert await iot.fetchval(query) == 2


@pytest.mark.native
async def test_a_note_raised_during_a_run_stays(iot: Iot, timescale_dsn: str) -> None:
    late = midnight(days_ago=6) + HOUR
    await add(iot, THERMOMETER, [late])
    await iot.execute(NOTE, late, GREENHOUSE, 1)
    blocker = await asyncpg.connect(timescale_dsn)
    try:
        async with blocker.transaction():
            await blocker.execute("lock table iot.sensor_readings_monthly in access exclusive mode")
            job = asyncio.create_task(run_jobs(iot, "recompute_late_buckets"))
            await waits_for_lock(blocker)
            other = await asyncpg.connect(timescale_dsn)
            await add(other, THERMOMETER, [late + timedelta(minutes=1)])
            await other.execute(NOTE, late, GREENHOUSE, 1)
            await other.close()
        await job
    finally:
        await blocker.close()
    assert await iot.fetchval("select rows from iot.ingest_late_buckets") == 2
    await run_jobs(iot, "recompute_late_buckets")
    assert await iot.fetchval("select count(*) from iot.ingest_late_buckets") == 0
    assert await iot.fetchval("select sum(count_readings) from iot.sensor_readings_daily") == 2


async def waits_for_lock(connection: Iot) -> None:
    """Return once another session of this database waits for a lock."""
    waiting = """
        select count(*) from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock' and pid <> pg_backend_pid()
            and query ilike 'call %'
    """
    async with asyncio.timeout(30):
        while not await connection.fetchval(waiting):  # noqa: ASYNC110 -- the event is another session's
            await asyncio.sleep(0.05)
