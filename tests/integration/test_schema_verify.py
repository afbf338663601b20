"""`ingest schema verify` on a real TimescaleDB: good when migrated, and naming each thing taken away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import pytest

from ingest.migrate import Database
from ingest.operate.schema_report import compared, counts, examine_schema

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

METADATA, TIMESERIES = Database.METADATA, Database.TIMESERIES
# What is done to the database, and the one item that then is not as expected.
TAKEN_AWAY = [
    (
        METADATA,
        "drop trigger sensors_notify_sensor_changed on metadata.sensors",
        "trigger metadata.sensors sensors_notify_sensor_changed",
    ),
    (
        METADATA,
        "drop index metadata.audit_log_record_idx",
        "index metadata.audit_log btree (table_name, record_id, changed_at DESC)",
    ),
    (
        METADATA,
        "delete from metadata.actuator_states where name = 'ERROR'",
        "row metadata.actuator_states 9 ERROR",
    ),
    (
        METADATA,
        "update metadata.units set symbol = 'K' where id = 2",
        "row metadata.units 2 °F: is metadata.units 2 K",
    ),
    (
        METADATA,
        "revoke select on metadata.units from greenhouse_worker",
        "grant greenhouse_worker select on metadata.units",
    ),
    (
        METADATA,
        "alter table metadata.data_quality_log drop column tenant_id",
        "column metadata.data_quality_log.tenant_id uuid",
    ),
    (
        METADATA,
        "alter table metadata.data_quality_log alter column description type varchar",
        (
            "column metadata.data_quality_log.description text: "
            "is metadata.data_quality_log.description character varying"
        ),
    ),
    (
        METADATA,
        "update metadata.schema_history set checksum = 'x' where version = '12'",
        "migration V12 create catalog tables: V12__create_catalog_tables.sql was edited",
    ),
    (
        TIMESERIES,
        "call remove_columnstore_policy('iot.sensor_readings')",
        "job iot.sensor_readings policy_compression",
    ),
    (
        TIMESERIES,
        "select remove_continuous_aggregate_policy('iot.cagg_sensor_health_hourly')",
        "job iot.cagg_sensor_health_hourly policy_refresh_continuous_aggregate",
    ),
    (
        TIMESERIES,
        (
            "select alter_job(job_id, scheduled => false) from timescaledb_information.jobs"
            " where proc_name = 'recompute_late_buckets'"
        ),
        "job iot recompute_late_buckets",
    ),
    (
        TIMESERIES,
        "drop index iot.sensor_readings_key",
        "unique index iot.sensor_readings btree (greenhouse_id, sensor_type_id, time DESC, sensor_id)",
    ),
    (TIMESERIES, "drop view iot.v_ingest_sessions", "view column iot.v_ingest_sessions.age interval"),
    (
        TIMESERIES,
        "drop materialized view iot.cagg_sensor_health_hourly cascade",
        "continuous aggregate iot.cagg_sensor_health_hourly real-time",
    ),
]


@pytest.fixture
async def connection(migrated_dsn: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    opened = await asyncpg.connect(migrated_dsn)
    yield opened
    await opened.close()


async def missing(dsn: str, database: Database) -> list[str]:
    return [
        f"{item.kind} {item.name}" + (f": {item.detail}" if item.detail else "")
        for item in await examine_schema(dsn, database)
        if not item.ok
    ]


async def test_everything_is_there_after_migrating(migrated_dsn: str) -> None:
    found = {database: await examine_schema(migrated_dsn, database) for database in Database}
    assert [item for items in found.values() for item in items if not item.ok] == []
    metadata, timeseries = counts(found[METADATA]), counts(found[TIMESERIES])
    assert metadata["row"] == {"expected": 62, "ok": 62}
    audit = {item.belongs_to for item in found[METADATA] if item.kind == "column"}
    assert {
        "metadata.audit_log",
        "metadata.actuator_command_history",
        "metadata.sensor_configuration_history",
        "metadata.alert_resolution_history",
        "metadata.greenhouse_snapshot",
        "metadata.bulk_operation_log",
        "metadata.data_quality_log",
    } <= audit
    assert timeseries["hypertable"]["ok"] == 6
    assert timeseries["compression"]["ok"] == 6
    assert timeseries["continuous aggregate"]["ok"] == 5
    assert timeseries["job"]["ok"] >= 16
    for kind in ("trigger", "index", "unique index", "grant", "routine", "migration"):
        assert metadata[kind]["ok"] == metadata[kind]["expected"] > 0


async def test_each_thing_taken_away_is_named(
    migrated_dsn: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    expected: dict[Database, list[str]] = {METADATA: [], TIMESERIES: []}
    for database, statement, item in TAKEN_AWAY:
        await connection.execute(statement)
        expected[database].append(item)
        now = await missing(migrated_dsn, database)
        lacking = [each for each in expected[database] if not any(line.startswith(each) for line in now)]
        assert lacking == [], statement


async def test_a_catalog_that_is_gone_is_named_with_the_reason(
    migrated_dsn: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    await connection.execute("drop table metadata.alert_types cascade")
    lines = await missing(migrated_dsn, METADATA)
    assert lines[0].startswith('query describing the schema: relation "metadata.alert_types" does not exist')
    assert "column metadata.alert_types.id smallint" in lines
    assert "row metadata.alert_types 1 THRESHOLD_EXCEEDED" in lines


async def test_before_migrating_each_file_is_pending(postgres_dsn: str) -> None:
    items = await examine_schema(postgres_dsn, METADATA)
    migrations = [item for item in items if item.kind == "migration"]
    assert {item.detail for item in migrations} == {"pending: run `ingest schema migrate`"}
    assert not any(item.ok for item in items)


def test_what_is_there_besides_is_no_fault() -> None:
    items = compared("metadata", ["column a.b.c text", "row a.b 1 x"], {"column a.b.c text", "row a.b 1 y"})
    assert [(item.name, item.ok, item.detail) for item in items] == [
        ("a.b.c text", True, ""),
        ("a.b 1 x", False, "is a.b 1 y"),
    ]
    assert [item.belongs_to for item in items] == ["a.b", "a.b"]
