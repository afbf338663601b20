"""Links that fall silent and servers that forget, met by a running worker.

The metadata database away while readings flow, a broker without its sessions, a COPY that the network
swallows half-way, a connection to the broker that neither end can use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.acceptance.conftest import Greenhouse
from tests.gateways import Message, publish
from tests.proxy import Proxy
from tests.servers import shipped_broker
from tests.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.acceptance.conftest import WorkerMaker
    from tests.servers import Mosquitto

SMALL_BATCHES: dict[str, dict[str, object]] = {"write": {"max_batch_rows": 200}}


@pytest.mark.parametrize("way", ["refused", "stalled"])
async def test_metadata_database_away_while_readings_flow(
    way: str, greenhouse: Greenhouse, plain_dsn: str, broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    async with Proxy(urlsplit(plain_dsn).port or 0) as proxy:
        worker = worker_of(greenhouse, plain_dsn, broker.url, metadata_dsn=proxy.url(plain_dsn))
        await worker.ready()
        if way == "refused":
            proxy.refuse(refusing=True)
            await worker.logged("catalog_refresh_failed")
        else:
            proxy.stall()
        unknown = Message(f"greenhouse/{greenhouse.greenhouse_id}/sensors/nobody_knows", b"1")
        await publish(broker.port, [*greenhouse.messages(range(500)), unknown])
        await publish(broker.port, greenhouse.messages(range(500, 1_000)))
        await worker.until(lambda: greenhouse.holds(1_000), "readings are stored meanwhile")
        (letter,) = await greenhouse.dead_letters(worker.client_id)
        assert letter["reasons"] == ["unknown_sensor_type"]
        later = Greenhouse(plain_dsn)
        later.tenant_id, later.prefix = greenhouse.tenant_id, greenhouse.prefix
        await later.fetch(
            "insert into metadata.greenhouses (id, tenant_id, name, greenhouse_code) values ($1, $2, $3, $3)",
            later.greenhouse_id,
            later.tenant_id,
            later.code,
        )
        proxy.refuse(refusing=False)
        proxy.flow()
        await worker.logged("catalog_loaded", 2)
        await publish(
            broker.port, [Message(f"GREENHOUSE/{later.prefix}/{later.code}", b'{"SENSOR_01": 5000}')]
        )
        await worker.until(lambda: greenhouse.holds(1_001), "a greenhouse registered meanwhile is known")
        await worker.stop()
        worker.never_traced_back()


async def test_a_broker_that_forgot_every_session(
    greenhouse: Greenhouse, plain_dsn: str, tmp_path: Path, worker_of: WorkerMaker
) -> None:
    """Its packet ids start over, and equal messages must not be taken for what the journal remembers."""
    messages = [Message(greenhouse.map_topic, b'{"SENSOR_01": 7}')] * 200
    with shipped_broker(tmp_path, persistence="false") as broker:
        worker = worker_of(greenhouse, plain_dsn, broker.url, settings=SMALL_BATCHES, fault="before_puback:1")
        await worker.ready()
        await publish(broker.port, messages)
        assert await worker.exit_code() == -9
        stored = await greenhouse.count()
        assert stored
        broker.kill9()
        broker.start()
        successor = worker_of(
            greenhouse, plain_dsn, broker.url, client_id=worker.client_id, settings=SMALL_BATCHES
        )
        await successor.ready()
        assert [event["session_present"] for event in successor.events("broker_connected")] == [False]
        await publish(broker.port, messages)
        await successor.until(lambda: greenhouse.holds(stored + 200), "the new messages are stored")
        for turn in (1, 2):  # and under a worker that stays
            broker.kill9()
            broker.start()
            await successor.logged("broker_connected", 1 + turn)
            await publish(broker.port, messages)

            async def all_stored(goal: int = stored + 200 * (1 + turn)) -> bool:
                return await greenhouse.holds(goal)

            await successor.until(all_stored, "the new messages are stored")
        await successor.stop()
        assert await greenhouse.values() == {7.0: stored + 600}
        assert not successor.events("redelivery_skipped")


async def test_a_network_that_swallows_a_copy(
    greenhouse: Greenhouse, plain_dsn: str, broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    """Nobody sends RST: the worker's own deadline ends it, and the server's transaction is ended for it."""
    settings: dict[str, dict[str, object]] = {"write": {"commit_timeout_s": 2.0, "retry_max_s": 0.3}}
    async with Proxy(urlsplit(plain_dsn).port or 0) as proxy:
        worker = worker_of(greenhouse, proxy.url(plain_dsn), broker.url, settings=settings)
        await worker.ready()
        await publish(broker.port, greenhouse.messages(range(100)))
        await worker.until(lambda: greenhouse.holds(100), "100 rows")
        proxy.set_trap(b"half-way", "stall", forward=True)
        await publish(broker.port, greenhouse.messages(range(100, 4_000), note="half-way"))
        await worker.until(proxy.sprung.is_set, "a COPY is under way")

        def given_up() -> bool:
            return any(
                "did not answer in time" in fault["error"] for fault in worker.events("database_fault")
            )

        await worker.until(given_up, "the deadline is logged")
        await worker.until(lambda: greenhouse.holds(4_000), "all readings are stored")
        await worker.ready()
        await worker.stop()
        await greenhouse.holds_each_once(4_000)
        worker.never_traced_back()


async def test_a_silent_connection_is_noticed_from_both_ends(
    greenhouse: Greenhouse, plain_dsn: str, broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    settings: dict[str, dict[str, object]] = {"broker": {"keepalive_s": 5, "connect_timeout_s": 2.0}}
    async with Proxy(broker.port) as proxy:
        worker = worker_of(greenhouse, plain_dsn, proxy.url(broker.url), settings=settings)
        await worker.ready()
        await publish(broker.port, greenhouse.messages(range(100)))
        await worker.until(lambda: greenhouse.holds(100), "100 rows")
        proxy.stall()
        await publish(broker.port, greenhouse.messages(range(100, 1_000)))
        await worker.not_ready_because("broker: ")
        silent = "the broker answered no PINGREQ within the keep-alive time"

        def noticed() -> bool:
            return any(event["error"] == silent for event in worker.events("broker_unavailable"))

        await worker.until(noticed, "the worker says why")
        timed_out = f"{worker.client_id} has exceeded timeout"
        await until(lambda: timed_out in broker.log.read_text(), "the broker has given it up, too")
        proxy.flow()
        await worker.until(lambda: greenhouse.holds(1_000), "all readings are stored")
        await worker.ready()
        await worker.stop()
        await greenhouse.holds_each_once(1_000)
        worker.never_traced_back()
