"""What tests leave in the one database of the embedded server is gone before the next test looks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg

from ingest.migrate import Database, verify
from tests.timescale import SoleDatabase, definitions

if TYPE_CHECKING:
    from ingest.embedded import EmbeddedDatabase

CONTENT = """
    select table_schema, table_name, query_to_xml(
        format('select * from %I.%I', table_schema, table_name), true, false, ''
    )::text
    from information_schema.tables
    where table_schema in ('iot', 'metadata') and table_type = 'BASE TABLE' and table_name <> 'schema_history'
    order by 1, 2
"""
LEFT_BEHIND = """
    select compress_chunk(c) from show_chunks('iot.sensor_readings') as c;
    insert into iot.ingest_sessions (client_id) values ('left');
    insert into metadata.tenants (name, mqtt_topic_prefix) values ('Sara', 'SARA');
    insert into metadata.units (symbol, name) values ('kPa', 'kilopascal');
    update metadata.sensor_types set max_value = 9999;
    delete from iot.units
"""


MADE_AT = "select min(applied_at) from iot.schema_history"
READING = """
    insert into iot.sensor_readings (time, greenhouse_id, tenant_id, sensor_type_id, unit_id, value)
    values (now() - interval '1 day', gen_random_uuid(), gen_random_uuid(), 1, 1, 1)
"""
CHANGES = (
    "alter table iot.ingest_sessions add mine int",
    "revoke insert on iot.sensor_readings from greenhouse_worker",
    "select set_chunk_time_interval('iot.sensor_readings', interval '2 days')",
    "comment on table iot.units is 'mine'",
    "create index mine on metadata.tenants (name)",
    "drop function iot.note_late_buckets",
    "delete from iot.schema_history where version = '17'",
    """
        select alter_job(job_id, scheduled => false)
        from timescaledb_information.jobs where proc_name = 'recompute_late_buckets'
    """,
)


async def test_rows_are_taken_back_and_definitions_made_anew(embedded_database: EmbeddedDatabase) -> None:
    sole = SoleDatabase(embedded_database.dsn)
    await sole.make()
    connection = await asyncpg.connect(sole.dsn)
    try:
        content = await connection.fetch(CONTENT)
        made_at = await connection.fetchval(MADE_AT)
        await connection.execute(READING)
        for statement in LEFT_BEHIND.strip().split(";\n"):
            await connection.execute(statement)
        await sole.make()
        assert await connection.fetchval(MADE_AT) == made_at, "nothing was migrated anew"
        assert await connection.fetch(CONTENT) == content
        known = await definitions(connection)
        for change in CHANGES:
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute(change)
            assert await definitions(connection) != known, change
            await transaction.rollback()
        await connection.execute(READING)
        await connection.execute(
            "call refresh_continuous_aggregate('iot.cagg_sensor_readings_hourly', null, null)"
        )
        await sole.make()
        assert await connection.fetchval(MADE_AT) > made_at
    finally:
        await connection.close()
    for database in Database:
        assert await verify(sole.dsn, database) == []
