"""Clients of the embedded database: connections, and tables of their own."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import asyncpg

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ingest.embedded import EmbeddedDatabase

START = datetime(2025, 3, 1, tzinfo=UTC)
COPY_ROWS = 20_000


@asynccontextmanager
async def connected(database: EmbeddedDatabase, **settings: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.dsn, server_settings=settings)
    try:
        yield connection
    finally:
        await connection.close(timeout=10)


def unique(prefix: str) -> str:
    return f"{prefix}_{uuid4().hex[:10]}"


async def new_table(database: EmbeddedDatabase, columns: str = "id int primary key") -> str:
    name = unique("t")
    async with connected(database) as connection:
        await connection.execute(f"create table {name} ({columns})")
    return name


def readings(count: int, start: datetime = START) -> list[tuple[datetime, UUID, UUID, int, float]]:
    greenhouse = UUID(int=1)
    sensors = [UUID(int=100 + i) for i in range(50)]
    return [
        (start + timedelta(seconds=i), greenhouse, sensors[i % 50], 1 + i % 11, i / 10) for i in range(count)
    ]


async def new_hypertable(connection: asyncpg.Connection) -> str:
    name = unique("readings")
    await connection.execute(f"""
        create table {name} (
            time timestamptz not null, greenhouse_id uuid not null, sensor_id uuid,
            sensor_type_id smallint not null, value double precision
        );
        select create_hypertable('{name}', 'time', chunk_time_interval => interval '1 day');
        alter table {name} set (
            timescaledb.compress, timescaledb.compress_segmentby = 'greenhouse_id, sensor_type_id',
            timescaledb.compress_orderby = 'time desc, sensor_id'
        );
        create unique index on {name} (greenhouse_id, sensor_type_id, time desc, sensor_id);
    """)
    return name


_LEFT = """
    select c.oid::regclass::text
    from pg_class as c
    where c.relnamespace = 'public'::regnamespace
        and c.relkind = 'r'
        and not exists (select from pg_depend as d where d.objid = c.oid and d.deptype = 'e')
"""


async def drop_tables(database: EmbeddedDatabase) -> None:
    """Drop every table of schema public that no extension brought, and what depends on it."""
    async with connected(database) as connection:
        for (table,) in await connection.fetch(_LEFT):
            await connection.execute(f"drop table {table} cascade")


COLUMNS = ["time", "greenhouse_id", "sensor_id", "sensor_type_id", "value"]
