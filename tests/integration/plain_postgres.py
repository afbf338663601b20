"""The timeseries schema on a PostgreSQL without TimescaleDB, for fault tests of the write path.

Applies the files of schema/timeseries without what they mark as TimescaleDB's. The product has no such mode.
"""

from __future__ import annotations

import re

import asyncpg

from ingest.migrate import Database, migrate, schema_folder
from ingest.migration_files import load_migrations, split_statements

_TIMESCALE_ONLY = re.compile(r"^-- timescaledb: begin$.*?^-- timescaledb: end$", re.MULTILINE | re.DOTALL)


def without_timescale(sql: str) -> str:
    return _TIMESCALE_ONLY.sub("", sql)


async def create_both_schemas(dsn: str) -> None:
    """Make an empty database one that a worker can use."""
    await migrate(dsn, Database.METADATA)
    connection = await asyncpg.connect(dsn)
    try:
        await create_timeseries_schema(connection)
    finally:
        await connection.close()


async def create_timeseries_schema(conn: asyncpg.Connection[asyncpg.Record]) -> None:
    """Create schema iot with every table, index and view that plain PostgreSQL can have."""
    for migration in load_migrations(schema_folder(Database.TIMESERIES)):
        for statement in split_statements(without_timescale(migration.path.read_text(encoding="utf-8"))):
            await conn.execute(statement.text)
