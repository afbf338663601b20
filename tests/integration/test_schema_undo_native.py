"""docs/rollback.md on a native TimescaleDB: what is put aside before an undo, and a whole dump restored."""

from __future__ import annotations

import os
import subprocess
import uuid
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from ingest.commands.undoing import backup_commands
from ingest.migrate import Database, describe, migrate, verify
from ingest.settings import Settings
from ingest.undo import plan_undo, undo

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.native
TIMESERIES = Database.TIMESERIES
READINGS = """
    insert into iot.sensor_readings
        (time, greenhouse_id, tenant_id, sensor_id, sensor_type_id, unit_id, value)
    select now() - n * interval '1 hour', '11111111-1111-4111-8111-111111111111',
        '33333333-3333-4333-8333-333333333333', '22222222-2222-4222-8222-222222222222', 1, 1, n
    from generate_series(0, 199) as n
"""
SUMS = """
    select count(*), sum(value), (select count(*) from iot.sensor_readings_daily),
        (select sum(count_readings) from iot.cagg_sensor_readings_hourly)
    from iot.sensor_readings
"""


@pytest.fixture
async def empty_dsn(timescale_server: str) -> AsyncIterator[str]:
    """A database to restore into."""
    name = f"ingest_test_{uuid.uuid4().hex[:12]}"
    connection = await asyncpg.connect(timescale_server)
    await connection.execute(f"create database {name}")
    yield urlunsplit(urlsplit(timescale_server)._replace(path=f"/{name}"))
    await connection.execute(f"drop database {name} with (force)")
    await connection.close()


async def fetch(dsn: str, query: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetch(query)
    finally:
        await connection.close()


async def fill(dsn: str) -> None:
    await fetch(dsn, READINGS)
    await fetch(dsn, "select compress_chunk(min(c)) from show_chunks('iot.sensor_readings') as c")
    for job in await fetch(dsn, "select job_id from timescaledb_information.jobs where proc_schema = 'iot'"):
        await fetch(dsn, f"call run_job({job['job_id']})")


async def shell(directory: Path, dsn: str, command: str) -> None:
    """Run *command* with the client programs of the server's own release."""
    ((number,),) = await fetch(dsn, "show server_version_num")
    programs = Path(f"/usr/lib/postgresql/{int(number) // 10_000}/bin")
    assert (programs / "pg_dump").exists(), f"install postgresql-client-{int(number) // 10_000}"
    done = subprocess.run(  # noqa: ASYNC221 (nothing else runs meanwhile)
        ["sh", "-euc", command],
        cwd=directory,
        env={"PATH": f"{programs}:{os.environ['PATH']}", "INGEST_TIMESERIES_DSN": dsn},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


async def test_what_undo_names_is_put_aside_and_comes_back(migrated_dsn: str, tmp_path: Path) -> None:
    await fill(migrated_dsn)
    rollups = "select * from iot.sensor_readings_daily order by bucket"
    before = await fetch(migrated_dsn, rollups)
    assert before
    settings = Settings.model_validate({"timeseries_dsn": migrated_dsn})
    await undo(migrated_dsn, TIMESERIES, "15_1")
    for step in await plan_undo(migrated_dsn, TIMESERIES, "11"):
        if step.version in {"12", "13"}:
            for command in backup_commands(settings, TIMESERIES, step):
                await shell(tmp_path, migrated_dsn, command)
    assert len([name for name in os.listdir(tmp_path) if name.endswith(".csv")]) == 10  # noqa: PTH208 (pathlib blocks here)
    await fetch(migrated_dsn, "truncate iot.sensor_readings_daily")
    back = (
        'psql "$INGEST_TIMESERIES_DSN" --command="\\copy iot.sensor_readings_daily'
        " from 'iot.sensor_readings_daily.csv' with (format csv, header)\""
    )
    await shell(tmp_path, migrated_dsn, back)
    assert await fetch(migrated_dsn, rollups) == before


async def test_a_whole_dump_is_restored(migrated_dsn: str, empty_dsn: str, tmp_path: Path) -> None:
    await fill(migrated_dsn)
    (before,) = await fetch(migrated_dsn, SUMS)
    assert before[0] == before[3] == 200
    dump = 'pg_dump --dbname="$INGEST_TIMESERIES_DSN" --format=custom --file=timeseries.dump'
    await shell(tmp_path, migrated_dsn, dump)
    for command in (
        (
            f"psql {empty_dsn} --command='create extension timescaledb'"
            " --command='select timescaledb_pre_restore()'"
        ),
        f"pg_restore --dbname={empty_dsn} timeseries.dump",
        f"psql {empty_dsn} --command='select timescaledb_post_restore()'",
    ):
        await shell(tmp_path, migrated_dsn, command)
    assert await fetch(empty_dsn, SUMS) == [before]
    assert await describe(empty_dsn, TIMESERIES) == await describe(migrated_dsn, TIMESERIES)
    assert await verify(empty_dsn, TIMESERIES) == []
    assert await migrate(empty_dsn, TIMESERIES) == []
