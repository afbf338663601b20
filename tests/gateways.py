"""Gateways for the tests: they publish real MQTT 3.1.1 packets over a plain socket, fast.

Written out byte by byte so that a test can send what a well-behaved library would refuse. `publish` returns
once the broker has answered every QoS 1 message; it owns its connection and nothing else.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, NamedTuple

from tests import mqtt_packets

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ANSWER_S = 60.0
_CHUNK_BYTES = 32_768


class Message(NamedTuple):
    """What a gateway publishes."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False


async def publish(port: int, messages: Iterable[Message]) -> int:
    """Publish *messages* in their order, each acknowledged by the broker; return how many."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(mqtt_packets.connect(f"gateway-{uuid.uuid4().hex[:12]}", clean=True))
        assert await reader.readexactly(4) == b"\x20\x02\x00\x00"
        sent, awaited = 0, 0
        answers = asyncio.create_task(_count(reader))
        chunk = bytearray()
        for message in messages:
            sent += 1
            if message.qos:
                awaited += 1
            chunk += packet(message, mqtt_packets.packet_id(awaited - 1))
            if len(chunk) >= _CHUNK_BYTES:
                writer.write(bytes(chunk))
                chunk.clear()
                await writer.drain()
        writer.write(bytes(chunk) + mqtt_packets.DISCONNECT)  # the broker answers and then closes
        async with asyncio.timeout(ANSWER_S):
            await writer.drain()
            answered = await answers
        assert answered == awaited, f"the broker answered {answered} of {awaited} messages"
        return sent
    finally:
        writer.close()


async def publish_in_windows(port: int, messages: Sequence[Message], *, window: int) -> None:
    """Publish QoS 1 *messages*, each *window* of them once the one before is acknowledged whole.

    For a broker that reads no further than its own window, and drops the rest at DISCONNECT.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(mqtt_packets.connect(f"gateway-{uuid.uuid4().hex[:12]}", clean=True))
        assert await reader.readexactly(4) == b"\x20\x02\x00\x00"
        for start in range(0, len(messages), window):
            some = messages[start : start + window]
            writer.write(b"".join(packet(message, at) for at, message in enumerate(some, start=1)))
            async with asyncio.timeout(ANSWER_S):
                await reader.readexactly(4 * len(some))
    finally:
        writer.close()


def packet(message: Message, packet_id: int) -> bytes:
    """Build one PUBLISH as MQTT 3.1.1 has it."""
    topic, payload, qos, retain = message
    return mqtt_packets.publish(topic, payload, qos=qos, packet_id=packet_id, retain=retain)


async def _count(reader: asyncio.StreamReader) -> int:
    """Count PUBACKs, four bytes each, until the broker closes."""
    size = 0
    while data := await reader.read(65_536):
        size += len(data)
    assert size % 4 == 0
    return size // 4
