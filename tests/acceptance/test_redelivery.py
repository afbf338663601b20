"""Readings without a time, all of them equal: only the journal can tell which were committed.

Packet ids that wrap at 65 535 in the middle of what is sent again, a network that falls silent in it, and a
broker of another kind, which sends again without DUP and under new packet ids.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from ingest.receive import packet_id_of
from ingest.write import journal
from tests.acceptance.held_batch import arrive_behind_the_first
from tests.gateways import Message, publish
from tests.mqtt_client import Client
from tests.proxy import Proxy

if TYPE_CHECKING:
    from tests.acceptance.conftest import Greenhouse, WorkerMaker
    from tests.acceptance.workers import WorkerProcess
    from tests.servers import Mosquitto

SETTINGS: dict[str, dict[str, object]] = {"write": {"max_batch_rows": 200}, "broker": {"keepalive_s": 60}}
LAST_ID = 65_535
BEFORE_THE_WRAP = LAST_ID - 150


def equal(greenhouse: Greenhouse, count: int) -> list[Message]:
    return [Message(greenhouse.map_topic, b'{"SENSOR_01": 7}')] * count


async def finished(worker: WorkerProcess, greenhouse: Greenhouse, broker: Mosquitto, count: int) -> None:
    """Wait until *worker* has committed what waited, have it leave, and expect *count* rows."""
    await worker.ready()
    end = Message(greenhouse.topic, b"8")
    await publish(broker.port, [end])

    async def stored() -> bool:
        return 8.0 in await greenhouse.values()

    await worker.until(stored, "the last reading is stored")
    await worker.stop()
    assert await greenhouse.values() == {7.0: count, 8.0: 1}


@pytest.mark.parametrize(
    ("fault", "skips"),
    [
        ("before_commit:2", False),
        ("commit_sent:2", True),
        ("before_puback:2", True),
        ("half_of_pubacks:2", True),
    ],
)
async def test_equal_payloads_are_stored_as_often_as_they_were_published(
    fault: str,
    *,
    skips: bool,
    greenhouse: Greenhouse,
    plain_dsn: str,
    broker: Mosquitto,
    worker_of: WorkerMaker,
) -> None:
    worker = worker_of(greenhouse, plain_dsn, broker.url, settings=SETTINGS, fault=fault)
    await worker.ready()
    await publish(broker.port, equal(greenhouse, 2_000))
    assert await worker.exit_code() == -9
    successor = worker_of(greenhouse, plain_dsn, broker.url, client_id=worker.client_id, settings=SETTINGS)
    await finished(successor, greenhouse, broker, 2_000)
    if skips:  # else too, where the broker had not read the PUBACKs of the batch before
        assert successor.events("redelivery_skipped")


@pytest.mark.parametrize("fault", ["before_puback:2", "half_of_pubacks:1"])
async def test_packet_ids_that_wrap_within_a_batch(
    fault: str,
    greenhouse: Greenhouse,
    plain_dsn: str,
    broker: Mosquitto,
    worker_of: WorkerMaker,
) -> None:
    client_id = "wraps"
    client = Client(broker.url, "5", {"client_id": client_id, "receive_maximum": 60_000})
    await client.connect(*greenhouse.filters)
    for count in (30_000, BEFORE_THE_WRAP - 30_000):
        client.deliveries.clear()
        await publish(broker.port, equal(greenhouse, count))
        await client.receive(count)
        await client.acknowledge_all()
    assert client.deliveries[-1].packet_id == BEFORE_THE_WRAP
    await client.session.close(2.0)
    worker = worker_of(greenhouse, plain_dsn, broker.url, client_id=client_id, settings=SETTINGS, fault=fault)
    await worker.ready()
    # A batch of one, then one of 200 with the wrap in its second half; the worker is killed over that.
    await arrive_behind_the_first(worker, greenhouse, broker, equal(greenhouse, 1_000))
    assert await worker.exit_code() == -9
    stored = await greenhouse.fetchval(
        "select pending from iot.ingest_sessions where client_id = $1", client_id
    )
    ids = [packet_id_of(entry) for entry in journal.unpack(stored)]
    # Without the first batch, if the broker had proved that it has its PUBACK.
    assert ids[-200:] == [*range(BEFORE_THE_WRAP + 2, LAST_ID + 1), *range(1, 52)]
    successor = worker_of(greenhouse, plain_dsn, broker.url, client_id=client_id, settings=SETTINGS)
    await finished(successor, greenhouse, broker, 1_000)
    assert successor.events("redelivery_skipped")


async def test_a_network_silent_in_the_middle_of_what_is_sent_again(
    greenhouse: Greenhouse, plain_dsn: str, broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    """Silence is no end: the broker has to answer before the head of a run counts as all of it."""
    worker = worker_of(greenhouse, plain_dsn, broker.url, settings=SETTINGS, fault="before_puback:2")
    await worker.ready()
    await arrive_behind_the_first(worker, greenhouse, broker, equal(greenhouse, 500))
    assert await worker.exit_code() == -9  # 200 are committed and not acknowledged
    async with Proxy(broker.port) as proxy:
        proxy.stall_after(300)  # the CONNACK and some of them
        successor = worker_of(
            greenhouse,
            plain_dsn,
            proxy.url(broker.url),
            client_id=worker.client_id,
            settings=SETTINGS,
        )
        await successor.until(proxy.sprung.is_set, "the redelivery has begun")
        await asyncio.sleep(7.0)  # the patience with a run that stands still is 5 s
        proxy.flow()
        await finished(successor, greenhouse, broker, 500)
    assert successor.events("redelivery_skipped")


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_a_session_that_an_earlier_consumer_subscribed_at_qos_2(
    protocol: str, greenhouse: Greenhouse, plain_dsn: str, broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    """What is queued in it comes at QoS 2 and wants a PUBREC: at a PUBACK the broker hangs up, for ever."""
    earlier = paho.Client(CallbackAPIVersion.VERSION2, client_id="shared", clean_session=False)
    subscribed = threading.Event()
    earlier.on_subscribe = lambda *_: subscribed.set()
    earlier.connect("127.0.0.1", broker.port)
    earlier.loop_start()
    earlier.subscribe(greenhouse.map_topic, qos=2)
    await asyncio.to_thread(subscribed.wait, 10)
    earlier.disconnect()
    earlier.loop_stop()
    gateway = paho.Client(CallbackAPIVersion.VERSION2)
    gateway.connect("127.0.0.1", broker.port)
    gateway.loop_start()
    sent = [gateway.publish(greenhouse.map_topic, b'{"SENSOR_01": 7}', qos=2) for _ in range(500)]
    for each in sent:
        await asyncio.to_thread(each.wait_for_publish, 10)
    gateway.disconnect()
    gateway.loop_stop()
    settings = SETTINGS | {"broker": {"protocol": protocol}}
    worker = worker_of(
        greenhouse, plain_dsn, broker.url, client_id="shared", settings=settings, fault="half_of_pubacks:2"
    )
    assert await worker.exit_code() == -9
    successor = worker_of(greenhouse, plain_dsn, broker.url, client_id="shared", settings=settings)
    await finished(successor, greenhouse, broker, 500)
    assert len(successor.events("broker_connected")) == 1
    assert successor.events("redelivery_skipped")
    assert "protocol error" not in broker.log.read_text()
