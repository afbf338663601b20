"""Policies as settings, on a real TimescaleDB: what plan shows, what apply changes, what it lets be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from ingest.errors import MigrationError
from ingest.migrate import Database, migrate
from ingest.operate.policies import apply, plan
from ingest.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SHIPPED = Settings()
JOBS = """
    select job_id, proc_name, schedule_interval::text, scheduled, config::text, hypertable_name
    from timescaledb_information.jobs
    where job_id >= 1000
    order by job_id
"""
JOB_OF = """
    select j.job_id
    from timescaledb_information.jobs as j
    left join timescaledb_information.continuous_aggregates as a
        on a.materialization_hypertable_name = j.hypertable_name
    where j.proc_name = $1 and coalesce(a.view_name, j.hypertable_name, j.proc_name) = $2
"""
# One of each kind; the last two are one job's.
CHANGED: dict[str, tuple[str, str]] = {
    "chunk_interval.sensor_readings": ("1 day", "12 hours"),
    "compress_after.sensor_readings_daily": ("30 days", "45 days"),
    "retain_for.sensor_readings": ("off", "2 years"),
    "refresh_every.cagg_sensor_health_hourly": ("1 hour", "20 minutes"),
    "refresh_start.cagg_sensor_readings_monthly": ("3 months", "4 months"),
    "refresh_end.cagg_greenhouse_conditions_realtime": ("15 minutes", "30 minutes"),
    "job_every.recompute_late_buckets": ("15 minutes", "10 minutes"),
    "job_every.fill_sensor_performance_daily": ("1 hour", "2 hours"),
    "job_window.fill_sensor_performance_daily": ("4 days", "5 days"),
}


def settings_with(**changes: str) -> Settings:
    """Settings with options such as retain_for__sensor_readings="2 years"."""
    tables: dict[str, Any] = {}
    for option, text in changes.items():
        table, name = option.split("__")
        tables.setdefault(table, {})[name] = text
    return Settings(**tables)


def changed_settings() -> Settings:
    return settings_with(**{option.replace(".", "__"): wanted for option, (_, wanted) in CHANGED.items()})


@pytest.fixture
async def connection(migrated_dsn: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    opened = await asyncpg.connect(migrated_dsn)
    yield opened
    await opened.close()


async def test_the_migrations_make_what_the_settings_say(migrated_dsn: str) -> None:
    found = await plan(migrated_dsn, SHIPPED)
    assert found.differences == ()
    assert found.disabled == ()


async def test_every_kind_of_setting_is_shown_applied_and_then_no_difference(
    migrated_dsn: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    before = await connection.fetch(JOBS)
    wanted = changed_settings()
    shown = (await plan(migrated_dsn, wanted)).differences
    assert {each.option: (each.live, each.wanted) for each in shown} == CHANGED
    assert await connection.fetch(JOBS) == before
    told: list[str] = []
    applied = await apply(migrated_dsn, wanted, on_applied=lambda each: told.append(each.option))
    assert applied.differences == shown
    assert sorted(told) == sorted(CHANGED)
    assert (await plan(migrated_dsn, wanted)).differences == ()
    assert (await apply(migrated_dsn, wanted)).differences == ()
    after = await connection.fetch(JOBS)
    kept = [row["job_id"] for row in after if row["proc_name"] != "policy_retention"]
    assert kept == [row["job_id"] for row in before]
    assert len(after) == len(before) + 1
    (window,) = [row["config"] for row in after if row["proc_name"] == "fill_sensor_performance_daily"]
    assert '"gap_factor": 2' in window

    back = (await apply(migrated_dsn, SHIPPED)).differences
    assert {each.option: (each.wanted, each.live) for each in back} == CHANGED
    assert [tuple(row)[:4] for row in await connection.fetch(JOBS)] == [tuple(row)[:4] for row in before]


async def test_a_missing_policy_or_job_is_added_once(
    migrated_dsn: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    before = {(row["proc_name"], row["hypertable_name"]) for row in await connection.fetch(JOBS)}
    await connection.execute("call remove_columnstore_policy('iot.sensor_readings')")
    await connection.execute("select remove_continuous_aggregate_policy('iot.cagg_sensor_health_hourly')")
    await connection.execute(
        "select delete_job($1)",
        await connection.fetchval(JOB_OF, "recompute_late_buckets", "recompute_late_buckets"),
    )
    shown = (await plan(migrated_dsn, SHIPPED)).differences
    assert [(each.option, each.live) for each in shown] == [
        ("compress_after.sensor_readings", "no policy"),
        ("refresh_every.cagg_sensor_health_hourly", "no policy"),
        ("job_every.recompute_late_buckets", "no job"),
    ]
    await apply(migrated_dsn, SHIPPED)
    assert (await plan(migrated_dsn, SHIPPED)).differences == ()
    assert {(row["proc_name"], row["hypertable_name"]) for row in await connection.fetch(JOBS)} == before


async def test_a_policy_by_creation_time_is_replaced_and_a_second_job_removed(
    migrated_dsn: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    await connection.execute("call remove_columnstore_policy('iot.sensor_readings')")
    await connection.execute("call add_columnstore_policy('iot.sensor_readings', created_before => '9 days')")
    twice = await connection.fetchval("select add_job('iot.fill_sensor_readings_daily'::regproc, '6 hours')")
    shown = (await plan(migrated_dsn, SHIPPED)).differences
    assert [(each.option, each.live) for each in shown] == [
        ("compress_after.sensor_readings", "not by age"),
        ("job_every.fill_sensor_readings_daily", shown[1].live),
    ]
    assert shown[1].how == f"delete_job({twice})"
    await apply(migrated_dsn, SHIPPED)
    assert (await plan(migrated_dsn, SHIPPED)).differences == ()
    assert twice not in [row["job_id"] for row in await connection.fetch(JOBS)]


async def test_a_disabled_job_is_shown_changed_and_left_disabled_unless_asked(
    migrated_dsn: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    job_id = await connection.fetchval(JOB_OF, "policy_compression", "sensor_readings")
    await connection.execute("select alter_job($1, scheduled => false)", job_id)
    found = await plan(migrated_dsn, SHIPPED)
    assert found.differences == ()
    assert [(job.job_id, job.subject) for job in found.disabled] == [(job_id, "sensor_readings")]

    later = settings_with(compress_after__sensor_readings="5 days")
    await apply(migrated_dsn, later)
    (row,) = [row for row in await connection.fetch(JOBS) if row["job_id"] == job_id]
    assert not row["scheduled"]
    assert '"compress_after": "5 days"' in row["config"]

    (difference,) = (await plan(migrated_dsn, later, enable=True)).differences
    assert (difference.live, difference.wanted) == ("disabled", "scheduled")
    await apply(migrated_dsn, later, enable=True)
    found = await plan(migrated_dsn, later, enable=True)
    assert (found.differences, found.disabled) == ((), ())


async def test_a_chunk_interval_counts_for_new_chunks(
    migrated_dsn: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    insert = """
        insert into iot.sensor_readings (time, greenhouse_id, value)
        values ($1::text::timestamptz, gen_random_uuid(), 1)
    """
    await connection.execute(insert, "2025-11-17T10:00Z")
    await apply(migrated_dsn, settings_with(chunk_interval__sensor_readings="6 hours"))
    await connection.execute(insert, "2025-11-19T10:00Z")
    widths = await connection.fetch("""
        select (range_end - range_start)::text from timescaledb_information.chunks
        where hypertable_name = 'sensor_readings' order by range_start
    """)
    assert [row[0] for row in widths] == ["1 day", "06:00:00"]


async def test_what_is_not_migrated_is_said(timescale_dsn: str) -> None:
    await migrate(timescale_dsn, Database.METADATA)
    opened = await asyncpg.connect(timescale_dsn)
    await opened.execute("create extension if not exists timescaledb")
    await opened.close()
    with pytest.raises(MigrationError, match=r"not there: iot\.sensor_readings, .*`ingest schema migrate`"):
        await plan(timescale_dsn, SHIPPED)
