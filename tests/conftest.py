"""Servers and databases for the tests: each test gets a database of its own, or one made empty.

The servers are started once a run, on free loopback ports. A missing one fails the test, it never skips it.
"""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import pytest

from ingest.embedded.database import EmbeddedDatabase
from ingest.migrate import Database, migrate
from tests.certificates import Authority
from tests.fuzzing import load_profile
from tests.postgres_programs import memory
from tests.servers import PostgresCluster
from tests.statements import execute
from tests.templates import Templates
from tests.timescale import SoleDatabase

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

EXTERNAL_TIMESERIES = "INGEST_TEST_TIMESERIES_DSN"

load_profile()
PostgresCluster.place = memory()
gc.set_threshold(100_000, 20, 20)  # as `ingest` does: 3 600 tests are objects that stay


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


@pytest.fixture(scope="session")
def templates(postgres_cluster: PostgresCluster) -> Templates:
    """Migrated databases of the run's PostgreSQL, to copy."""
    return Templates(postgres_cluster)


@pytest.fixture
def metadata_dsn(templates: Templates) -> Iterator[str]:
    """A database on plain PostgreSQL with schema metadata."""
    dsn = templates.copy(Database.METADATA)
    yield dsn
    templates.drop(dsn)


@pytest.fixture
def timeseries_dsn(templates: Templates) -> Iterator[str]:
    """A database on plain PostgreSQL with schema iot, without what is TimescaleDB's."""
    dsn = templates.copy(Database.TIMESERIES)
    yield dsn
    templates.drop(dsn)


@pytest.fixture
def plain_dsn(templates: Templates) -> Iterator[str]:
    """A database with both schemas on the run's PostgreSQL, which no test may stop."""
    dsn = templates.copy(*Database)
    yield dsn
    templates.drop(dsn)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who signs certificates that a test trusts."""
    return Authority(tmp_path_factory.mktemp("authority"), "ours")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who signs others."""
    return Authority(tmp_path_factory.mktemp("stranger"), "theirs")


class _EmbeddedServer(threading.Thread):
    """Keeps the embedded TimescaleDB supervised by a loop that runs while no test does."""

    def __init__(self) -> None:
        super().__init__(name="embedded-timescale")
        self.database: EmbeddedDatabase | None = None
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
            self.database = database
            self._ready.set()
            await self._stopped.wait()

    def __enter__(self) -> EmbeddedDatabase:
        self.start()
        self._ready.wait()
        if self.failure is not None:
            raise self.failure
        assert self.database is not None
        return self.database

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self.join()


@pytest.fixture(scope="session")
def embedded_database() -> Iterator[EmbeddedDatabase]:
    """The embedded TimescaleDB of the run."""
    with _EmbeddedServer() as database:
        yield database


@pytest.fixture(scope="session")
def timescale_server(request: pytest.FixtureRequest) -> str:
    """DSN of a TimescaleDB: the one named in the environment, else the embedded one."""
    if external := os.environ.get(EXTERNAL_TIMESERIES):
        return external
    return str(request.getfixturevalue("embedded_database").dsn)


@pytest.fixture(scope="session")
def sole_database(timescale_server: str) -> SoleDatabase | None:
    """The database of a server that has but one."""
    return None if EXTERNAL_TIMESERIES in os.environ else SoleDatabase(timescale_server)


@pytest.fixture
async def timescale_dsn(timescale_server: str, sole_database: SoleDatabase | None) -> AsyncIterator[str]:
    """An empty database on TimescaleDB: a new one, or the embedded server's with our schemas dropped."""
    if sole_database is not None:
        await sole_database.empty()
        yield sole_database.dsn
        return
    async with _new_database(timescale_server) as dsn:
        yield dsn


@pytest.fixture(scope="module")
def module_timescale_dsn(timescale_server: str, sole_database: SoleDatabase | None) -> Iterator[str]:
    """As `timescale_dsn`, one for the tests of a module."""
    if sole_database is not None:
        asyncio.run(sole_database.empty())
        yield sole_database.dsn
        return
    name = _unused_name()
    asyncio.run(execute(timescale_server, f"create database {name}"))
    yield _of_name(timescale_server, name)
    asyncio.run(execute(timescale_server, f"drop database {name} with (force)"))


@pytest.fixture
async def migrated_dsn(timescale_server: str, sole_database: SoleDatabase | None) -> AsyncIterator[str]:
    """A TimescaleDB database with both schemas, as the files make them."""
    if sole_database is not None:
        await sole_database.make()
        yield sole_database.dsn
        return
    async with _new_database(timescale_server) as dsn:
        for database in Database:
            await migrate(dsn, database)
        yield dsn


@asynccontextmanager
async def _new_database(server: str) -> AsyncIterator[str]:
    name = _unused_name()
    await execute(server, f"create database {name}")
    yield _of_name(server, name)
    await execute(server, f"drop database {name} with (force)")


def _unused_name() -> str:
    return f"ingest_test_{uuid.uuid4().hex[:12]}"


def _of_name(dsn: str, name: str) -> str:
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))
