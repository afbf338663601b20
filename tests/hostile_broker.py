"""A broker that does wrong on purpose, one wrong a connection, and right in between.

Right means: it accepts, grants QoS 1 and delivers one reading, whose PUBACK it waits for. So each wrong is
followed by the proof that the worker came back. It speaks MQTT byte by byte and knows no library.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

from tests.mqtt_packets import publish

if TYPE_CHECKING:
    from ingest.receive import MqttVersion

CONNECT, SUBSCRIBE, PINGREQ = 1, 8, 12
PINGRESP = b"\xd0\x00"
End = Literal["hold", "fin", "rst"]
State = Literal["accept", "connect", "connack", "subscribe", "suback"]


@dataclass(frozen=True)
class Wrong:
    """What the broker does wrong on one connection, step by step; None leaves a step as it should be."""

    name: str
    says: str
    """A pattern of what the worker tells the operator; "" where it bears with it and stays connected."""
    greeting: bytes = b""
    """Sent before CONNECT is read."""
    connack: bytes | None = None
    """b"" for none at all."""
    suback: bytes | None = None
    """With b"ID" where the packet id of the SUBSCRIBE belongs; b"" for none at all."""
    after: bytes = b""
    """Sent once it is subscribed."""
    piece_bytes: int = 0
    """How many bytes of *after* are sent at a time, 10 ms apart; 0 for all at once."""
    end: End = "hold"
    """What follows: silence, an orderly end, or a reset connection."""
    end_after: State = "suback"


class HostileBroker:
    """Listens on a free loopback port once entered with ``async with``."""

    def __init__(self, version: MqttVersion, topic: str) -> None:
        self._mqtt5 = version == "5"
        self._topic = topic
        self._server: asyncio.Server | None = None
        self._wrong: Wrong | None = None
        self._going_on: asyncio.Future[None] | None = None
        self._delivered = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self.acknowledged: list[int] = []
        """Packet ids of the readings that the worker has acknowledged; they count up from 1."""
        self.wrongs = 0
        """Wrongs done to their end."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # an aborted transport closes its socket in the loop's next turn

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"mqtt://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def do(self, wrong: Wrong) -> None:
        """End the sound connection there is, and do *wrong* on the next."""
        self._wrong = wrong
        if self._going_on is not None and not self._going_on.done():
            self._going_on.set_result(None)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.append(writer)
        wrong, self._wrong = self._wrong, None
        try:
            if wrong is None:
                await self._be_sound(reader, writer)
            else:
                await self._do_wrong(wrong, reader, writer)
        except (OSError, EOFError):
            pass
        finally:
            self.wrongs += wrong is not None
            writer.transport.abort()

    async def _be_sound(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._going_on = asyncio.get_running_loop().create_future()
        conversing = asyncio.create_task(self._converse(reader, writer))
        await asyncio.wait([conversing, self._going_on], return_when=asyncio.FIRST_COMPLETED)
        conversing.cancel()
        await asyncio.gather(conversing, return_exceptions=True)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            kind, body = await read_packet(reader)
            if kind == CONNECT:
                writer.write(self.accept())
            elif kind == SUBSCRIBE:
                writer.write(self._granted(body[:2]))
                self._delivered += 1
                writer.write(self.publish(b"%d" % self._delivered, self._delivered))
            elif kind == PINGREQ:
                writer.write(PINGRESP)
            elif kind == 4:
                self.acknowledged.append(struct.unpack(">H", body[:2])[0])

    async def _do_wrong(
        self, wrong: Wrong, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(wrong.greeting)
        if wrong.end_after != "accept":
            await self._until(CONNECT, reader, writer)
        if wrong.end_after not in {"accept", "connect"}:
            writer.write(self.accept() if wrong.connack is None else wrong.connack)
        if wrong.end_after in {"subscribe", "suback"}:
            body = await self._until(SUBSCRIBE, reader, writer)
            if wrong.end_after == "suback":
                suback = self._granted(body[:2]) if wrong.suback is None else wrong.suback
                writer.write(suback.replace(b"ID", body[:2]))
                step = wrong.piece_bytes or len(wrong.after) or 1
                for start in range(0, len(wrong.after), step):
                    writer.write(wrong.after[start : start + step])
                    await writer.drain()
                    await asyncio.sleep(0.01 * (wrong.piece_bytes > 0))
        if wrong.end == "hold":
            while not wrong.says:  # borne with: the connection has to go on working
                writer.write(self.publish(b"%d" % (self._delivered + 1), self._delivered + 1))
                await self._until(4, reader, writer)
                self._delivered += 1
                return
            with contextlib.suppress(OSError, EOFError):
                while await reader.read(65_536):
                    pass
        elif wrong.end == "fin":
            writer.close()
            await writer.wait_closed()

    async def _until(self, wanted: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        """Answer PINGREQs until a packet of type *wanted* comes; give its body."""
        while True:
            kind, body = await read_packet(reader)
            if kind == PINGREQ:
                writer.write(PINGRESP)
            if kind == wanted:
                return body

    def accept(self) -> bytes:
        return b"\x20\x03\x00\x00\x00" if self._mqtt5 else b"\x20\x02\x00\x00"

    def _granted(self, packet_id: bytes) -> bytes:
        return b"\x90\x04" + packet_id + b"\x00\x01" if self._mqtt5 else b"\x90\x03" + packet_id + b"\x01"

    def publish(self, payload: bytes, packet_id: int) -> bytes:
        """Build a PUBLISH of a reading."""
        # MQTT 5 has a property length between packet id and payload: none.
        return publish(self._topic, payload, qos=1, packet_id=packet_id, mqtt5=self._mqtt5)


async def read_packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Give a packet's type and body. Raises EOFError."""
    first = (await reader.readexactly(1))[0]
    length = shift = 0
    while True:
        byte = (await reader.readexactly(1))[0]
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return first >> 4, await reader.readexactly(length)
