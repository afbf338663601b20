"""Migrations V14 and V15: what is recorded, of whom, and what is not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
import pytest

from ingest.errors import Unavailable
from ingest.migrate import Database, schema_folder
from ingest.operate.bulk_operations import recorded
from ingest.operate.catalog import add_tenant, import_catalog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

TENANT, GREENHOUSE, SENSOR, ACTUATOR, ALERT, USER = (UUID(int=0xA0 + number) for number in range(6))
AUDITED = [
    ("tenants", "email = 'a@b.c'", str(TENANT)),
    ("greenhouses", "name = 'South'", str(GREENHOUSE)),
    ("sensors", "is_active = false", str(SENSOR)),
    ("actuators", "current_value = 3", str(ACTUATOR)),
    ("alerts", "message = 'look'", str(ALERT)),
    ("users", "role = 'VIEWER'", str(USER)),
    ("units", "description = 'x'", "1"),
    ("sensor_types", "max_value = 99", "1"),
    ("actuator_types", "description = 'x'", "1"),
    ("actuator_states", "description = 'x'", "1"),
    ("alert_severities", "level = 9", "1"),
    ("alert_types", "description = 'x'", "1"),
    ("unit_aliases", "unit_id = 2", "CELSIUS"),
    ("sensor_type_aliases", "sensor_type_id = 2", "TEMPERATURA"),
]


@pytest.fixture
async def metadata(metadata_dsn: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """One tenant with one of everything; what their registration recorded is gone."""
    connection = await asyncpg.connect(metadata_dsn, server_settings={"application_name": "test"})
    await connection.execute(f"""
        insert into metadata.tenants (id, name) values ('{TENANT}', 'Sara');
        insert into metadata.greenhouses (id, tenant_id, name, greenhouse_code)
        values ('{GREENHOUSE}', '{TENANT}', 'North', '01');
        insert into metadata.sensors (id, tenant_id, greenhouse_id, sensor_code, sensor_type)
        values ('{SENSOR}', '{TENANT}', '{GREENHOUSE}', 'T1', 'TEMPERATURE');
        insert into metadata.actuators
            (id, tenant_id, greenhouse_id, actuator_code, actuator_type, current_state)
        values ('{ACTUATOR}', '{TENANT}', '{GREENHOUSE}', 'F1', 'FAN', 'OFF');
        insert into metadata.users (id, tenant_id, username, email, password_hash, role)
        values ('{USER}', '{TENANT}', 'ana', 'ana@example.org', 'first-hash', 'ADMIN');
        insert into metadata.alerts
            (id, tenant_id, greenhouse_id, sensor_id, alert_type, severity, created_at)
        values ('{ALERT}', '{TENANT}', '{GREENHOUSE}', '{SENSOR}', 'SENSOR_OFFLINE', 'ERROR',
                now() - interval '1 hour');
        truncate metadata.audit_log;
    """)
    yield connection
    await connection.close()


async def log(connection: asyncpg.Connection[asyncpg.Record], columns: str) -> list[tuple[Any, ...]]:
    return [
        tuple(row) for row in await connection.fetch(f"select {columns} from metadata.audit_log order by id")
    ]


@pytest.mark.parametrize(("table", "change", "key"), AUDITED)
async def test_a_change_is_recorded(
    metadata: asyncpg.Connection[asyncpg.Record], table: str, change: str, key: str
) -> None:
    column = "alias" if table.endswith("aliases") else "id"
    await metadata.execute(f"update metadata.{table} set {change} where {column}::text = $1", key)
    ((name, record_id, operation, fields, old, new),) = await log(
        metadata, "table_name, record_id, operation, changed_fields, old_values, new_values"
    )
    changed = change.partition(" = ")[0]
    assert (name, record_id, operation, fields) == (table, key, "UPDATE", [changed])
    before, after = json.loads(old), json.loads(new)
    assert {column for column in before if before[column] != after[column]} == {changed}


async def test_beginning_and_end_of_a_row(metadata: asyncpg.Connection[asyncpg.Record]) -> None:
    await metadata.execute("insert into metadata.unit_aliases values ('HECTO', 5)")
    await metadata.execute("delete from metadata.unit_aliases where alias = 'HECTO'")
    await metadata.execute("truncate metadata.unit_aliases")
    await metadata.execute("truncate metadata.unit_aliases")
    aliases = 322 - await metadata.fetchval("select count(*) from metadata.sensor_type_aliases")
    row = '{"alias": "HECTO", "unit_id": 5}'
    assert await log(metadata, "record_id, operation, old_values, new_values, changed_fields") == [
        ("HECTO", "INSERT", None, row, None),
        ("HECTO", "DELETE", row, None, None),
        ("*", "TRUNCATE", f'{{"rows": {aliases}}}', None, None),
    ]


async def test_no_change_and_last_seen_are_not_recorded(
    metadata: asyncpg.Connection[asyncpg.Record],
) -> None:
    await metadata.execute("""
        update metadata.sensors set last_seen = now(), updated_at = now();
        update metadata.sensors set name = name, is_active = is_active, min_threshold = null;
        update metadata.tenants set updated_at = now();
        update metadata.units set symbol = symbol;
        update metadata.actuators set current_state = current_state, current_value = current_value;
        update metadata.alerts set is_resolved = false;
    """)
    for table in (
        "audit_log",
        "sensor_configuration_history",
        "actuator_command_history",
        "alert_resolution_history",
    ):
        assert await metadata.fetchval(f"select count(*) from metadata.{table}") == 0
    await metadata.execute("update metadata.sensors set last_seen = now(), updated_at = now(), name = 'Door'")
    assert await log(metadata, "changed_fields") == [(["name"],)]


async def test_who_is_what_the_application_says(metadata: asyncpg.Connection[asyncpg.Record]) -> None:
    async with metadata.transaction():
        await metadata.execute(f"""
            set local greenhouse.user_id = '{USER}';
            set local greenhouse.reason = 'wrong spelling';
            set local greenhouse.session_id = 's-1';
            set local greenhouse.ip_address = '192.0.2.7';
            set local greenhouse.user_agent = 'Firefox';
            update metadata.tenants set name = 'Sarah';
        """)
    who = "changed_by, changed_by_username, change_reason, host(ip_address), user_agent, session_id"
    assert await log(metadata, who) == [(USER, "ana", "wrong spelling", "192.0.2.7", "Firefox", "s-1")]
    # The transaction is over: now it is whoever is logged in.
    await metadata.execute("update metadata.tenants set name = 'Sara'")
    assert (await log(metadata, who))[1] == (None, "postgres", None, "127.0.0.1", "test", None)
    async with metadata.transaction():
        await metadata.execute("set local greenhouse.username = 'batch job'")
        await metadata.execute("update metadata.tenants set name = 'Sarah'")
    assert (await log(metadata, who))[2][1] == "batch job"


async def test_a_malformed_setting_stops_no_write(metadata: asyncpg.Connection[asyncpg.Record]) -> None:
    await metadata.execute("""
        set greenhouse.user_id = 'ana';
        set greenhouse.ip_address = 'behind a proxy';
        update metadata.tenants set name = 'Sarah';
    """)
    assert await log(metadata, "changed_by, changed_by_username, host(ip_address)") == [
        (None, "postgres", "127.0.0.1")
    ]


async def test_password_hashes_are_redacted(metadata: asyncpg.Connection[asyncpg.Record]) -> None:
    await metadata.execute("update metadata.users set password_hash = 'second-hash'")
    await metadata.execute("delete from metadata.users")
    await metadata.execute(
        "insert into metadata.users (tenant_id, username, email, password_hash, role)"
        " values ($1, 'eva', 'eva@example.org', 'third-hash', 'VIEWER')",
        TENANT,
    )
    assert await log(metadata, "operation, changed_fields") == [
        ("UPDATE", ["password_hash"]),
        ("DELETE", None),
        ("INSERT", None),
    ]
    values = await log(metadata, "concat(old_values, new_values)")
    assert all("[redacted]" in text and "-hash" not in text for (text,) in values)


async def test_a_rolled_back_change_was_none(metadata: asyncpg.Connection[asyncpg.Record]) -> None:
    transaction = metadata.transaction()
    await transaction.start()
    await metadata.execute("update metadata.tenants set name = 'Sarah'")
    await transaction.rollback()
    assert await log(metadata, "id") == []


async def test_sensor_configuration_history(metadata: asyncpg.Connection[asyncpg.Record]) -> None:
    await metadata.execute("update metadata.sensors set min_threshold = 5, max_threshold = 30")
    await metadata.execute("""update metadata.sensors set calibration_data = '{"offset": 0.5}'""")
    async with metadata.transaction():
        await metadata.execute("set local greenhouse.username = 'ana'")
        await metadata.execute("update metadata.sensors set max_threshold = 35, expected_interval_s = 60")
    await metadata.execute("update metadata.sensors set expected_interval_s = 30, name = 'Door'")
    await metadata.execute(
        "insert into metadata.sensors (tenant_id, greenhouse_id, sensor_code, unit, min_threshold)"
        " values ($1, $2, 'T2', 'C', 1), ($1, $2, 'T3', 'C', null)",
        TENANT,
        GREENHOUSE,
    )
    history = await metadata.fetch("""
        select sensor_code, change_type, old_max_threshold::integer, new_max_threshold::integer,
               old_expected_interval_s, new_expected_interval_s, new_calibration_data ->> 'offset',
               unit, changed_by_username
        from metadata.sensor_configuration_history
        order by id
    """)
    assert [tuple(row) for row in history] == [
        ("T1", "THRESHOLDS", None, 30, None, None, None, None, "postgres"),
        ("T1", "CALIBRATION", 30, 30, None, None, "0.5", None, "postgres"),
        ("T1", "SEVERAL", 30, 35, None, 60, "0.5", None, "ana"),
        ("T1", "INTERVAL", 35, 35, 60, 30, "0.5", None, "postgres"),
        ("T2", "THRESHOLDS", None, None, None, None, None, "°C", "postgres"),
    ]


async def test_actuator_command_history(metadata: asyncpg.Connection[asyncpg.Record]) -> None:
    await metadata.execute("update metadata.actuators set current_state = ' off '")  # another spelling
    await metadata.execute("update metadata.actuators set current_state = 'ON'")
    await metadata.execute("update metadata.actuators set current_value = 70, unit = '%'")
    async with metadata.transaction():
        await metadata.execute(f"set local greenhouse.user_id = '{USER}'")
        await metadata.execute("update metadata.actuators set state_id = 1, current_value = 0")
    await metadata.execute("update metadata.actuators set current_state = 'stuck'")
    history = await metadata.fetch("""
        select command, source, old_state, new_state, old_value, new_value, unit, commanded_by_username
        from metadata.actuator_command_history
        order by id
    """)
    assert [tuple(row) for row in history] == [
        ("SET_STATE", "SYSTEM", "OFF", "ON", None, None, None, "postgres"),
        ("SET_VALUE", "SYSTEM", "ON", "ON", None, 70, "%", "postgres"),
        ("SET_STATE_AND_VALUE", "USER", "ON", "OFF", 70, 0, "%", "ana"),
        ("SET_STATE", "SYSTEM", "OFF", "stuck", 0, 0, "%", "postgres"),
    ]


async def test_alert_resolution_history(metadata: asyncpg.Connection[asyncpg.Record]) -> None:
    await metadata.execute(
        "update metadata.alerts set is_resolved = true, resolved_by = $1,"
        " resolved_at = created_at + interval '30 minutes'",
        USER,
    )
    async with metadata.transaction():
        await metadata.execute("set local greenhouse.reason = 'not fixed'")
        await metadata.execute(
            "update metadata.alerts set is_resolved = false, resolved_by = null, resolved_at = null"
        )
    await metadata.execute("update metadata.alerts set is_resolved = true")
    history = await metadata.fetch("""
        select action, alert_type, severity, round(open_s)::integer, acted_by, acted_by_username, reason,
               alert ->> 'id'
        from metadata.alert_resolution_history
        order by id
    """)
    assert [tuple(row) for row in history] == [
        ("RESOLVED", "SENSOR_OFFLINE", "ERROR", 1800, USER, "ana", None, str(ALERT)),
        ("REOPENED", "SENSOR_OFFLINE", "ERROR", None, None, "postgres", "not fixed", str(ALERT)),
        (
            "RESOLVED",
            "SENSOR_OFFLINE",
            "ERROR",
            pytest.approx(3600, abs=60),
            None,
            "postgres",
            None,
            str(ALERT),
        ),
    ]


async def test_greenhouse_snapshots(metadata: asyncpg.Connection[asyncpg.Record]) -> None:
    first = await metadata.fetchval(
        "select metadata.take_greenhouse_snapshot($1, 'before repair')", GREENHOUSE
    )
    await metadata.execute("""
        delete from metadata.alerts;
        delete from metadata.sensors;
        delete from metadata.actuators;
        delete from metadata.greenhouses;
    """)
    snapshots = await metadata.fetch("""
        select id, snapshot_type, reason, taken_by_username, greenhouse ->> 'name' as name,
               sensor_count, actuator_count, open_alert_count, sensors -> 0 ->> 'sensor_code'
        from metadata.greenhouse_snapshot
        order by id
    """)
    assert [tuple(row) for row in snapshots] == [
        (first, "MANUAL", "before repair", "postgres", "North", 1, 1, 1, "T1"),
        (first + 1, "BEFORE_DELETE", None, "postgres", "North", 0, 0, 0, None),
    ]
    with pytest.raises(asyncpg.NoDataFoundError, match="there is no greenhouse"):
        await metadata.fetchval("select metadata.take_greenhouse_snapshot($1)", GREENHOUSE)


BULK = """
    select operation_type, target_table, status, total_records, successful_records, failed_records,
           skipped_records, source_file, error_summary, records_per_second > 0 as timed
    from metadata.bulk_operation_log
    order by id
"""


async def test_an_import_is_recorded(
    metadata: asyncpg.Connection[asyncpg.Record], metadata_dsn: str, tmp_path: Path
) -> None:
    path = tmp_path / "catalog.json"
    path.write_text('{"tenants": [{"name": "Lia", "prefix": "LIA"}, {"name": "Zoe", "prefix": "ZOE"}]}')
    await add_tenant(metadata_dsn, name="Lia", prefix="LIA")
    await import_catalog(metadata_dsn, path, dry_run=True)
    await import_catalog(metadata_dsn, path)
    path.write_text('{"tenants": [{"name": "Liana", "prefix": "LIA"}, {"name": "Max", "prefix": "MAX"}]}')
    await import_catalog(metadata_dsn, path)
    done, failed = [tuple(row) for row in await metadata.fetch(BULK)]
    assert done == ("IMPORT", "catalog", "COMPLETED", 2, 1, 0, 1, str(path), None, True)
    assert failed[2:7] == ("FAILED", 1, 0, 1, 0)
    (fault,) = json.loads(failed[8])
    assert fault.startswith("tenants[0]: tenant LIA is already there and different")


async def test_an_operation_that_breaks_off_is_recorded(
    metadata: asyncpg.Connection[asyncpg.Record],
) -> None:
    async def run(*, successful: int, ending: str) -> None:
        async with recorded(metadata, "NORMALIZE", "iot.sensor_readings") as tally:
            tally.successful = successful
            assert await metadata.fetchval(
                "select count(*) from metadata.bulk_operation_log where status = 'RUNNING'"
            )
            if ending:
                raise Unavailable(ending)

    await run(successful=3, ending="")
    for successful in (3, 0):
        with pytest.raises(Unavailable):
            await run(successful=successful, ending="gone")
    assert [(row["status"], row["error_summary"]) for row in await metadata.fetch(BULK)] == [
        ("COMPLETED", None),
        ("PARTIAL", '["gone"]'),
        ("FAILED", '["gone"]'),
    ]


@pytest.mark.parametrize(
    ("table", "columns", "values"),
    [
        ("audit_log", "table_name, record_id, operation, changed_by_username", "'x', 'x', 'MERGE', 'x'"),
        ("bulk_operation_log", "operation_type, target_table, status", "'IMPORT', 'x', 'DONE'"),
        ("bulk_operation_log", "operation_type, target_table", "'DANCE', 'x'"),
        (
            "data_quality_log",
            "data_source, quality_issue_type, severity, description",
            "'x', 'OTHER', 'AWFUL', 'x'",
        ),
        (
            "data_quality_log",
            "data_source, quality_issue_type, severity, description",
            "'x', 'ODD', 'LOW', 'x'",
        ),
        (
            "data_quality_log",
            "data_source, quality_issue_type, severity, description, status",
            "'x', 'OTHER', 'LOW', 'x', 'DONE'",
        ),
    ],
)
async def test_only_known_words(
    metadata: asyncpg.Connection[asyncpg.Record], table: str, columns: str, values: str
) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await metadata.execute(f"insert into metadata.{table} ({columns}) values ({values})")


async def test_undo_of_the_tables_refuses_while_they_hold_something(
    metadata: asyncpg.Connection[asyncpg.Record],
) -> None:
    undo = {
        name: next(schema_folder(Database.METADATA).glob(f"{name}__*.sql")) for name in ("U14", "U15", "U16")
    }
    await metadata.execute("update metadata.tenants set name = 'Sarah'")
    for name in ("U16", "U15"):
        await metadata.execute(undo[name].read_text(encoding="utf-8"))
    assert await metadata.fetchval("select count(*) from metadata.audit_log") == 1
    await metadata.execute("update metadata.tenants set name = 'Sara'")
    assert await metadata.fetchval("select count(*) from metadata.audit_log") == 1
    with pytest.raises(asyncpg.RaiseError, match="there are records in audit_log"):
        await metadata.execute(undo["U14"].read_text(encoding="utf-8"))
