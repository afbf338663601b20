"""What a PostgreSQL server answers on a bad day, met by a running worker: it waits, and resumes by itself.

Read-only, out of connections, disk full, slow, shutting down, deadlocked, not serialisable. Each time every
reading is stored once, the operator is told the SQLSTATE, and nobody has to do anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import asyncpg
import pytest

from ingest.migrate import Database
from tests.acceptance.held_batch import arrive_behind_the_first
from tests.acceptance.small_disk import small_disk
from tests.gateways import publish
from tests.servers import PostgresCluster
from tests.templates import Templates
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.acceptance.conftest import Greenhouse, WorkerMaker
    from tests.acceptance.workers import WorkerProcess
    from tests.servers import Mosquitto

SETTINGS: dict[str, dict[str, object]] = {
    "write": {
        "commit_timeout_s": 2.0,
        "retry_max_s": 0.3,
        "max_batch_rows": 200,
        "max_buffered_messages": 500,
    }
}
PATIENT: dict[str, dict[str, object]] = {"write": {"retry_max_s": 0.3, "max_batch_rows": 200}}
"""With the deadline of an installation, for a worker that is held up while the test does something else."""
MAX_CONNECTIONS = 20
MEBIBYTE = 1024 * 1024


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresCluster]:
    """A PostgreSQL that the module's tests may take to its limits, and leave running."""
    with PostgresCluster({"max_connections": MAX_CONNECTIONS}) as started:
        yield started


@pytest.fixture(scope="module")
def templates_there(server: PostgresCluster) -> Templates:
    return Templates(server)


@pytest.fixture
def greenhouse_dsn(templates_there: Templates) -> str:
    return templates_there.copy(*Database)


@pytest.fixture
async def operator(greenhouse: Greenhouse) -> AsyncIterator[asyncpg.Connection]:
    """A connection of the one who causes and mends it."""
    connection = await asyncpg.connect(greenhouse.dsn)
    yield connection
    await connection.close()


async def end_writer(operator: asyncpg.Connection) -> None:
    """End the worker's connection, so that it comes back to what has changed."""
    await operator.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where datname = current_database() and application_name like 'greenhouse-ingest writer%'"
    )


def database(greenhouse: Greenhouse) -> str:
    return urlsplit(greenhouse.dsn).path.removeprefix("/")


def is_told(worker: WorkerProcess, sqlstate: str) -> bool:
    return any(f"SQLSTATE {sqlstate})" in event["error"] for event in worker.events("database_fault"))


async def told(worker: WorkerProcess, sqlstate: str) -> None:
    """Wait until log, readiness and metrics name the fault."""

    await worker.until(lambda: is_told(worker, sqlstate), f"SQLSTATE {sqlstate} is logged")
    retries = f'ingest_retries_total{{sqlstate_class="{sqlstate[:2]}"}}'
    assert (await worker.metrics())[retries] >= 1


async def recovered(worker: WorkerProcess, greenhouse: Greenhouse, count: int) -> None:
    """Wait until all *count* readings are stored, then have the worker leave; each must be there once."""
    await worker.until(lambda: greenhouse.holds(count), "all readings are stored")
    await worker.ready()
    await worker.stop()
    await greenhouse.holds_each_once(count)
    assert worker.events("database_recovered")
    worker.never_traced_back()


async def test_read_only(
    greenhouse: Greenhouse, operator: asyncpg.Connection, broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    """As a standby is, until it is promoted; for so long that the buffer is full, and memory stays flat."""
    worker = worker_of(greenhouse, greenhouse.dsn, broker.url, settings=SETTINGS)
    await worker.ready()
    await publish(broker.port, greenhouse.messages(range(2_000)))
    await worker.until(lambda: greenhouse.holds(2_000), "2 000 rows")
    before_bytes = worker.rss_bytes
    await operator.execute(f"alter database {database(greenhouse)} set default_transaction_read_only = on")
    await end_writer(operator)
    await publish(broker.port, greenhouse.messages(range(2_000, 20_000), note="x" * 1_000))
    await told(worker, "25006")
    await worker.not_ready_because("SQLSTATE 25006")
    await worker.logged("intake_paused")
    assert worker.rss_bytes < before_bytes + 16 * MEBIBYTE
    await operator.execute("set default_transaction_read_only = off")
    await operator.execute(f"alter database {database(greenhouse)} reset default_transaction_read_only")
    await recovered(worker, greenhouse, 20_000)


async def test_out_of_connections(
    greenhouse: Greenhouse, operator: asyncpg.Connection, broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    worker = worker_of(greenhouse, greenhouse.dsn, broker.url, settings=SETTINGS)
    await worker.ready()
    hogs: list[asyncpg.Connection] = []

    async def crowded_out() -> bool:
        """Take every slot that is free, also that of the writer, which comes back for it."""
        await end_writer(operator)
        with contextlib.suppress(asyncpg.TooManyConnectionsError):
            while True:
                hogs.append(await asyncpg.connect(greenhouse.dsn))
        return is_told(worker, "53300")

    publishing = asyncio.create_task(publish(broker.port, greenhouse.messages(range(1_000))))
    await worker.until(crowded_out, "there is no slot left for the writer")
    await publishing
    for hog in hogs:
        await hog.close()
    await told(worker, "53300")
    await recovered(worker, greenhouse, 1_000)


async def test_disk_full(
    greenhouse: Greenhouse,
    operator: asyncpg.Connection,
    server: PostgresCluster,
    broker: Mosquitto,
    worker_of: WorkerMaker,
) -> None:
    async with small_disk(server, operator) as disk:
        worker = worker_of(greenhouse, greenhouse.dsn, broker.url, settings=SETTINGS)
        await worker.ready()
        await publish(broker.port, greenhouse.messages(range(200)))
        await worker.until(lambda: greenhouse.holds(200), "200 rows")
        await disk.fill()
        await publish(broker.port, greenhouse.messages(range(200, 3_000), note="x" * 500))
        await told(worker, "53100")
        await disk.free()
        await recovered(worker, greenhouse, 3_000)


async def test_slow_and_then_too_slow(
    greenhouse: Greenhouse, operator: asyncpg.Connection, broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    """Slow makes larger batches; slower than write.commit_timeout_s is a fault, and the next try the same."""
    await operator.execute(
        """
        create table iot.delay (seconds double precision);
        insert into iot.delay values (0.5);
        create function iot.wait() returns trigger language plpgsql as $$
        begin
            perform pg_sleep((select seconds from iot.delay));
            return null;
        end $$;
        create trigger wait before insert on iot.sensor_readings
            for each statement execute function iot.wait();
        """
    )
    settings: dict[str, dict[str, object]] = {"write": {"commit_timeout_s": 6.0, "retry_max_s": 0.3}}
    worker = worker_of(greenhouse, greenhouse.dsn, broker.url, settings=settings)
    await worker.ready()
    await arrive_behind_the_first(worker, greenhouse, broker, greenhouse.messages(range(2_000)))
    await worker.until(lambda: greenhouse.holds(2_000), "2 000 rows")
    assert (await worker.metrics())['ingest_batches_total{result="straight"}'] == 2
    assert not worker.events("database_fault")
    await operator.execute("update iot.delay set seconds = 30")
    await publish(broker.port, greenhouse.messages(range(2_000, 2_500)))
    await told_of_silence(worker)
    await operator.execute("update iot.delay set seconds = 0")
    await recovered(worker, greenhouse, 2_500)


async def told_of_silence(worker: WorkerProcess) -> None:
    """Wait for a fault by either deadline: the server's on the statement, or the worker's own."""

    def logged() -> bool:
        return any(
            "SQLSTATE 57014" in event["error"] or "did not answer in time" in event["error"]
            for event in worker.events("database_fault")
        )

    await worker.until(logged, "the deadline is logged")


async def test_shutting_down(
    greenhouse: Greenhouse,
    operator: asyncpg.Connection,
    server: PostgresCluster,
    broker: Mosquitto,
    worker_of: WorkerMaker,
) -> None:
    """A smart shutdown lets nobody in (57P03) and ends when its last client leaves."""
    worker = worker_of(greenhouse, greenhouse.dsn, broker.url, settings=SETTINGS)
    await worker.ready()
    await publish(broker.port, greenhouse.messages(range(200)))
    await worker.until(lambda: greenhouse.holds(200), "200 rows")
    server.signal(signal.SIGTERM)
    publishing = asyncio.create_task(publish(broker.port, greenhouse.messages(range(200, 1_000))))

    async def refused() -> bool:
        await end_writer(operator)
        return is_told(worker, "57P03")

    await worker.until(refused, "the server lets nobody in")
    await publishing
    await told(worker, "57P03")
    await operator.close()
    await asyncio.to_thread(server.stop)
    await asyncio.to_thread(server.start)
    await recovered(worker, greenhouse, 1_000)


async def test_backends_ended_again_and_again(
    greenhouse: Greenhouse, operator: asyncpg.Connection, broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    settings: dict[str, dict[str, object]] = {"write": {"max_batch_rows": 50, "retry_max_s": 0.1}}
    worker = worker_of(greenhouse, greenhouse.dsn, broker.url, settings=settings)
    await worker.ready()
    publishing = asyncio.create_task(publish(broker.port, greenhouse.messages(range(8_000))))
    ended_s = time.monotonic() + 3
    while time.monotonic() < ended_s:
        await end_writer(operator)
        await asyncio.sleep(0.05)
    await publishing
    await recovered(worker, greenhouse, 8_000)


async def test_deadlock(
    greenhouse: Greenhouse, operator: asyncpg.Connection, broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    worker = worker_of(greenhouse, greenhouse.dsn, broker.url, settings=PATIENT)
    await worker.ready()
    await operator.execute("set deadlock_timeout = '1min'")  # so that the worker is the one to be ended
    count = 0

    async def met() -> bool:
        """Try once more where the worker had looked for a deadlock before the operator was in it."""
        nonlocal count
        if is_told(worker, "40P01"):
            return True
        async with operator.transaction():
            await operator.execute("select * from iot.ingest_sessions for update")
            await publish(broker.port, greenhouse.messages(range(count, count + 500)))
            count += 500
            await blocked(operator)
            await operator.execute("lock table iot.sensor_readings in access exclusive mode")
        return False

    await worker.until(met, "the worker is ended in a deadlock")
    await told(worker, "40P01")
    await recovered(worker, greenhouse, count)


async def test_not_serialisable(
    greenhouse: Greenhouse, operator: asyncpg.Connection, broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    """A server may be set to a stricter isolation than ours; then a concurrent update ends a transaction."""
    await operator.execute(
        f"alter database {database(greenhouse)} set default_transaction_isolation = 'repeatable read'"
    )
    worker = worker_of(greenhouse, greenhouse.dsn, broker.url, settings=PATIENT)
    await worker.ready()
    async with operator.transaction():
        await operator.execute("update iot.ingest_sessions set committed_at = now()")
        await publish(broker.port, greenhouse.messages(range(500)))
        await blocked(operator)
    await told(worker, "40001")
    await recovered(worker, greenhouse, 500)


async def blocked(operator: asyncpg.Connection) -> None:
    """Wait until the worker waits for a lock."""

    async def waits() -> bool:
        return bool(await operator.fetchval("select count(*) from pg_locks where not granted"))

    await until(waits, "the worker waits for a lock")
