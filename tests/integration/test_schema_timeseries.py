"""Schema iot on a real TimescaleDB: what the files make, and what it holds to."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import asyncpg
import pytest

from ingest.migrate import Database, describe, migrate, schema_folder, verify
from tests.integration.plain_postgres import create_timeseries_schema
from tests.integration.test_schema_metadata import UNCOMMENTED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TIMESERIES = Database.TIMESERIES
SNAPSHOT = schema_folder(TIMESERIES).parent / "verify" / "timeseries.txt"
GREENHOUSE = "11111111-1111-4111-8111-111111111111"
SENSOR = "22222222-2222-4222-8222-222222222222"
TENANT = "33333333-3333-4333-8333-333333333333"
AGGREGATE_VIEWS = (
    "v_sensor_readings_hourly",
    "v_sensor_readings_daily",
    "v_sensor_readings_monthly",
    "v_sensor_health_hourly",
    "v_latest_greenhouse_conditions",
    "v_sensors_needing_attention",
)
MISSING = [
    (
        "select remove_continuous_aggregate_policy('iot.cagg_sensor_readings_daily')",
        "job iot.cagg_sensor_readings_daily policy_refresh_continuous_aggregate",
    ),
    (
        """
            select delete_job(job_id) from timescaledb_information.jobs
            where proc_name = 'recompute_late_buckets'
        """,
        "job iot recompute_late_buckets",
    ),
    (
        """
            select alter_job(job_id, scheduled => false) from timescaledb_information.jobs
            where proc_name = 'fill_sensor_readings_daily'
        """,
        "job iot fill_sensor_readings_daily",
    ),
    (
        "call remove_columnstore_policy('iot.sensor_readings_monthly')",
        "job iot.sensor_readings_monthly policy_compression",
    ),
    (
        """
            drop view iot.v_sensors_needing_attention, iot.v_sensor_health_hourly;
            drop materialized view iot.cagg_sensor_health_hourly
        """,
        "continuous aggregate iot.cagg_sensor_health_hourly real-time",
    ),
    (
        "alter materialized view iot.cagg_sensor_readings_hourly set (timescaledb.materialized_only = true)",
        "continuous aggregate iot.cagg_sensor_readings_hourly real-time",
    ),
    (
        "revoke insert on iot.sensor_readings from greenhouse_worker",
        "grant greenhouse_worker insert on iot.sensor_readings",
    ),
    ("drop function iot.note_late_buckets", "routine iot.note_late_buckets"),
]


@pytest.fixture
async def iot(migrated_dsn: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(migrated_dsn)
    yield connection
    await connection.close()


async def test_the_files_make_what_the_snapshot_says(migrated_dsn: str) -> None:
    found = await describe(migrated_dsn, TIMESERIES)
    if "INGEST_WRITE_SNAPSHOT" in os.environ:
        SNAPSHOT.write_text("\n".join(found) + "\n")
    assert found == SNAPSHOT.read_text().splitlines()
    for database in Database:
        assert await verify(migrated_dsn, database) == []
        assert await migrate(migrated_dsn, database) == []


async def test_verify_misses_what_is_gone(iot: asyncpg.Connection[asyncpg.Record], migrated_dsn: str) -> None:
    known: set[str] = set()
    for damage, line in MISSING:
        await iot.execute(damage)
        problems = set(await verify(migrated_dsn, TIMESERIES))
        assert any(new.startswith(f"expected and not found: {line}") for new in problems - known), line
        assert known <= problems
        known = problems


async def test_several_at_once_in_one_database_all_succeed(timescale_dsn: str) -> None:
    runs = await asyncio.gather(
        *(migrate(timescale_dsn, database) for database in Database for _ in range(2))
    )
    assert sorted(len(run) > 0 for run in runs) == [False, False, True, True]


async def test_both_databases_agree_on_the_ids(iot: asyncpg.Connection[asyncpg.Record]) -> None:
    for column, table in (("symbol", "units"), ("name", "sensor_types")):
        mirror = await iot.fetch(f"select id, {column} from iot.{table} order by id")
        assert mirror == await iot.fetch(f"select id, {column} from metadata.{table} order by id")
        assert len(mirror) == 11


async def test_every_table_and_column_has_a_comment(iot: asyncpg.Connection[asyncpg.Record]) -> None:
    assert [row[0] for row in await iot.fetch(UNCOMMENTED, "iot")] == []


async def test_compression_is_what_the_dashboards_ask_for(iot: asyncpg.Connection[asyncpg.Record]) -> None:
    jobs = await iot.fetch("""
        select proc_name, config ->> 'compress_after', config ->> 'index_name'
        from timescaledb_information.jobs
        where hypertable_name = 'sensor_readings'
        order by proc_name
    """)
    assert [tuple(job) for job in jobs] == [
        ("policy_compression", "3 days", None),
        ("policy_reorder", None, "sensor_readings_key"),
    ]
    assert (
        await iot.fetchval("""
        select time_interval::text from timescaledb_information.dimensions
        where hypertable_name = 'sensor_readings'
    """)
        == "1 day"
    )


async def test_a_reading_is_kept_once_before_and_after_compression(
    iot: asyncpg.Connection[asyncpg.Record],
) -> None:
    insert = f"""
        insert into iot.sensor_readings
            (time, greenhouse_id, tenant_id, sensor_id, sensor_type_id, unit_id, value)
        select '2025-11-17T10:00Z'::timestamptz + n * interval '10 s',
            '{GREENHOUSE}', '{TENANT}', '{SENSOR}', 1, 1, n
        from generate_series(1, 500) as n
        on conflict do nothing
    """
    assert await iot.execute(insert) == "INSERT 0 500"
    assert await iot.execute(insert) == "INSERT 0 0"
    compressed = await iot.fetchval(
        "select count(compress_chunk(c)) from show_chunks('iot.sensor_readings') as c"
    )
    assert compressed == 1
    assert await iot.execute(insert) == "INSERT 0 0"
    with pytest.raises(asyncpg.UniqueViolationError):
        await iot.execute(insert.replace("on conflict do nothing", ""))
    late = insert.replace("T10:00Z", "T10:00:05Z")
    assert await iot.execute(late) == "INSERT 0 500"
    assert await iot.fetchval("select count(*) from iot.sensor_readings") == 1000


async def test_the_policies_run(iot: asyncpg.Connection[asyncpg.Record]) -> None:
    await iot.execute(f"""
        insert into iot.sensor_readings
            (time, greenhouse_id, tenant_id, sensor_id, sensor_type_id, unit_id, value)
        select now() - d * interval '1 day', '{GREENHOUSE}', '{TENANT}', '{SENSOR}', 1, 1, d
        from generate_series(0, 9) as d
    """)
    for job in await iot.fetch("""
        select job_id from timescaledb_information.jobs
        where hypertable_name = 'sensor_readings' order by proc_name desc
    """):
        await iot.execute(f"call run_job({job['job_id']})")
    compressed = await iot.fetchval("select count(*) from timescaledb_information.chunks where is_compressed")
    assert 5 <= compressed <= 7


async def test_the_view_gives_names_back(iot: asyncpg.Connection[asyncpg.Record]) -> None:
    await iot.execute(f"""
        insert into iot.sensor_readings
            (time, greenhouse_id, sensor_id, sensor_type, unit, sensor_type_id, unit_id, value)
        values
            ('2025-11-17T10:00Z', '{GREENHOUSE}', '{SENSOR}', null, null, 5, 6, 412),
            ('2025-11-17T10:01Z', '{GREENHOUSE}', '{SENSOR}', 'CO2 ', 'PPM', null, null, 413)
    """)
    rows = await iot.fetch("""
        select sensor_type, unit, value from iot.v_sensor_readings_denormalized order by time
    """)
    assert [tuple(row) for row in rows] == [("CO2", "ppm", 412.0), ("CO2 ", "PPM", 413.0)]


async def test_a_live_legacy_database_is_migrated_in_place(timescale_dsn: str) -> None:
    connection = await asyncpg.connect(timescale_dsn)
    try:
        await connection.execute("""
            create extension if not exists timescaledb;
            create schema iot;
            create table iot.sensor_readings (
                time timestamptz not null,
                greenhouse_id uuid not null,
                sensor_id uuid,
                sensor_type varchar(50),
                unit varchar(20),
                value double precision,
                metadata jsonb
            );
            select create_hypertable('iot.sensor_readings', by_range('time', interval '1 day'));
            alter table iot.sensor_readings set (
                timescaledb.enable_columnstore,
                timescaledb.segmentby = 'greenhouse_id, sensor_type'
            );
        """)
        await connection.execute(
            "call add_columnstore_policy('iot.sensor_readings', after => interval '7 days')"
        )
        await connection.execute(f"""
            insert into iot.sensor_readings (time, greenhouse_id, sensor_id, sensor_type, unit, value)
            select '2025-11-17T10:00Z'::timestamptz + n * interval '1 hour', '{GREENHOUSE}', '{SENSOR}',
                'TEMPERATURE', '°C', n
            from generate_series(0, 99) as n
        """)
        await connection.execute(
            "select compress_chunk(c) from show_chunks('iot.sensor_readings', '2025-11-20'::timestamptz) as c"
        )
        applied = await migrate(timescale_dsn, TIMESERIES)
        assert applied[0].version == "11"
        assert (
            await connection.fetchval("""
            select count(*) from iot.v_sensor_readings_denormalized
            where sensor_type = 'TEMPERATURE' and sensor_type_id is null
        """)
            == 100
        )
        assert await connection.fetchval("""
            select array_agg(config ->> 'compress_after') from timescaledb_information.jobs
            where hypertable_name = 'sensor_readings' and proc_name = 'policy_compression'
        """) == ["3 days"]
    finally:
        await connection.close()
    assert await verify(timescale_dsn, TIMESERIES) == []


async def test_what_the_delivery_tables_hold_to(iot: asyncpg.Connection[asyncpg.Record]) -> None:
    await iot.execute("insert into iot.ingest_sessions (client_id) values ('worker-1')")
    (session,) = await iot.fetch("select epoch, pending, filters from iot.ingest_sessions")
    assert tuple(session) == (0, b"", [])
    (shown,) = await iot.fetch("select pending_entries, age from iot.v_ingest_sessions")
    assert tuple(shown) == (0, None)
    await iot.execute("update iot.ingest_sessions set pending = $1, committed_at = now()", bytes(16))
    assert await iot.fetchval("select pending_entries from iot.v_ingest_sessions") == 2
    with pytest.raises(asyncpg.CheckViolationError):
        await iot.execute("update iot.ingest_sessions set pending = $1", bytes(7))
    await iot.execute("""
        insert into iot.ingest_dead_letters
            (received_at, client_id, topic, payload, payload_bytes, rejected, reasons, rejected_count)
        values
            ('2025-11-17T10:00Z', 'w', 'GREENHOUSE/SARA', '{}', 2,
             '[{"field": "A", "reason": "bad_value", "detail": "x"},
               {"field": "B", "reason": "bad_value", "detail": "y"},
               {"field": "C", "reason": "out_of_range", "detail": "6484.1"}]', '{bad_value,out_of_range}', 3),
            ('2025-11-17T11:00Z', 'w', 'GREENHOUSE/SARA', 'no', 2,
             '[{"field": null, "reason": "bad_payload", "detail": "not JSON"}]', '{bad_payload}', 1)
    """)
    summed = await iot.fetch("select * from iot.v_ingest_dead_letters_by_reason order by reason")
    assert [tuple(row)[:3] for row in summed] == [
        ("bad_payload", 1, 1),
        ("bad_value", 2, 1),
        ("out_of_range", 1, 1),
    ]
    assert summed[0]["first_received_at"] == summed[0]["last_received_at"]


async def test_plain_postgresql_takes_all_but_what_is_marked(postgres_dsn: str, migrated_dsn: str) -> None:
    connection = await asyncpg.connect(postgres_dsn)
    try:
        await create_timeseries_schema(connection)
        plain = {
            (row["table_name"], row["column_name"], row["data_type"])
            for row in await connection.fetch(
                "select table_name, column_name, data_type from information_schema.columns"
                " where table_schema = 'iot'"
            )
        }
        assert await connection.fetchval("select to_regclass('iot.sensor_readings_key')") is not None
    finally:
        await connection.close()
    timescale = {
        tuple(line.removeprefix("view ").split(" ", 2)[1].split(".")[1:])
        for line in await describe(migrated_dsn, TIMESERIES)
        if line.startswith(("column", "view column")) and "schema_history" not in line
    }
    # What is aggregated by TimescaleDB, and the views over that.
    aggregated = {table for table, _ in timescale if table.startswith("cagg_")} | set(AGGREGATE_VIEWS)
    assert {(table, column) for table, column, _ in plain} == {
        (table, column) for table, column in timescale if table not in aggregated
    }
