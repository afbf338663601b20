"""The database of a soak: one of its own on a TimescaleDB that is there, else a private PostgreSQL."""

from __future__ import annotations

import contextlib
import uuid
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from ingest.migrate import Database, migrate
from tests.integration.plain_postgres import create_both_schemas
from tests.servers import PostgresCluster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Ground(NamedTuple):
    """A migrated database, and its server where that is private and may be broken."""

    dsn: str
    server: PostgresCluster | None
    says: str


@contextlib.asynccontextmanager
async def ground(timescale: str | None) -> AsyncIterator[Ground]:
    """Make a database with both schemas; one on *timescale*, a DSN, is dropped in the end."""
    if timescale is None:
        with PostgresCluster() as server:
            dsn = server.create_database()
            await create_both_schemas(dsn)
            yield Ground(dsn, server, "PostgreSQL, no TimescaleDB")
        return
    name = f"ingest_soak_{uuid.uuid4().hex[:12]}"
    await _execute(timescale, f"create database {name}")
    dsn = urlunsplit(urlsplit(timescale)._replace(path=f"/{name}"))
    try:
        for database in Database:
            await migrate(dsn, database)
        yield Ground(dsn, None, "TimescaleDB")
    finally:
        await _execute(timescale, f"drop database {name} with (force)")


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
