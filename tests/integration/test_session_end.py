"""How a session ends: a broker that dies, takes over, hangs up, falls silent, or reads too slowly."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from ingest.model import Delivery
from ingest.receive import ConnectionLost, MqttVersion, answers_to
from tests.gateways import Message, packet, publish
from tests.proxy import Proxy
from tests.scripted_broker import ScriptedBroker
from tests.servers import Mosquitto

if TYPE_CHECKING:
    from collections.abc import Callable

from tests.mqtt_client import PATIENCE_S, VERSIONS, Client, messages


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_broker_that_dies_ends_the_session(
    version: MqttVersion, client_of: Callable[..., Client]
) -> None:
    with Mosquitto() as broker:
        client = client_of(broker.url, version)
        await client.connect("a/#")
        broker.kill9()
        assert "broker" in await client.closed()
        client.session.acknowledge([1])
        client.session.ping()
        await client.session.close(1.0)
        broker.start()
        again = client_of(broker.url, version, client_id=client.settings.client_id)
        await again.connect("a/#")


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_session_taken_over_ends_and_another_connects_at_once(
    version: MqttVersion, broker: Mosquitto, client_of: Callable[..., Client], topic: str
) -> None:
    client = client_of(broker.url, version)
    await client.connect(topic)
    for _ in range(3):  # each end frees a file descriptor that the next connection gets
        rival = client_of(broker.url, version, client_id=client.settings.client_id)
        await rival.connect(topic)
        assert "broker" in await client.closed()
        client = client_of(broker.url, version, client_id=client.settings.client_id)
        await client.connect(topic)  # or raises after connect_timeout_s
        assert "broker" in await rival.closed()
    await publish(broker.port, messages(topic, 1))
    await client.receive(1)


async def test_a_broker_that_disconnects_frees_its_descriptor(client_of: Callable[..., Client]) -> None:
    async with ScriptedBroker(mqtt5=True, after=b"\xe0\x02\x8b\x00") as broker:
        for _ in range(3):  # the next connection gets the same file descriptor
            client = client_of(broker.url, connect_timeout_s=1.0)
            with contextlib.suppress(ConnectionLost):
                await client.connect("a/#")
            assert await client.closed() == "the broker sent DISCONNECT: Server shutting down"


@pytest.mark.parametrize("frame_bytes", [1, 100, 70_000, 2_000_000])
async def test_websocket_frames_need_not_be_packets(
    frame_bytes: int, client_of: Callable[..., Client]
) -> None:
    sizes = [0, 1, 125, 126, 65_535, 65_536, 300_000] if frame_bytes > 1 else [0, 1, 200]
    sent = [Message("a/b", bytes([number]) * size) for number, size in enumerate(sizes)]
    after = b"".join(packet(message, number) for number, message in enumerate(sent, start=1))
    async with ScriptedBroker(websocket_frame_bytes=frame_bytes, after=after) as broker:
        client = client_of(f"ws://127.0.0.1:{broker.port}", "3.1.1")
        await client.connect("a/#")
        received = await client.receive(len(sent))
        assert [each.payload for each in received] == [message.payload for message in sent]
        await client.acknowledge_all()
        assert broker.pubacks == list(range(1, len(sent) + 1))


async def test_bytes_that_are_not_mqtt_end_the_session(client_of: Callable[..., Client]) -> None:
    async with ScriptedBroker(after=b"\x30\xff\xff\xff\xff\x01") as broker:
        client = client_of(broker.url, "3.1.1")
        with contextlib.suppress(ConnectionLost):
            await client.connect("a/#")
        assert "more than four bytes" in await client.closed()


async def test_a_silent_broker_is_noticed_by_its_missing_pingresp(
    broker: Mosquitto, client_of: Callable[..., Client]
) -> None:
    async with Proxy(broker.port) as proxy:
        client = client_of(f"mqtt://127.0.0.1:{proxy.port}", keepalive_s=1)
        await client.connect("a/#")
        proxy.set_trap(b"\xc0\x00", "stall", forward=False)
        async with asyncio.timeout(PATIENCE_S):
            error = await client.session.closed
        assert "keep-alive" in str(error)


async def test_acknowledgements_wait_for_a_broker_that_reads_slowly(
    client_of: Callable[..., Client],
) -> None:
    async with ScriptedBroker(reading=False) as broker:
        client = client_of(broker.url, "3.1.1")
        await client.connect("a/#")
        ids = [number % 65_535 + 1 for number in range(1_100_000)]
        for start in range(0, len(ids), 20_000):
            client.session.acknowledge(
                answers_to(Delivery("", b"", 2, packet_id) for packet_id in ids[start : start + 20_000])
            )
        client.session.ping()
        broker.read_on()
        await client.until(lambda: client.pongs == 1)
        assert broker.pubacks == ids


async def test_a_paused_session_reads_nothing(
    broker: Mosquitto, client_of: Callable[..., Client], topic: str
) -> None:
    client = client_of(broker.url)
    await client.connect(topic)
    client.session.pause()
    assert client.session.paused
    await publish(broker.port, messages(topic, 10))
    assert client.deliveries == []
    client.session.resume()
    assert len(await client.receive(10)) == 10
