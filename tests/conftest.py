"""Servers and databases for the tests: each test gets a database of its own, or one made empty.

The servers are started once a run, on free loopback ports. A missing one fails the test, it never skips it.
"""

from __future__ import annotations

import asyncio
import os
import threading
import uuid
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from ingest.embedded.database import EmbeddedDatabase
from ingest.migrate import Database, migrate
from tests.fuzzing import load_profile
from tests.servers import PostgresCluster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

EXTERNAL_TIMESERIES = "INGEST_TEST_TIMESERIES_DSN"

load_profile()


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[PostgresCluster]:
    """A PostgreSQL server for the whole run; tests that stop or kill one start their own."""
    with PostgresCluster() as cluster:
        yield cluster


@pytest.fixture
def postgres_dsn(postgres_cluster: PostgresCluster) -> Iterator[str]:
    """An empty database on plain PostgreSQL."""
    dsn = postgres_cluster.create_database()
    yield dsn
    postgres_cluster.drop_database(urlsplit(dsn).path.removeprefix("/"))


class _EmbeddedServer(threading.Thread):
    """Keeps the embedded TimescaleDB supervised by a loop that runs while no test does."""

    def __init__(self) -> None:
        super().__init__(name="embedded-timescale")
        self.dsn = ""
        self.failure: BaseException | None = None
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()

    def run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._serve())
        except BaseException as error:  # noqa: BLE001 -- handed to the thread that waits
            self.failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        async with EmbeddedDatabase() as database:
            self.dsn = database.dsn
            self._ready.set()
            await self._stopped.wait()

    def __enter__(self) -> str:
        self.start()
        self._ready.wait()
        if self.failure is not None:
            raise self.failure
        return self.dsn

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self.join()


@pytest.fixture(scope="session")
def timescale_server() -> Iterator[str]:
    """DSN of a TimescaleDB: the one named in the environment, else the embedded one."""
    if external := os.environ.get(EXTERNAL_TIMESERIES):
        yield external
    else:
        with _EmbeddedServer() as dsn:
            yield dsn


@pytest.fixture
async def timescale_dsn(timescale_server: str) -> AsyncIterator[str]:
    """An empty database on TimescaleDB: a new one, or the embedded server's with our schemas dropped."""
    if EXTERNAL_TIMESERIES not in os.environ:
        await _execute(
            timescale_server, "drop schema if exists iot cascade", "drop schema if exists metadata cascade"
        )
        yield timescale_server
        return
    name = f"ingest_test_{uuid.uuid4().hex[:12]}"
    await _execute(timescale_server, f"create database {name}")
    yield urlunsplit(urlsplit(timescale_server)._replace(path=f"/{name}"))
    await _execute(timescale_server, f"drop database {name} with (force)")


@pytest.fixture
async def migrated_dsn(timescale_dsn: str) -> str:
    """A TimescaleDB database with both schemas, as the files make them."""
    for database in Database:
        await migrate(timescale_dsn, database)
    return timescale_dsn


async def _execute(dsn: str, *statements: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()
