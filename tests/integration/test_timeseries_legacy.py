"""V12 and later on a live database of V11, with its own aggregates in the way; and the way back."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest

from ingest.errors import MigrationError
from ingest.migrate import Database, describe, migrate, schema_folder, verify
from tests.integration.timeseries_rows import (
    GREENHOUSE,
    THERMOMETER,
    add,
    every,
    hold_jobs,
    midnight,
    run_all,
    run_jobs,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.timeseries_rows import Iot

TIMESERIES = Database.TIMESERIES
DAY = timedelta(days=1)
IN_THE_WAY = ("sensor_readings_hourly", "sensor_readings_daily_by_tenant")


@pytest.fixture
async def legacy(timescale_dsn: str) -> AsyncIterator[Iot]:
    """V11 as it lives: compressed chunks, two aggregates, one of them with a policy."""
    connection = await asyncpg.connect(timescale_dsn)
    (first,) = schema_folder(TIMESERIES).glob("V11__*.sql")
    await connection.execute(first.read_text(encoding="utf-8"))
    await connection.execute(
        """
        insert into iot.sensor_readings (time, greenhouse_id, sensor_id, sensor_type, unit, value)
        select t, $1, $2, 'TEMPERATURE', '°C', 20
        from generate_series(now() - interval '9 days', now(), interval '1 hour') as t
        """,
        GREENHOUSE,
        THERMOMETER.sensor_id,
    )
    await connection.execute("""
        alter table iot.sensor_readings set (
            timescaledb.enable_columnstore,
            timescaledb.segmentby = 'greenhouse_id, sensor_type'
        );
        select compress_chunk(c) from show_chunks('iot.sensor_readings', now() - interval '3 days') as c;
    """)
    for name, width in zip(IN_THE_WAY, ("1 hour", "1 day"), strict=True):
        await connection.execute(f"""
            create materialized view iot.{name} with (timescaledb.continuous) as
            select time_bucket('{width}', time) as bucket, greenhouse_id, sensor_type, avg(value) as average
            from iot.sensor_readings group by 1, 2, 3 with no data
        """)
        await connection.execute(f"call refresh_continuous_aggregate('iot.{name}', null, null)")
    await connection.execute("""
        select add_continuous_aggregate_policy('iot.sensor_readings_hourly',
            start_offset => interval '3 days', end_offset => interval '1 hour',
            schedule_interval => interval '1 hour')
    """)
    yield connection
    await connection.close()


async def test_aggregates_in_the_way_are_kept_under_another_name(legacy: Iot, timescale_dsn: str) -> None:
    rows = [await legacy.fetchval(f"select count(*) from iot.{name}") for name in IN_THE_WAY]
    assert all(rows)
    await migrate(timescale_dsn, TIMESERIES)
    await hold_jobs(legacy)
    assert [await legacy.fetchval(f"select count(*) from iot.{name}_v11") for name in IN_THE_WAY] == rows
    assert await legacy.fetchval("""
        select count(*) from timescaledb_information.jobs
        where proc_name = 'policy_refresh_continuous_aggregate'
    """) == 6  # fmt: skip
    # The old one goes on, and the new ones begin, on compressed chunks too.
    await legacy.execute("call refresh_continuous_aggregate('iot.sensor_readings_hourly_v11', null, null)")
    await add(legacy, THERMOMETER, every(DAY, midnight(days_ago=8), midnight()))
    await legacy.fetchval("select iot.note_late_buckets('-infinity', 'infinity')")
    await run_jobs(legacy, "recompute_late_buckets")
    assert await legacy.fetchval("select sum(count_readings) from iot.sensor_readings_hourly") == 8
    assert await migrate(timescale_dsn, TIMESERIES) == []


async def test_verify_accepts_what_a_live_database_has_besides(legacy: Iot, timescale_dsn: str) -> None:
    assert not legacy.is_closed()
    await migrate(timescale_dsn, TIMESERIES)
    assert await verify(timescale_dsn, TIMESERIES) == []


async def test_two_names_in_the_way_are_told(legacy: Iot, timescale_dsn: str) -> None:
    await legacy.execute("create table iot.sensor_readings_hourly_v11 (id int)")
    with pytest.raises(MigrationError, match="sensor_readings_hourly_v11, where it would be put"):
        await migrate(timescale_dsn, TIMESERIES)
    assert await legacy.fetchval("select to_regclass('iot.sensor_readings_hourly') is not null")


@pytest.mark.parametrize("kind", ["table", "view"])
async def test_whatever_is_in_the_way_is_renamed(timescale_dsn: str, kind: str) -> None:
    connection = await asyncpg.connect(timescale_dsn)
    try:
        await connection.execute("create schema iot")
        await connection.execute(f"create {kind} iot.sensor_readings_hourly as select 7 as kept")
        await migrate(timescale_dsn, TIMESERIES)
        assert await connection.fetchval("select kept from iot.sensor_readings_hourly_v11") == 7
        await hold_jobs(connection)
        await undo(connection, "17", "16", "15_2", "15_1", "15", "14", "13_1", "13", "12")
        assert await connection.fetchval("select kept from iot.sensor_readings_hourly") == 7
    finally:
        await connection.close()


async def test_undoing_gives_the_names_back(legacy: Iot, timescale_dsn: str) -> None:
    await migrate(timescale_dsn, TIMESERIES)
    await hold_jobs(legacy)
    before = [line for line in await describe(timescale_dsn, TIMESERIES) if "_v11" in line]
    assert before
    await undo(legacy, "17", "16", "15_2", "15_1", "15")
    await legacy.execute("select decompress_chunk(c, true) from show_chunks('iot.sensor_readings') as c")
    await undo(legacy, "14", "13_1", "13", "12")
    assert all([await legacy.fetchval(f"select count(*) > 0 from iot.{name}") for name in IN_THE_WAY])
    found = await describe(timescale_dsn, TIMESERIES)
    assert not [line for line in found if "_v11" in line]
    assert not [line for line in found if "cagg_" in line or "_monthly" in line]


@pytest.mark.parametrize(
    ("version", "reason"),
    [("13", "aggregates of readings that are gone"), ("12", "rollups of readings that are gone")],
)
async def test_what_could_not_be_computed_again_is_not_undone(
    timescale_dsn: str, version: str, reason: str
) -> None:
    await migrate(timescale_dsn, TIMESERIES)
    connection = await asyncpg.connect(timescale_dsn)
    try:
        await hold_jobs(connection)
        await add(connection, THERMOMETER, every(DAY, midnight(days_ago=3), midnight()))
        await run_all(connection)
        await connection.execute("select drop_chunks('iot.sensor_readings', now() + interval '1 day')")
        await undo(connection, "17", "16", "15_2", "15_1", "15", "14", "13_1")
        with pytest.raises(asyncpg.RaiseError, match=reason):
            await undo(connection, version)
    finally:
        await connection.close()


async def undo(connection: Iot, *versions: str) -> None:
    """Run the undo files of *versions*."""
    for version in versions:
        (path,) = schema_folder(TIMESERIES).glob(f"U{version}__*.sql")
        async with connection.transaction():
            await connection.execute(path.read_text(encoding="utf-8"))
