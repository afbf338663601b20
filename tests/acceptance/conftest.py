"""An installation for the acceptance tests: Mosquitto configured as shipped, a migrated database, a tenant.

Each test gets a broker, a tenant and client ids of its own; the database is made empty once a module.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol, Self

import asyncpg
import pytest

from ingest.migrate import Database, migrate
from ingest.write import Counts
from tests.acceptance.command_line import CommandLine
from tests.acceptance.maintained_rows import Rows
from tests.acceptance.workers import WorkerProcess
from tests.gateways import Message
from tests.servers import PostgresCluster, shipped_broker
from tests.templates import Templates

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from pathlib import Path

    from tests.servers import Mosquitto
    from tests.timescale import SoleDatabase


class Greenhouse:
    """A tenant with one greenhouse, and what the tables say of it; connects anew for each question."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self._made_ms = time.time_ns() // 1_000_000
        self.tenant_id = uuid.uuid4()
        self.greenhouse_id = uuid.uuid4()
        self.prefix = f"T{uuid.uuid4().hex[:12].upper()}"
        self.code = f"G{uuid.uuid4().hex[:8]}"

    @classmethod
    async def registered(cls, dsn: str) -> Self:
        """Make one that the catalog knows."""
        made = cls(dsn)
        await made.register()
        return made

    async def register(self) -> None:
        await self.fetch(
            "insert into metadata.tenants (id, name, mqtt_topic_prefix) values ($1, $2, $2)",
            self.tenant_id,
            self.prefix,
        )
        await self.fetch(
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

    async def count(self) -> int:
        return int(
            await self.fetchval(
                "select count(*) from iot.sensor_readings where tenant_id = $1", self.tenant_id
            )
        )

    async def holds(self, count: int) -> bool:
        return await self.count() >= count

    async def values(self) -> Counter[float]:
        """Give each stored value and how often it is there."""
        records = await self.fetch(
            "select value from iot.sensor_readings where tenant_id = $1", self.tenant_id
        )
        return Counter(record["value"] for record in records)

    async def holds_each_once(self, count: int) -> None:
        """Expect the values 0 to *count* - 1, each in one row."""
        expected = Counter(float(number) for number in range(count))
        stored = await self.values()
        assert not expected - stored, f"lost: {sorted((expected - stored).elements())[:20]}"
        assert not stored - expected, f"twice: {sorted((stored - expected).elements())[:20]}"

    def messages(self, numbers: range, *, note: str = "") -> list[Message]:
        """Even numbers as readings with their time, odd ones as flat maps without; each its own value."""
        return [
            Message(self.map_topic, json.dumps({"SENSOR_01": number}).encode())
            if number % 2
            else Message(
                self.topic,
                json.dumps(
                    {
                        "sensor_id": "S1",
                        "value": number,
                        "timestamp": self._made_ms - number,
                        "metadata": {"note": note},
                    }
                ).encode(),
            )
            for number in numbers
        ]

    async def dead_letters(self, client_id: str) -> list[asyncpg.Record]:
        return await self.fetch(
            "select * from iot.ingest_dead_letters where client_id = $1 order by dead_letter_id", client_id
        )

    async def counters(self, client_id: str) -> dict[str, int]:
        """Give both ledgers as stored; a counter that never moved is 0."""
        records = await self.fetch(
            "select counter, value from iot.ingest_counters where client_id = $1", client_id
        )
        return Counts().as_dict() | {record["counter"]: record["value"] for record in records}

    async def fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self.dsn)
        try:
            return await connection.fetch(query, *arguments)
        finally:
            await connection.close()

    async def fetchval(self, query: str, *arguments: object) -> Any:  # noqa: ANN401 (as asyncpg's)
        return (await self.fetch(query, *arguments))[0][0]


@pytest.fixture
def ingest(tmp_path: Path) -> CommandLine:
    """The command line in a directory of its own, told of no database."""
    return CommandLine(tmp_path)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with shipped_broker(tmp_path) as mosquitto:
        yield mosquitto


@pytest.fixture(scope="module")
def database(request: pytest.FixtureRequest, sole_database: SoleDatabase | None) -> str:
    """DSN of a TimescaleDB with both schemas; one for the tests of a module."""
    if sole_database is not None:
        asyncio.run(sole_database.make())
        return sole_database.dsn
    dsn = str(request.getfixturevalue("module_timescale_dsn"))
    for each in Database:
        asyncio.run(migrate(dsn, each))
    return dsn


@pytest.fixture
async def connection(database: str) -> AsyncIterator[asyncpg.Connection]:
    """The test's own eyes on the database."""
    opened = await asyncpg.connect(database)
    yield opened
    await opened.close()


@pytest.fixture
def greenhouse_dsn(request: pytest.FixtureRequest) -> str:
    """Where `greenhouse` is: on plain PostgreSQL in a test that uses `plain_dsn`, else on TimescaleDB."""
    return str(request.getfixturevalue("plain_dsn" if "plain_dsn" in request.fixturenames else "database"))


@pytest.fixture
async def greenhouse(greenhouse_dsn: str) -> Greenhouse:
    """A registered tenant and greenhouse that no other test knows."""
    return await Greenhouse.registered(greenhouse_dsn)


@pytest.fixture
async def rows(connection: asyncpg.Connection, greenhouse: Greenhouse) -> AsyncIterator[Rows]:
    """Readings of `greenhouse`, away with all that tests of them leave when one ends."""
    made = Rows(connection, greenhouse)
    yield made
    await made.clear()


@pytest.fixture(scope="session")
def stoppable() -> Iterator[tuple[PostgresCluster, Templates]]:
    with PostgresCluster() as started:
        yield started, Templates(started)


@pytest.fixture
def cluster(stoppable: tuple[PostgresCluster, Templates]) -> Iterator[tuple[PostgresCluster, str]]:
    """A PostgreSQL that the test may stop, and the DSN of a database with both schemas on it."""
    server, templates = stoppable
    dsn = templates.copy(*Database)
    yield server, dsn
    server.restart()
    templates.drop(dsn)


class WorkerMaker(Protocol):
    """Makes workers of the test; see `worker_of`."""

    def __call__(
        self,
        greenhouse: Greenhouse,
        dsn: str,
        broker_url: str,
        *,
        client_id: str = "",
        filters: list[str] | None = None,
        metadata_dsn: str = "",
        settings: Mapping[str, Mapping[str, object]] | None = None,
        fault: str | None = None,
    ) -> WorkerProcess: ...


@pytest.fixture
def worker_of(tmp_path: Path) -> Iterator[WorkerMaker]:
    """Make workers for a greenhouse, started; those still running at the test's end are killed."""
    made: list[WorkerProcess] = []

    def make(
        greenhouse: Greenhouse,
        dsn: str,
        broker_url: str,
        *,
        client_id: str = "",
        filters: list[str] | None = None,
        metadata_dsn: str = "",
        settings: Mapping[str, Mapping[str, object]] | None = None,
        fault: str | None = None,
    ) -> WorkerProcess:
        worker = WorkerProcess(
            tmp_path,
            broker_url=broker_url,
            dsn=dsn,
            filters=filters or greenhouse.filters,
            client_id=client_id,
            metadata_dsn=metadata_dsn,
            settings=settings,
            fault=fault,
        )
        made.append(worker)
        worker.start()
        return worker

    yield make
    for worker in made:
        worker.__exit__()
