"""One packet id twice on one connection: the same message again, or another with more in flight than ids.

Mosquitto has more for a client without a Receive Maximum (MQTT 3.1.1) where `max_inflight_messages` is 0, and
before 2.0.13 for everyone, since each PUBACK brought as many as the whole maximum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.gateways import Message, packet, publish
from tests.mqtt_client import Client
from tests.scripted_broker import ScriptedBroker
from tests.servers import shipped_broker

if TYPE_CHECKING:
    from pathlib import Path

    from tests.acceptance.conftest import Greenhouse, WorkerMaker

DUP = 0x08
LAST_ID = 65_535
MESSAGES = LAST_ID + 465


async def test_more_in_flight_than_packet_ids_after_a_reconnect(
    greenhouse: Greenhouse, plain_dsn: str, tmp_path: Path, worker_of: WorkerMaker
) -> None:
    """Every payload is the same, so that only their number tells the messages of one id apart."""
    with shipped_broker(tmp_path, autosave_on_changes="false", max_inflight_messages=0) as broker:
        earlier = Client(broker.url, "3.1.1", {"client_id": "overrun"})
        await earlier.connect(*greenhouse.filters)
        await publish(broker.port, [Message(greenhouse.map_topic, b'{"SENSOR_01": 7}')] * MESSAGES)
        received = await earlier.receive(MESSAGES)
        assert len({each.packet_id for each in received}) == LAST_ID
        earlier.session.abort()
        worker = worker_of(greenhouse, plain_dsn, broker.url, client_id="overrun")
        await worker.ready()
        await publish(broker.port, [Message(greenhouse.topic, b"8")])

        async def last_is_stored() -> bool:
            return 8.0 in await greenhouse.values()

        await worker.until(last_is_stored, "the last reading is stored")
        await worker.stop()
        assert await greenhouse.values() == {7.0: MESSAGES, 8.0: 1}


async def test_what_a_broker_sends_twice_on_one_connection(
    greenhouse: Greenhouse, plain_dsn: str, worker_of: WorkerMaker
) -> None:
    def sent(value: int, *, dup: bool) -> bytes:
        made = bytearray(packet(Message(greenhouse.map_topic, b'{"SENSOR_01": %d}' % value), packet_id=1))
        made[0] |= DUP if dup else 0
        return bytes(made)

    async def both_are_stored() -> bool:
        return await greenhouse.holds(2)

    settings = {"broker": {"protocol": "3.1.1", "filters": [f"{greenhouse.map_topic}/#"]}}
    pieces = (sent(7, dup=False), sent(7, dup=True), sent(8, dup=True))
    async with ScriptedBroker(before=pieces) as broker:
        worker = worker_of(greenhouse, plain_dsn, broker.url, settings=settings)
        await worker.until(both_are_stored, "both messages are stored")
        await worker.until(lambda: broker.pubacks == [1, 1], "both are acknowledged")
        await worker.stop()
    assert await greenhouse.values() == {7.0: 1, 8.0: 1}
