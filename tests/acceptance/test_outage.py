"""Outages under load: the database, the broker and the network go away and come back.

Nothing is lost, nothing is stored twice, memory stays bounded, and nobody has to do anything.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from tests.acceptance.conftest import Greenhouse
from tests.gateways import Message, publish
from tests.proxy import Proxy

if TYPE_CHECKING:
    from tests.acceptance.conftest import WorkerMaker
    from tests.servers import Mosquitto, PostgresCluster

NOTE = "x" * 4_000
"""Makes a read of 1 MiB about 500 messages, half of them maps without it."""


async def test_a_database_away_for_longer_than_the_keepalive_time(
    cluster: tuple[PostgresCluster, str], broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    server, dsn = cluster
    greenhouse = await Greenhouse.registered(dsn)
    settings: dict[str, dict[str, object]] = {
        "write": {"max_buffered_messages": 300, "retry_max_s": 0.5},
        "broker": {"keepalive_s": 5},
    }
    worker = worker_of(greenhouse, dsn, broker.url, settings=settings)
    await worker.ready()
    await publish(broker.port, greenhouse.messages(range(500)))
    await worker.until(lambda: greenhouse.holds(500), "500 rows")
    server.stop()
    await publish(broker.port, greenhouse.messages(range(500, 8_500), note=NOTE))

    async def full() -> bool:
        return (await worker.metrics())["ingest_in_flight_messages"] >= 300

    await worker.until(full, "the buffer is full")
    await worker.not_ready_because("database: ")
    in_flight = (await worker.metrics())["ingest_in_flight_messages"]
    assert in_flight <= 300 + 1_100
    await worker.logged("broker_unavailable")  # on purpose: its PINGRESPs are not read
    assert (await worker.metrics())["ingest_in_flight_messages"] == in_flight
    assert (await worker.get("/healthz"))[0] == 200
    await asyncio.to_thread(server.start)
    await worker.until(lambda: greenhouse.holds(8_500), "all readings are stored", patience_s=60)
    await worker.ready()
    await worker.stop()
    await greenhouse.holds_each_once(8_500)
    assert worker.events("database_recovered")
    worker.never_traced_back()


async def test_a_database_killed_again_and_again(
    cluster: tuple[PostgresCluster, str], broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    count = 6_000
    server, dsn = cluster
    greenhouse = await Greenhouse.registered(dsn)
    worker = worker_of(greenhouse, dsn, broker.url, settings={"write": {"max_batch_rows": 100}})
    await worker.ready()
    publishing = asyncio.create_task(publish(broker.port, greenhouse.messages(range(count))))
    for goal in (700, 2_300, 4_100):

        async def reached(goal: int = goal) -> bool:
            return await greenhouse.holds(goal)

        await worker.until(reached, f"{goal} rows")
        server.kill9()
        await asyncio.to_thread(server.start)
    await publishing
    await worker.until(lambda: greenhouse.holds(count), "all readings are stored")
    await worker.ready()
    await worker.stop()
    await greenhouse.holds_each_once(count)
    worker.never_traced_back()


async def test_a_broker_restarted_under_load(
    greenhouse: Greenhouse, database: str, broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    worker = worker_of(greenhouse, database, broker.url, settings={"write": {"max_batch_rows": 100}})
    await worker.ready()
    for turn in range(3):
        start = turn * 2_000
        await publish(broker.port, greenhouse.messages(range(start, start + 2_000)))
        await asyncio.to_thread(broker.restart)
    await worker.until(lambda: greenhouse.holds(6_000), "all readings are stored")
    await worker.ready()
    await worker.stop()
    await greenhouse.holds_each_once(6_000)
    worker.never_traced_back()


async def test_a_network_that_breaks_again_and_again(
    greenhouse: Greenhouse, database: str, broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    count = 10_000
    seeded = random.Random(20_251_117)  # noqa: S311 (moments of a test)
    async with Proxy(broker.port) as proxy:
        url = f"mqtt://127.0.0.1:{proxy.port}"
        worker = worker_of(greenhouse, database, url, settings={"write": {"max_batch_rows": 200}})
        await worker.ready()
        publishing = asyncio.create_task(publish(broker.port, greenhouse.messages(range(count))))
        for goal in sorted(seeded.sample(range(200, count - 500), 8)):

            async def reached(goal: int = goal) -> bool:
                return await greenhouse.holds(goal)

            await worker.until(reached, f"{goal} rows")
            proxy.cut()
        await publishing
        await worker.until(lambda: greenhouse.holds(count), "all readings are stored")
        # One more comes behind whatever is sent again: once it is stored, all of that is counted.
        await publish(broker.port, greenhouse.messages(range(count, count + 1)))
        await worker.until(lambda: greenhouse.holds(count + 1), "the last reading is stored")
        await worker.ready()
        metrics = await worker.metrics()
        await worker.stop()
    await greenhouse.holds_each_once(count + 1)
    counters = await greenhouse.counters(worker.client_id)
    assert counters["received"] == counters["committed"] + counters["skipped"] + counters["ignored"]
    messages = {
        outcome: metrics[f'ingest_messages_total{{outcome="{outcome}"}}']
        for outcome in ("received", "committed", "skipped", "ignored")
    }
    assert messages["committed"] == counters["committed"] == count + 1
    assert messages["received"] == count + 1 + messages["skipped"]
    assert messages["skipped"] == counters["skipped"]
    worker.never_traced_back()


async def test_a_filter_taken_out_of_the_configuration_is_unsubscribed(
    greenhouse: Greenhouse, database: str, broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    first = worker_of(greenhouse, database, broker.url)
    await first.ready()
    await first.stop()
    kept = [f"GREENHOUSE/{greenhouse.prefix}/#"]
    second = worker_of(greenhouse, database, broker.url, client_id=first.client_id, filters=kept)
    await second.ready()
    (event,) = second.events("stale_filters_unsubscribed")
    assert sorted(event["filters"]) == sorted(set(greenhouse.filters) - set(kept))
    await publish(
        broker.port, [Message(greenhouse.topic, b"1"), Message(greenhouse.map_topic, b'{"SENSOR_01": 2}')]
    )
    await second.until(lambda: greenhouse.holds(1), "the row of the kept filter")
    await second.stop()
    assert list(await greenhouse.values()) == [2.0]
    stored = await greenhouse.fetchval(
        "select filters from iot.ingest_sessions where client_id = $1", first.client_id
    )
    assert stored == kept
