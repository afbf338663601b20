"""An installation for the acceptance tests: Mosquitto configured as shipped, a migrated database, a tenant.

Each test gets a broker, a tenant and client ids of its own; the database is made empty once a module.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from ingest.migrate import Database, migrate
from tests.acceptance.workers import WorkerProcess
from tests.conftest import EXTERNAL_TIMESERIES
from tests.servers import Mosquitto

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

ROOT = Path(__file__).parents[2]


class Greenhouse:
    """A tenant with one greenhouse, and what the tables say of it."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self._connection = connection
        self.tenant_id = uuid.uuid4()
        self.greenhouse_id = uuid.uuid4()
        self.prefix = f"T{uuid.uuid4().hex[:12].upper()}"
        self.code = f"G{uuid.uuid4().hex[:8]}"

    async def register(self) -> None:
        await self._connection.execute(
            "insert into metadata.tenants (id, name, mqtt_topic_prefix) values ($1, $2, $2)",
            self.tenant_id,
            self.prefix,
        )
        await self._connection.execute(
            "insert into metadata.greenhouses (id, tenant_id, name, greenhouse_code) values ($1, $2, $3, $3)",
            self.greenhouse_id,
            self.tenant_id,
            self.code,
        )

    @property
    def topic(self) -> str:
        """Where it publishes single readings of the type SENSOR, which has no limits."""
        return f"greenhouse/{self.greenhouse_id}/sensors/sensor"

    @property
    def map_topic(self) -> str:
        return f"GREENHOUSE/{self.prefix}"

    @property
    def filters(self) -> list[str]:
        """The filters that bring its messages, and nobody else's."""
        return [
            f"greenhouse/{self.greenhouse_id}/sensors/+",
            f"greenhouse/{self.greenhouse_id}/readings",
            f"GREENHOUSE/{self.prefix}/#",
        ]

    async def rows(self) -> list[asyncpg.Record]:
        return await self._connection.fetch(
            "select * from iot.sensor_readings where tenant_id = $1 order by time, value", self.tenant_id
        )

    async def count(self) -> int:
        count: int = await self._connection.fetchval(
            "select count(*) from iot.sensor_readings where tenant_id = $1", self.tenant_id
        )
        return count

    async def values(self) -> Counter[float]:
        """Give each stored value and how often it is there."""
        records = await self._connection.fetch(
            "select value from iot.sensor_readings where tenant_id = $1", self.tenant_id
        )
        return Counter(record["value"] for record in records)

    async def dead_letters(self, client_id: str) -> list[asyncpg.Record]:
        return await self._connection.fetch(
            "select * from iot.ingest_dead_letters where client_id = $1 order by dead_letter_id", client_id
        )

    async def counters(self, client_id: str) -> dict[str, int]:
        """Give both ledgers as stored; a counter that never moved is 0."""
        names: tuple[str, ...] = ("received", "committed", "skipped", "ignored")
        names += ("decoded", "written", "duplicate", "rejected", "null")
        records = await self._connection.fetch(
            "select counter, value from iot.ingest_counters where client_id = $1", client_id
        )
        return dict.fromkeys(names, 0) | {record["counter"]: record["value"] for record in records}

    async def fetchval(self, query: str, *arguments: object) -> Any:  # noqa: ANN401 (as asyncpg's)
        return await self._connection.fetchval(query, *arguments)


def shipped_broker(directory: Path, **settings: str | int) -> Mosquitto:
    """Make a Mosquitto with config/mosquitto.conf, except that everybody may log in and do anything."""
    rights = directory / "rights.acl"
    rights.write_text("topic readwrite #\n")
    logins = directory / "logins"
    logins.touch()
    given = {"allow_anonymous": "true", "password_file": str(logins), "acl_file": str(rights), **settings}
    return Mosquitto(ROOT / "config" / "mosquitto.conf", given)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with shipped_broker(tmp_path) as mosquitto:
        yield mosquitto


@pytest.fixture(scope="module")
def database(timescale_server: str) -> Iterator[str]:
    """DSN of a TimescaleDB with both schemas; one for the tests of a module."""
    name = None
    dsn = timescale_server
    if EXTERNAL_TIMESERIES in os.environ:
        name = f"ingest_test_{uuid.uuid4().hex[:12]}"
        asyncio.run(_execute(timescale_server, f"create database {name}"))
        dsn = urlunsplit(urlsplit(timescale_server)._replace(path=f"/{name}"))
    asyncio.run(_migrate(dsn, fresh=name is not None))
    yield dsn
    if name is not None:
        asyncio.run(_execute(timescale_server, f"drop database {name} with (force)"))


@pytest.fixture
async def connection(database: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """The test's own eyes on the database."""
    opened = await asyncpg.connect(database)
    yield opened
    await opened.close()


@pytest.fixture
async def greenhouse(connection: asyncpg.Connection[asyncpg.Record]) -> Greenhouse:
    """A registered tenant and greenhouse that no other test knows."""
    made = Greenhouse(connection)
    await made.register()
    return made


@pytest.fixture
def worker_of(
    tmp_path: Path, database: str, broker: Mosquitto, greenhouse: Greenhouse
) -> Iterator[Callable[..., WorkerProcess]]:
    """Make workers for the test's greenhouse; those still running at its end are killed."""
    made: list[WorkerProcess] = []

    def make(
        client_id: str = "",
        *,
        settings: Mapping[str, Mapping[str, object]] | None = None,
        fault: str | None = None,
        dsn: str = database,
        filters: list[str] | None = None,
    ) -> WorkerProcess:
        worker = WorkerProcess(
            tmp_path,
            broker_url=broker.url,
            dsn=dsn,
            filters=greenhouse.filters if filters is None else filters,
            client_id=client_id,
            settings=settings,
            fault=fault,
        )
        made.append(worker)
        return worker

    yield make
    for worker in made:
        worker.__exit__()


async def _migrate(dsn: str, *, fresh: bool) -> None:
    if not fresh:
        await _execute(dsn, "drop schema if exists iot cascade", "drop schema if exists metadata cascade")
    for each in Database:
        await migrate(dsn, each)


async def _execute(dsn: str, *statements: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()
