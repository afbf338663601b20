"""A broker with more in flight than there are packet ids: two messages go by one id, sent again with DUP.

Mosquitto does so to a client that has no Receive Maximum (MQTT 3.1.1) where `max_inflight_messages` is 0, and
before 2.0.13 to everyone, since each PUBACK brought as many as the whole maximum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.acceptance.conftest import Greenhouse, shipped_broker
from tests.gateways import Message, publish
from tests.mqtt_client import Client

if TYPE_CHECKING:
    from pathlib import Path

    from tests.acceptance.conftest import WorkerMaker

LAST_ID = 65_535
MESSAGES = LAST_ID + 465


@pytest.fixture
async def greenhouse(plain_dsn: str) -> Greenhouse:
    made = Greenhouse(plain_dsn)
    await made.register()
    return made


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
