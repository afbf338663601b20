"""`ingest normalize` on a live database of the system before: taken up again, alone, beside the worker."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg
import pytest

from ingest.errors import CheckFailed
from ingest.migrate import Database, verify
from ingest.operate.normalize import normalize
from ingest.operate.normalize_legacy import drop_legacy_columns
from tests.integration.live_database import LACKING, ROWS, Live, build_migrated, connected, expected
from tests.live_v11 import GREENHOUSE, STRANGE_GREENHOUSE, TENANT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ingest.operate.progress import Progress


@pytest.fixture
async def live(timescale_dsn: str) -> AsyncIterator[Live]:
    """A migrated database of the system before."""
    async with connected(timescale_dsn, await build_migrated(timescale_dsn)) as opened:
        yield opened


async def test_an_alias_added_later_has_the_rest_mapped(live: Live) -> None:
    await normalize(live.settings)
    await live.connection.execute(f"""
        insert into metadata.sensor_type_aliases (alias, sensor_type_id) values ('VIBRATION', 11);
        insert into metadata.unit_aliases (alias, unit_id) values ('BANANAS', 3);
        insert into metadata.greenhouses (id, tenant_id, name, greenhouse_code)
        values ('{STRANGE_GREENHOUSE}', '{TENANT}', 'found again', '99');
        insert into metadata.sensors (id, greenhouse_id, tenant_id, sensor_code, sensor_type)
        values ('00000000-0000-4000-8000-0000000000aa', '{GREENHOUSE}', '{TENANT}', 'U', 'HUMIDITY');
        delete from iot.sensor_readings where sensor_type_id is null and sensor_type = 'temperatura';
    """)
    report = await normalize(live.settings)
    # Rows without a type name take the type of the sensor that is registered now.
    assert (report.mapped, report.found, report.clean) == (
        live.content.unmapped,
        live.content.unmapped,
        True,
    )
    assert await live.count(LACKING) == 0
    assert (await live.log())[-1][0] == "COMPLETED"


async def test_what_was_interrupted_is_taken_up_by_the_next_run(live: Live) -> None:
    stop = asyncio.Event()

    def after_a_while(progress: Progress) -> None:
        if progress.doing != "survey" and progress.done > ROWS // 3:
            stop.set()

    first = await normalize(live.settings, stop=stop, on_progress=after_a_while)
    assert first.interrupted
    assert 0 < first.mapped < live.content.plain
    assert first.pending > 0
    assert first.found == live.content.rows
    second = await normalize(live.settings)
    assert first.mapped + second.mapped == expected(live.content)["mapped"]
    assert first.merged + second.merged == live.content.identical
    assert (second.differing, second.unmapped) == (live.content.differing, live.content.unmapped)
    assert [entry[0] for entry in await live.log()] == ["CANCELLED", "PARTIAL"]

    await live.connection.execute(f"""
        set timescaledb.max_tuples_decompressed_per_dml_transaction = 0;
        delete from iot.sensor_readings
        where tenant_id is null or sensor_type_id is null or unit_id is null;
        insert into iot.sensor_readings (time, greenhouse_id, sensor_id, sensor_type, unit, value)
        values (now(), '{GREENHOUSE}', '00000000-0000-4000-8000-000000000001', 'temperatura', 'C', 1);
    """)
    late = asyncio.Event()

    def after_the_last(progress: Progress) -> None:
        if progress.doing != "survey" and progress.done:
            late.set()

    third = await normalize(live.settings, stop=late, on_progress=after_the_last)
    assert (late.is_set(), third.interrupted, third.mapped, third.found) == (True, False, 1, 1)
    assert (await normalize(live.settings, stop=late)).interrupted, "nothing was looked at"
    assert [entry[0] for entry in await live.log()][2:] == ["COMPLETED", "CANCELLED"]


async def test_one_run_at_a_time_and_one_that_was_killed_is_told_as_such(live: Live) -> None:
    await live.connection.execute("""
        insert into metadata.bulk_operation_log (operation_type, target_table)
        values ('NORMALIZE', 'iot.sensor_readings')
    """)
    other = await asyncpg.connect(live.dsn)
    try:
        assert await other.fetchval("select pg_try_advisory_lock(5147260403)")
        with pytest.raises(CheckFailed, match="another `ingest normalize` is at work"):
            await normalize(live.settings)
    finally:
        await other.close()
    await normalize(live.settings)
    assert [entry[0] for entry in await live.log()] == ["CANCELLED", "PARTIAL"]


async def test_rows_meet_those_that_the_worker_wrote(live: Live) -> None:
    await normalize(live.settings)
    await live.connection.execute(f"""
        insert into iot.sensor_readings
            (time, greenhouse_id, tenant_id, sensor_id, sensor_type_id, unit_id, value)
        select now() - n * interval '1 second', '{GREENHOUSE}', '{TENANT}',
            '00000000-0000-4000-8000-000000000001', 1, 1, n
        from generate_series(1, 4) as n;
        insert into iot.sensor_readings (time, greenhouse_id, sensor_id, sensor_type, unit, value, metadata)
        select time, greenhouse_id, sensor_id, ' Temperatura ', 'C', value + (value = 3)::int,
            case when value = 4 then '{{"a": 1}}'::jsonb end
        from iot.sensor_readings
        where time > now() - interval '10 seconds' and sensor_type_id = 1 and sensor_type is null;
    """)
    report = await normalize(live.settings)
    # Two are the same, one has another value, one says more than the worker's.
    assert (report.mapped, report.merged) == (0, 2)
    assert report.differing == live.content.differing + 2


async def test_the_legacy_columns_are_dropped_only_when_nobody_needs_them(live: Live) -> None:
    with pytest.raises(CheckFailed, match=r"materialized view iot\.sensor_readings_hourly_v11"):
        await drop_legacy_columns(live.settings)
    await live.connection.execute("drop materialized view iot.sensor_readings_hourly_v11")
    await live.connection.execute("drop materialized view iot.sensor_readings_daily_by_tenant_v11")
    await normalize(live.settings)
    remaining = live.content.unmapped + live.content.differing
    with pytest.raises(CheckFailed, match=f"{remaining} rows lack an id"):
        await drop_legacy_columns(live.settings)
    assert await live.count("select count(sensor_type) from iot.sensor_readings") > ROWS
    await live.connection.execute("""
        set timescaledb.max_tuples_decompressed_per_dml_transaction = 0;
        delete from iot.sensor_readings
        where tenant_id is null or sensor_type_id is null or unit_id is null;
    """)
    dropped = await drop_legacy_columns(live.settings)
    assert dropped.columns == 2
    assert await drop_legacy_columns(live.settings) == (0, 0)
    rows = live.content.rows - live.content.identical - remaining
    shown = await live.count("""
        select count(*)
        from iot.v_sensor_readings_denormalized
        where sensor_type is not null and unit is not null
    """)
    assert shown == rows
    insert = """
        insert into iot.sensor_readings
            (time, greenhouse_id, tenant_id, sensor_id, sensor_type_id, unit_id, value)
        values (now() - interval '9 days', $1::uuid, $2::uuid, $1::uuid, 1, $3, 1)
    """
    await live.connection.execute(insert, GREENHOUSE, TENANT, 1)
    with pytest.raises(asyncpg.NotNullViolationError):
        await live.connection.execute(insert, GREENHOUSE, TENANT, None)
    assert (await normalize(live.settings)).found == 0
    assert await verify(live.dsn, Database.TIMESERIES) == []
