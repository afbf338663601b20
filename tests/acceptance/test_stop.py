"""Leaving and arriving: signals, a database or a broker that is not there, a client id used twice.

Whatever the order, nothing acknowledged is lost, nothing is stored twice, and no traceback is printed.
"""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING

from ingest.settings import WriteSettings
from tests.acceptance.conftest import Greenhouse
from tests.gateways import publish
from tests.servers import free_port, shipped_broker

if TYPE_CHECKING:
    from pathlib import Path

    from tests.acceptance.conftest import WorkerMaker
    from tests.servers import Mosquitto, PostgresCluster


AGES_S = 600.0
DEFAULT_DRAIN_S = WriteSettings().drain_timeout_s


async def test_stopped_under_load_and_started_again(
    greenhouse: Greenhouse, database: str, broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    count = 6_000
    worker = worker_of(greenhouse, database, broker.url)
    await worker.ready()
    publishing = asyncio.create_task(publish(broker.port, greenhouse.messages(range(count))))
    for goal in (500, 2_500):

        async def reached(goal: int = goal) -> bool:
            return await greenhouse.holds(goal)

        await worker.until(reached, f"{goal} rows")
        await worker.ready()
        await worker.stop()
        unproven = await greenhouse.fetchval(
            "select octet_length(pending) from iot.ingest_sessions where client_id = $1", worker.client_id
        )
        assert unproven == 0, "the broker has proved every PUBACK before the worker left"
        worker.never_traced_back()
        worker.start()
    await publishing
    await worker.until(lambda: greenhouse.holds(count), "all readings are stored")
    await worker.ready()
    await worker.stop()
    await greenhouse.holds_each_once(count)
    assert (await greenhouse.counters(worker.client_id))["skipped"] == 0


async def test_stopped_while_the_database_is_away(
    cluster: tuple[PostgresCluster, str], broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    server, dsn = cluster
    greenhouse = await Greenhouse.registered(dsn)
    settings = {"write": {"drain_timeout_s": 1.0}}
    worker = worker_of(greenhouse, dsn, broker.url, settings=settings)
    await worker.ready()
    await publish(broker.port, greenhouse.messages(range(100)))
    await worker.until(lambda: greenhouse.holds(100), "100 rows")
    server.stop()
    await publish(broker.port, greenhouse.messages(range(100, 300)))
    await worker.logged("database_fault")
    started_s = time.monotonic()
    await worker.stop()
    assert time.monotonic() - started_s < DEFAULT_DRAIN_S
    assert worker.events("left_to_the_broker")
    worker.never_traced_back()
    server.start()
    worker.start()
    await worker.until(lambda: greenhouse.holds(300), "all readings are stored")
    await worker.ready()
    await worker.stop()
    await greenhouse.holds_each_once(300)


async def test_a_second_signal_ends_it_at_once(
    cluster: tuple[PostgresCluster, str], broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    server, dsn = cluster
    greenhouse = await Greenhouse.registered(dsn)
    worker = worker_of(greenhouse, dsn, broker.url, settings={"write": {"drain_timeout_s": AGES_S}})
    await worker.ready()
    server.stop()
    await publish(broker.port, greenhouse.messages(range(50)))
    await worker.logged("database_fault")
    worker.signal(signal.SIGTERM)
    await worker.logged("worker_stopping")
    assert worker.running
    worker.signal(signal.SIGINT)
    assert await worker.exit_code() == 128 + signal.SIGINT
    server.start()
    worker.start()
    await worker.until(lambda: greenhouse.holds(50), "all readings are stored")
    await greenhouse.holds_each_once(50)


async def test_the_order_of_starting_does_not_matter(
    cluster: tuple[PostgresCluster, str], worker_of: WorkerMaker, tmp_path: Path
) -> None:
    server, dsn = cluster
    greenhouse = await Greenhouse.registered(dsn)
    server.stop()
    port = free_port()
    worker = worker_of(greenhouse, dsn, f"mqtt://127.0.0.1:{port}")
    await worker.not_ready_because("catalog: ")
    await worker.not_ready_because("database")
    server.start()
    await worker.not_ready_because(f"broker: cannot connect to 127.0.0.1:{port}")
    assert (await worker.get("/healthz"))[0] == 200
    with shipped_broker(tmp_path, port=port) as broker:
        await worker.ready()
        await publish(broker.port, greenhouse.messages(range(10)))
        await worker.until(lambda: greenhouse.holds(10), "10 rows")
        await worker.stop()
    worker.never_traced_back()


async def test_stopped_before_anything_answered(
    greenhouse: Greenhouse, database: str, worker_of: WorkerMaker
) -> None:
    """Whatever it waits for would take ages: it ends within the patience of a test."""
    settings: dict[str, dict[str, object]] = {
        "broker": {"connect_timeout_s": AGES_S, "reconnect_min_s": AGES_S, "reconnect_max_s": AGES_S},
        "write": {"connect_timeout_s": AGES_S, "retry_max_s": AGES_S, "drain_timeout_s": AGES_S},
    }
    nobody = f"mqtt://127.0.0.1:{free_port()}"
    worker = worker_of(greenhouse, database, nobody, settings=settings)
    await worker.logged("broker_unavailable")
    await worker.stop()
    away = f"postgresql://u@127.0.0.1:{free_port()}/d"
    unreachable = worker_of(greenhouse, away, nobody, settings=settings)
    await unreachable.logged("catalog_refresh_failed")
    await unreachable.stop()
    for each in (worker, unreachable):
        each.never_traced_back()


async def test_a_client_id_used_twice_stops_the_first(
    greenhouse: Greenhouse, database: str, broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    first = worker_of(greenhouse, database, broker.url)
    await first.ready()
    publishing = asyncio.create_task(publish(broker.port, greenhouse.messages(range(5_000))))
    await first.until(lambda: greenhouse.holds(200), "200 rows")
    second = worker_of(greenhouse, database, broker.url, client_id=first.client_id)
    assert await first.exit_code() == 2
    assert f"another process has claimed the session of client id '{first.client_id}'" in first.log_text
    first.never_traced_back()
    await publishing
    await second.until(lambda: greenhouse.holds(5_000), "all readings are stored")
    await second.ready()
    await second.stop()
    await greenhouse.holds_each_once(5_000)
