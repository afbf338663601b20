"""Databases on plain PostgreSQL that are migrated once and copied for each test that begins so.

A copy takes a third of the time of the migrations. It lacks what is granted on a database itself (CONNECT and
TEMPORARY, which PUBLIC has anyway): what tests roles and migrations runs the migrations.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import asyncpg

from ingest.migrate import Database, migrate
from tests.integration.plain_postgres import create_timeseries_schema

if TYPE_CHECKING:
    from tests.servers import PostgresCluster


class Templates:
    """The templates of one server, each made when it is first asked for; nobody may be connected to one."""

    def __init__(self, cluster: PostgresCluster) -> None:
        self._cluster = cluster
        self._names: dict[frozenset[Database], str] = {}

    def copy(self, *schemas: Database) -> str:
        """Give the DSN of a new database with *schemas*; iot without what is TimescaleDB's.

        Not to be called while an event loop runs: a fixture that wants one is no coroutine.
        """
        wanted = frozenset(schemas)
        if wanted not in self._names:
            dsn = self._cluster.create_database()
            asyncio.run(_make(dsn, wanted))
            self._names[wanted] = urlsplit(dsn).path.removeprefix("/")
        return self._cluster.create_database(template=self._names[wanted])

    def drop(self, dsn: str) -> None:
        """Drop a copy, cutting off who is still connected."""
        self._cluster.drop_database(urlsplit(dsn).path.removeprefix("/"))


async def _make(dsn: str, schemas: frozenset[Database]) -> None:
    if Database.METADATA in schemas:
        await migrate(dsn, Database.METADATA)
    if Database.TIMESERIES in schemas:
        connection = await asyncpg.connect(dsn)
        try:
            await create_timeseries_schema(connection)
        finally:
            await connection.close()
