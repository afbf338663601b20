"""Continuous aggregates and rollups on a real TimescaleDB: the numbers a plain GROUP BY gives."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import asyncpg
import pytest

from ingest.migrate import Database, migrate, schema_folder
from tests.integration.timeseries_rows import (
    GREENHOUSE,
    PLAIN,
    SENSORS,
    STORED,
    THERMOMETER,
    add,
    every,
    hold_jobs,
    midnight,
    run_all,
    run_jobs,
    same,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.timeseries_rows import Iot

ROLLUPS = (
    "sensor_readings_hourly",
    "sensor_readings_daily",
    "sensor_readings_monthly",
    "greenhouse_daily_summary",
    "sensor_performance_daily",
)
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


@pytest.fixture
async def iot(timescale_dsn: str) -> AsyncIterator[Iot]:
    await migrate(timescale_dsn, Database.TIMESERIES)
    # A zone with summer time, as a database in Spain has it: nothing may depend on it.
    connection = await asyncpg.connect(timescale_dsn, server_settings={"timezone": "Europe/Madrid"})
    await hold_jobs(connection)
    yield connection
    await connection.close()


async def fill(iot: Iot) -> datetime:
    """Insert five days of readings up to now, and two months of few before; return now."""
    now = datetime.now(UTC)
    for sensor in SENSORS:
        await add(iot, sensor, every(timedelta(hours=11), midnight(days_ago=70), midnight(days_ago=5)))
        await add(iot, sensor, every(10 * MINUTE, midnight(days_ago=5), now))
    # A legacy row without ids is in no aggregate.
    await iot.execute(
        "insert into iot.sensor_readings (time, greenhouse_id, sensor_type, value) "
        "values ($1, $2, 'CO2', 1e9)",
        now - DAY,
        GREENHOUSE,
    )
    return now


async def test_what_five_days_and_two_months_become(iot: Iot) -> None:
    now = await fill(iot)
    await run_all(iot)
    await aggregate_rollup_and_group_by_agree(iot, now)
    await conditions_are_those_of_the_greenhouse(iot, now)
    await a_second_run_changes_nothing(iot)
    await the_policies_have_materialised(iot)


async def aggregate_rollup_and_group_by_agree(iot: Iot, now: datetime) -> None:
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    last_month = (month - DAY).replace(day=1)
    for width, name, first in (
        ("hour", "hourly", midnight(days_ago=2)),
        ("day", "daily", midnight(days_ago=3)),
        ("month", "monthly", last_month),
    ):
        plain = await iot.fetch(PLAIN, width, first, now + DAY)
        assert len(plain) >= 10
        same(await iot.fetch(STORED.format(table=f"cagg_sensor_readings_{name}"), first, now + DAY), plain)
        same(await iot.fetch(STORED.format(table=f"sensor_readings_{name}"), first, now + DAY), plain)
    yesterday = await iot.fetchrow(
        "select * from iot.v_sensor_readings_daily where bucket = $1 and sensor_type = 'CO2'",
        midnight(days_ago=1),
    )
    assert yesterday is not None
    assert (yesterday["unit"], yesterday["count_readings"], yesterday["hours_with_data"]) == ("ppm", 288, 24)
    assert await iot.fetchval("""
        select count(*) from iot.v_sensor_readings_hourly as v
        join iot.v_sensor_readings_monthly as m using (greenhouse_id, sensor_type, unit)
    """) > 0  # fmt: skip


async def the_policies_have_materialised(iot: Iot) -> None:
    for view in await iot.fetch(
        "select view_name from timescaledb_information.continuous_aggregates where view_schema = 'iot'"
    ):
        name = view["view_name"]
        await iot.execute(f"alter materialized view iot.{name} set (timescaledb.materialized_only = true)")
        latest = await iot.fetchval(f"select max(bucket) from iot.{name}")
        age = datetime.now(UTC) - latest
        longest = {"daily": 2 * DAY, "monthly": timedelta(days=63)}.get(name.rpartition("_")[2], DAY)
        assert age < longest, name


async def a_second_run_changes_nothing(iot: Iot) -> None:
    async def versions() -> list[list[asyncpg.Record]]:
        return [
            await iot.fetch(f"select tableoid, ctid::text, xmin::text from iot.{table} order by 1, 2")
            for table in ROLLUPS
        ]

    before = await versions()
    assert all(len(rows) > 0 for rows in before)
    await run_all(iot)
    assert await versions() == before


async def conditions_are_those_of_the_greenhouse(iot: Iot, now: datetime) -> None:
    celsius = "case unit_id when 2 then (value - 32) / 1.8 else value end"
    plain = f"""
        select
            date_bin($1, time, 'epoch') as bucket, greenhouse_id, tenant_id,
            avg({celsius}) filter (where sensor_type_id = 1) as temperature_avg,
            min({celsius}) filter (where sensor_type_id = 1) as temperature_min,
            max({celsius}) filter (where sensor_type_id = 1) as temperature_max,
            avg(value) filter (where sensor_type_id = 2) as humidity_avg,
            max(value) filter (where sensor_type_id = 3) as light_max,
            min(value) filter (where sensor_type_id = 5) as co2_min
        from iot.sensor_readings
        where time >= $2 and tenant_id is not null
        group by 1, 2, 3 order by 1
    """
    stored = """
        select
            bucket, greenhouse_id, tenant_id, temperature_avg, temperature_min, temperature_max, humidity_avg,
            light_max, co2_min
        from iot.{} where bucket >= $1 order by 1
    """
    first = midnight(days_ago=2)
    same(
        await iot.fetch(stored.format("cagg_greenhouse_conditions_realtime"), first),
        await iot.fetch(plain, timedelta(minutes=15), first),
    )
    same(
        await iot.fetch(stored.format("greenhouse_daily_summary"), first), await iot.fetch(plain, DAY, first)
    )
    day = await iot.fetchrow(
        "select readings, sensors from iot.greenhouse_daily_summary where bucket = $1", midnight(days_ago=1)
    )
    assert day is not None
    assert tuple(day) == (6 * 144, 6)
    (latest,) = await iot.fetch("select * from iot.v_latest_greenhouse_conditions")
    assert now - latest["co2_bucket"] < timedelta(minutes=30)
    assert latest["bucket"] == latest["temperature_bucket"] == latest["light_bucket"]


async def test_a_reading_in_a_foreign_unit_is_no_condition(iot: Iot) -> None:
    strange = THERMOMETER._replace(unit_id=5)
    await add(iot, strange, [midnight(days_ago=1)])
    rows = await iot.fetch(
        "select temperature_avg, temperature_readings from iot.cagg_greenhouse_conditions_realtime"
    )
    assert [tuple(row) for row in rows] == [(None, 0)]


async def test_how_a_sensor_delivered(iot: Iot) -> None:
    """Registered at 60 s, heard from 0:00 to 12:00 but for an hour; another, unregistered, all day."""
    day = midnight(days_ago=2)
    registered, other = SENSORS[0], SENSORS[2]
    await iot.execute(
        "insert into iot.sensor_intervals values ($1, $2, 60)", registered.sensor_id, GREENHOUSE
    )
    heard = every(MINUTE, day, day + timedelta(hours=12))
    pause = (day + timedelta(hours=3), day + timedelta(hours=4))
    await add(iot, registered, [time for time in heard if not pause[0] < time < pause[1]])
    await add(iot, other, every(5 * MINUTE, day, day + DAY))
    await run_all(iot)
    query = """
        select readings, expected_readings, completeness_pct, expected_interval_s, observed_interval_s, gaps,
            longest_gap_s, last_reading_at
        from iot.sensor_performance_daily where sensor_id = $1 and bucket = $2
    """
    row = await iot.fetchrow(query, registered.sensor_id, day)
    assert row is not None
    last = day + timedelta(hours=11, minutes=59)
    assert tuple(row) == (661, 1440, Decimal("45.90"), 60.0, 60.0, 2, 43_260.0, last)
    row = await iot.fetchrow(query, other.sensor_id, day)
    assert row is not None
    assert tuple(row)[:7] == (288, 288, Decimal("100.00"), 300.0, 300.0, 0, 300.0)
    # Nothing the day after: it counts as a day without readings, not as no day.
    row = await iot.fetchrow(query, registered.sensor_id, day + DAY)
    assert row is not None
    assert tuple(row) == (0, 1440, Decimal("0.00"), 60.0, None, 1, 86_400.0, None)
    assert await iot.fetchrow(query, registered.sensor_id, day + 2 * DAY) is None
    hours = await iot.fetch(
        "select completeness_pct, minutes_with_data from iot.v_sensor_health_hourly "
        "where sensor_id = $1 order by bucket",
        registered.sensor_id,
    )
    assert [tuple(hour) for hour in hours] == [
        (Decimal("1.67"), 1) if number == 3 else (Decimal("100.00"), 60) for number in range(12)
    ]


async def test_a_changed_interval_is_applied_to_the_window(iot: Iot) -> None:
    day = midnight(days_ago=1)
    await add(iot, THERMOMETER, every(10 * MINUTE, day, day + DAY))
    await run_all(iot)
    query = "select expected_readings, gaps from iot.sensor_performance_daily where bucket = $1"
    assert tuple(await iot.fetchrow(query, day) or ()) == (144, 0)
    await iot.execute(
        "insert into iot.sensor_intervals values ($1, $2, 60)", THERMOMETER.sensor_id, GREENHOUSE
    )
    await run_jobs(iot, "fill_sensor_performance_daily")
    assert tuple(await iot.fetchrow(query, day) or ()) == (1440, 144)


async def test_who_needs_attention(iot: Iot) -> None:
    now = datetime.now(UTC)
    good, silent, sparse, absent = SENSORS[:4]
    for sensor in (good, silent, sparse, absent):
        await iot.execute(
            "insert into iot.sensor_intervals values ($1, $2, 600)", sensor.sensor_id, GREENHOUSE
        )
    start = now - timedelta(hours=26)
    await add(iot, good, every(10 * MINUTE, start, now))
    await add(iot, silent, every(10 * MINUTE, start, now - timedelta(hours=1)))
    await add(iot, sparse, [*every(20 * MINUTE, start, now - 20 * MINUTE), now - MINUTE])
    rows = await iot.fetch(
        "select sensor_id, reason, completeness_pct from iot.v_sensors_needing_attention order by sensor_id"
    )
    assert [(row["sensor_id"], row["reason"]) for row in rows] == [
        (silent.sensor_id, "SILENT"),
        (sparse.sensor_id, "INCOMPLETE"),
        (absent.sensor_id, "NO_DATA"),
    ]
    assert 45 < rows[1]["completeness_pct"] < 55


async def test_the_jobs_are_registered_once(iot: Iot) -> None:
    count = "select count(*) from timescaledb_information.jobs where job_id >= 1000"
    before = await iot.fetchval(count)
    assert before >= 16
    for version in ("13", "16"):
        (path,) = schema_folder(Database.TIMESERIES).glob(f"V{version}__*.sql")
        await iot.execute(path.read_text(encoding="utf-8"))
    assert await iot.fetchval(count) == before
    windows = await iot.fetch("""
        select a.view_name, j.schedule_interval, j.config ->> 'start_offset'
        from timescaledb_information.jobs as j
        join timescaledb_information.continuous_aggregates as a
            on j.hypertable_name in (a.view_name, a.materialization_hypertable_name)
        where a.view_schema = 'iot'
        order by 1
    """)
    assert [tuple(row) for row in windows] == [
        ("cagg_greenhouse_conditions_realtime", timedelta(minutes=5), "3 days"),
        ("cagg_sensor_health_hourly", timedelta(hours=1), "3 days"),
        ("cagg_sensor_readings_daily", timedelta(hours=6), "4 days"),
        ("cagg_sensor_readings_hourly", timedelta(minutes=30), "3 days"),
        ("cagg_sensor_readings_monthly", DAY, "3 mons"),
    ]


@pytest.mark.native
async def test_the_scheduler_runs_them(iot: Iot) -> None:
    """Nobody calls anything: the tables fill by themselves."""
    await fill(iot)
    await iot.execute("""
        select alter_job(job_id, scheduled => true, next_start => now())
        from timescaledb_information.jobs where proc_schema = 'iot'
    """)
    async with asyncio.timeout(100):
        for table in ROLLUPS:
            while not await iot.fetchval(f"select exists (select from iot.{table})"):  # noqa: ASYNC110 -- the event is the server's
                await asyncio.sleep(0.5)
