"""What only a server with a scheduler gets into: failed jobs, jobs not started, indexes that are not usable.

On TimescaleDB 2.28.3 with PostgreSQL 15.20 every background run ends as Failed after its work is done; there
the tests expect status and maintain to say that, and elsewhere all to be well.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

import asyncpg
import pytest
from pydantic import SecretStr

from ingest.migrate import Database, migrate
from ingest.operate.maintain import maintain
from ingest.operate.status import look
from ingest.operation_settings import MaintainSettings
from ingest.settings import Settings
from tests.acceptance.maintained_rows import breaches
from tests.database_logins import Logins, databases
from tests.integration.timeseries_rows import THERMOMETER, add, hold_jobs, midnight
from tests.native.scheduler import UNUSABLE, UPSTREAM, failing_job, first_runs_are_over
from tests.waiting import until

if TYPE_CHECKING:
    from ingest.operate.maintain_steps import Period

pytestmark = [pytest.mark.native, pytest.mark.timeout(300)]

RECORD = "select last_run_status from timescaledb_information.job_stats where job_id = $1"


async def test_a_failed_job_is_named_and_mended(
    connection: asyncpg.Connection[asyncpg.Record], settings: Settings
) -> None:
    job_id = await failing_job(connection)
    found = await look(settings, datetime.now(UTC))
    (job,) = [each for each in found.jobs or () if each.job_id == job_id]
    assert (job.status, job.failures > 0) == ("Failed", True)
    assert job.error is not None
    assert "in the way" in job.error
    named = (await breaches(settings))["jobs"]
    assert f"job {job_id}" in named.what
    assert named.command == "ingest maintain daily --only jobs --yes"

    failed = await maintain(settings, "daily", ["jobs"])
    assert any("in the way" in fault for fault in failed.faults), failed.faults

    await connection.execute("drop table iot.in_the_way")
    done = await maintain(settings, "daily", ["jobs"])
    assert done.faults == []
    if any(UPSTREAM in told for told in done.steps[0].told):
        assert "known fault" in ((await breaches(settings))["jobs"].hint or "")
        again = await maintain(settings, "daily", ["jobs"])
        assert again.tasks == 0, "nothing here mends that"
        assert "known fault" in again.steps[0].findings[-1]
    else:
        assert await connection.fetchval(RECORD, job_id) == "Success"
        assert "jobs" not in await breaches(settings)


async def test_jobs_that_are_not_started_are_named(
    connection: asyncpg.Connection[asyncpg.Record], settings: Settings
) -> None:
    await first_runs_are_over(connection)
    await connection.execute("select _timescaledb_functions.stop_background_workers()")
    await connection.execute("""
        select alter_job(job_id, next_start => now() - interval '1 day')
        from timescaledb_information.jobs
        where proc_name = 'recompute_late_buckets'
    """)
    named = (await breaches(settings))["scheduler"]
    assert "recompute_late_buckets" in named.what
    statement = named.command.partition('--command="')[2].removesuffix('"')
    await connection.execute(statement)

    async def started() -> bool:
        return "scheduler" not in await breaches(settings)

    await until(started, "the scheduler goes on", patience_s=60)


async def test_an_unusable_index_is_rebuilt_beside_writers(
    connection: asyncpg.Connection[asyncpg.Record], settings: Settings, migrated_dsn: str
) -> None:
    await first_runs_are_over(connection)
    await add(connection, THERMOMETER, [midnight()])
    await connection.execute(UNUSABLE)
    named = (await breaches(settings))["indexes"]
    assert named.command == "ingest maintain monthly --only indexes --yes"
    writer = await asyncpg.connect(migrated_dsn)
    try:
        # A writer that holds the table for a second: a rebuild in its place would wait, and others behind it.
        transaction = writer.transaction()
        await transaction.start()
        await writer.execute(
            "insert into iot.sensor_readings (time, greenhouse_id) values (now(), gen_random_uuid())"
        )
        rebuilding = asyncio.create_task(maintain(settings, "monthly", ["indexes"]))
        await asyncio.sleep(1)
        assert not rebuilding.done()
        await connection.execute(
            "insert into iot.sensor_readings (time, greenhouse_id) values (now(), gen_random_uuid())",
            timeout=5,
        )
        await transaction.commit()
        assert (await rebuilding).faults == []
    finally:
        await writer.close()
    assert "indexes" not in await breaches(settings)


async def test_a_rebuild_that_was_cut_off_is_cleared_up(
    connection: asyncpg.Connection[asyncpg.Record], settings: Settings, migrated_dsn: str
) -> None:
    await first_runs_are_over(connection)
    blocker = await asyncpg.connect(migrated_dsn)
    rebuilder = await asyncpg.connect(migrated_dsn)
    try:
        snapshot = blocker.transaction(isolation="repeatable_read")
        await snapshot.start()
        await blocker.execute("insert into iot.ingest_counters values ('x', 'received', 1)")
        pid = rebuilder.get_server_pid()
        work = asyncio.create_task(rebuilder.execute("reindex index concurrently iot.ingest_counters_pkey"))
        leftovers = "select count(*) from pg_class where relname like 'ingest_counters_pkey_cc%'"

        async def begun() -> bool:
            return bool(await connection.fetchval(leftovers) == 1)

        await until(begun, "the rebuild has begun")
        await connection.execute("select pg_terminate_backend($1)", pid)
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await work
        await snapshot.rollback()
    finally:
        rebuilder.terminate()
        await blocker.close()
    assert "ingest_counters_pkey_cc" in (await breaches(settings))["indexes"].what
    done = await maintain(settings, "monthly", ["indexes"])
    assert done.faults == []
    assert await connection.fetchval(leftovers) == 0


async def test_the_owners_login_does_everything_and_the_operators_its_part(timescale_server: str) -> None:
    """In two databases, with the logins of deploy/prepare-database.sql."""
    logins = Logins(plain=False)
    async with databases(timescale_server, logins, 2) as (metadata, timeseries):
        at = {Database.METADATA: metadata, Database.TIMESERIES: timeseries}
        for database, dsn in at.items():
            logins.prepare(dsn, database)
            await migrate(logins.dsn(dsn, "migrator"), database)
        admin = await asyncpg.connect(timeseries)
        try:
            await hold_jobs(admin)
            await add(admin, THERMOMETER, [midnight(days_ago=day) for day in (6, 5, 1)])
        finally:
            await admin.close()

        def settings_of(role: Literal["migrator", "operator"]) -> Settings:
            return Settings(
                metadata_dsn=SecretStr(logins.dsn(metadata, role)),
                timeseries_dsn=SecretStr(logins.dsn(timeseries, role)),
                maintain=MaintainSettings(reindex_from_mb=0.008),
            )

        periods: tuple[Period, ...] = ("daily", "weekly", "monthly")
        operators = [
            step for each in periods for step in (await maintain(settings_of("operator"), each)).steps
        ]
        assert {step.name for step in operators if step.faults} == {
            "compress",
            "aggregates",
            "statistics",
            "indexes",
        }
        owners = [step for each in periods for step in (await maintain(settings_of("migrator"), each)).steps]
        assert [step.faults for step in owners if step.faults] == []
        assert {step.name for step in owners if step.done} >= {
            "compress",
            "aggregates",
            "statistics",
            "indexes",
        }


async def test_aggregates_that_lag_are_refreshed(
    connection: asyncpg.Connection[asyncpg.Record], settings: Settings
) -> None:
    await first_runs_are_over(connection)
    await hold_jobs(connection)
    await add(connection, THERMOMETER, [midnight(days_ago=day) for day in (40, 2, 1)])
    stale = (await breaches(settings))["aggregates"]
    assert "cagg_sensor_readings_daily" in stale.what
    done = await maintain(settings, "daily", ["aggregates"])
    assert done.faults == []
    assert "aggregates" not in await breaches(settings)
    counted = await connection.fetchval("select sum(count_readings) from iot.cagg_sensor_readings_daily")
    assert counted == 3
