"""A live V11 database migrated and normalised while an old writer goes on, on a native TimescaleDB.

300 000 rows, or INGEST_TEST_LIVE_ROWS. Prints what it measured: run with -s to see it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

import asyncpg
import pytest
from pydantic import SecretStr

from ingest.errors import MigrationError, Unavailable
from ingest.migrate import Database, migrate, verify
from ingest.operate.normalize import normalize
from ingest.settings import Settings
from tests.live_v11 import build, old_writer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = [pytest.mark.native, pytest.mark.timeout(3_600)]

ROWS = int(os.environ.get("INGEST_TEST_LIVE_ROWS", "300000"))
LONGEST_WAIT_S = 0.2
INVALID = "select count(*) from pg_index where not indisvalid"
LACKING = """
    select count(*)
    from iot.sensor_readings
    where tenant_id is null or sensor_type_id is null or unit_id is null
"""


@pytest.fixture
async def beside(timescale_dsn: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A session of somebody else's on the same database."""
    connection = await asyncpg.connect(timescale_dsn)
    yield connection
    await connection.close()


async def migrate_both(dsn: str) -> None:
    for database in Database:
        await migrate(dsn, database)


async def until(connection: asyncpg.Connection[asyncpg.Record], sql: str) -> None:
    async with asyncio.timeout(60):
        while not await connection.fetchval(sql):  # noqa: ASYNC110 -- the event is another process's
            await asyncio.sleep(0.01)


async def test_a_writer_waits_less_than_200_ms_for_the_migrations(
    timescale_dsn: str, beside: asyncpg.Connection[asyncpg.Record]
) -> None:
    content = await build(timescale_dsn, rows=ROWS)
    async with old_writer(timescale_dsn) as waits:
        await asyncio.sleep(1)
        alone_s, waits.statements_s = waits.longest_s, [0.0]
        began = time.monotonic()
        await migrate_both(timescale_dsn)
        took_s = time.monotonic() - began
        await asyncio.sleep(0.5)
    sys.stdout.write(
        f"\n{content.rows} rows migrated in {took_s:.1f} s; longest INSERT meanwhile "
        f"{waits.longest_s * 1000:.0f} ms (alone {alone_s * 1000:.0f} ms), longest wait for a lock "
        f"{waits.longest_lock_wait_s * 1000:.0f} ms\n"
    )
    assert waits.longest_lock_wait_s < LONGEST_WAIT_S
    for database in Database:
        assert await verify(timescale_dsn, database) == []
    assert await beside.fetchval(INVALID) == 0
    assert await beside.fetchval("select count(*) from iot.sensor_readings") == content.rows + waits.rows


async def test_a_writer_goes_on_while_a_report_holds_the_table(
    timescale_dsn: str, beside: asyncpg.Connection[asyncpg.Record]
) -> None:
    await build(timescale_dsn, rows=6_000)
    async with old_writer(timescale_dsn) as waits:
        report = beside.transaction()
        await report.start()
        await beside.fetchval("select count(*) from iot.sensor_readings")
        migration = asyncio.create_task(migrate_both(timescale_dsn))
        await asyncio.sleep(3)
        assert not migration.done()
        await report.rollback()
        await migration
    assert waits.longest_lock_wait_s < LONGEST_WAIT_S
    assert await verify(timescale_dsn, Database.TIMESERIES) == []


async def test_who_holds_the_table_for_too_long_is_named(
    timescale_dsn: str, beside: asyncpg.Connection[asyncpg.Record]
) -> None:
    await build(timescale_dsn, rows=6_000)
    await beside.execute("set application_name = 'the long report'")
    async with beside.transaction():
        await beside.fetchval("select count(*) from iot.sensor_readings")
        await asyncio.sleep(1)
        with pytest.raises(MigrationError, match=r"V11\w*\.sql, line .* Tried for 2 s.*the long report"):
            await migrate(timescale_dsn, Database.TIMESERIES, lock_patience_s=2)


async def test_an_index_build_cut_off_is_done_again(
    timescale_dsn: str, beside: asyncpg.Connection[asyncpg.Record]
) -> None:
    await build(timescale_dsn, rows=300_000)
    old = await asyncpg.connect(timescale_dsn)
    try:
        migration = asyncio.create_task(migrate(timescale_dsn, Database.TIMESERIES))
        await until(beside, "select to_regclass('iot.cagg_sensor_health_hourly') is not null")
        # A snapshot from before: the build waits for it, its index there and not valid yet.
        snapshot = old.transaction(isolation="repeatable_read")
        await snapshot.start()
        await old.fetchval("select count(*) from iot.units")
        await until(beside, INVALID)
        await beside.execute("""
            select pg_terminate_backend(pid)
            from pg_stat_activity
            where datname = current_database() and application_name = 'greenhouse-ingest schema'
        """)
        with pytest.raises(Unavailable, match="run again"):
            await migration
        assert await beside.fetchval(INVALID) > 0
        await snapshot.rollback()
    finally:
        await old.close()
    applied = await migrate(timescale_dsn, Database.TIMESERIES)
    assert applied[0].version == "14"
    assert await beside.fetchval(INVALID) == 0
    assert await verify(timescale_dsn, Database.TIMESERIES) == []


async def test_readings_are_normalised_while_a_writer_goes_on(
    timescale_dsn: str, beside: asyncpg.Connection[asyncpg.Record]
) -> None:
    content = await build(timescale_dsn, rows=ROWS)
    await migrate_both(timescale_dsn)
    settings = Settings(metadata_dsn=SecretStr(timescale_dsn), timeseries_dsn=SecretStr(timescale_dsn))
    async with old_writer(timescale_dsn) as waits:
        await asyncio.sleep(1)
        waits.statements_s = [0.0]
        report = await normalize(settings)
    sys.stdout.write(
        f"\n{report.mapped} rows mapped in {report.seconds:.1f} s, {report.rows_per_second:.0f} rows/s; "
        f"longest INSERT meanwhile {waits.longest_s * 1000:.0f} ms, longest wait for a lock "
        f"{waits.longest_lock_wait_s * 1000:.0f} ms\n"
    )
    assert waits.longest_lock_wait_s < LONGEST_WAIT_S
    assert (report.merged, report.differing, report.unmapped, report.pending) == (
        content.identical,
        content.differing,
        content.unmapped,
        0,
    )
    assert (await normalize(settings)).differing == content.differing
    assert await beside.fetchval(LACKING) == content.unmapped + content.differing
    rows = content.rows + waits.rows - content.identical
    assert await beside.fetchval("select count(*) from iot.sensor_readings") == rows


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
async def test_a_run_stopped_anywhere_is_taken_up_again(
    timescale_dsn: str,
    beside: asyncpg.Connection[asyncpg.Record],
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    content = await build(timescale_dsn, rows=60_000)
    await migrate_both(timescale_dsn)
    arguments = ("normalize", "--json")
    process = await start(timescale_dsn, tmp_path, *arguments, "--rate", "10000")
    await until(beside, "select count(*) > 12000 from iot.sensor_readings where sensor_type_id is not null")
    process.send_signal(number)
    output, errors = await process.communicate()
    if number is signal.SIGINT:
        assert process.returncode == 130, errors
        assert b"run `ingest normalize` again to go on" in errors
        first = json.loads(output)
        assert first["interrupted"]
        assert first["pending"] > 0
        assert first["found"] == content.rows
    else:
        assert process.returncode == -signal.SIGKILL
    # The server ends the statement of a client that was killed when it is done with it.
    await until(beside, "select count(*) = 0 from pg_locks where locktype = 'advisory' and objid = 852293107")
    done = await start(timescale_dsn, tmp_path, *arguments)
    output, errors = await done.communicate()
    assert done.returncode == 1, errors
    second = json.loads(output)
    assert (second["differing"], second["unmapped"]) == (content.differing, content.unmapped)
    assert await beside.fetchval(LACKING) == content.unmapped + content.differing
    rows = content.rows - content.identical
    assert await beside.fetchval("select count(*) from iot.sensor_readings") == rows
    log = await beside.fetch("select status from metadata.bulk_operation_log order by id")
    assert [row[0] for row in log] == ["CANCELLED", "PARTIAL"]


async def start(dsn: str, directory: Path, *arguments: str) -> asyncio.subprocess.Process:
    environment = {name: text for name, text in os.environ.items() if not name.startswith("INGEST_")}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "ingest",
        *arguments,
        cwd=directory,
        env={
            **environment,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "INGEST_METADATA_DSN": dsn,
            "INGEST_TIMESERIES_DSN": dsn,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
