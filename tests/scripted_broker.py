"""A broker that answers as told, for what no real broker would do when asked; plain or over WebSocket.

It reads just enough MQTT to answer CONNECT, SUBSCRIBE and PINGREQ, and remembers the PUBACKs.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import socket
import struct
from typing import Self

_WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 1.3
_RECEIVE_BUFFER_BYTES = 16_384
PACE_S = 0.25


class ScriptedBroker:
    """Listens on a free loopback port once entered with ``async with``."""

    def __init__(
        self,
        *,
        connack: bytes | None = b"",
        suback: int = 1,
        before: tuple[bytes, ...] = (),
        after: bytes = b"",
        resumed: bytes = b"",
        mqtt5: bool = False,
        reading: bool = True,
        hang_up: bool = False,
        websocket_frame_bytes: int = 0,
    ) -> None:
        """Say how it behaves.

        *connack* None: it says nothing at all; empty: it accepts. *before* comes ahead of SUBACK, a
        piece each PACE_S; *after* follows it. *resumed* is its CONNACK, and what comes with that, on
        connections behind one that subscribed. Not *reading*: it reads nothing after SUBSCRIBE or PUBLISH
        until `read_on`. *hang_up*: at CONNECT. With *websocket_frame_bytes* it speaks WebSocket, in frames of
        so many bytes at most.
        """
        accept = b"\x20\x03\x00\x00\x00" if mqtt5 else b"\x20\x02\x00\x00"
        self._connack = accept if connack == b"" else connack
        self._suback = (b"\x00" if mqtt5 else b"") + bytes([suback])
        self._before = before
        self._after = after
        self._resumed = resumed
        self._hang_up = hang_up
        self._frame_bytes = websocket_frame_bytes
        self._may_read = asyncio.Event()
        if reading:
            self._may_read.set()
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []
        self.pubacks: list[int] = []

    async def __aenter__(self) -> Self:
        listening = socket.create_server(("127.0.0.1", 0))
        # Small, so that a client soon notices that nobody reads; accepted sockets inherit it.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        self._server = await asyncio.start_server(self._serve, sock=listening)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Reset the connections that there are."""
        for writer in self._writers:
            writer.transport.abort()

    def read_on(self) -> None:
        self._may_read.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            if self._connack is None:
                await reader.read()
            elif self._frame_bytes:
                await _upgrade(reader, writer)
                packets = asyncio.StreamReader()
                unwrapping = asyncio.create_task(_unwrap(reader, packets))
                await self._converse(packets, writer)
                unwrapping.cancel()
            else:
                await self._converse(reader, writer)
        writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            first, length = await reader.readexactly(2)
            body = await reader.readexactly(length)
            match first >> 4:
                case 1:
                    if self._hang_up:
                        return
                    self._write(writer, self._connack or b"")
                case 3:
                    await self._may_read.wait()  # it never acknowledges
                case 4:
                    self.pubacks.append(struct.unpack(">H", body)[0])
                case 8:
                    self._connack = self._resumed or self._connack
                    for piece in self._before:
                        self._write(writer, piece)
                        await asyncio.sleep(PACE_S)
                    answer = body[:2] + self._suback
                    self._write(writer, bytes([0x90, len(answer)]) + answer + self._after)
                    await self._may_read.wait()
                case 12:
                    self._write(writer, b"\xd0\x00")
                case 14:
                    return
                case other:
                    raise AssertionError(f"packet type {other} was not expected")

    def _write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        if not self._frame_bytes:
            writer.write(data)
            return
        writer.write(b"\x89\x02hi")  # a ping, which is no data
        for start in range(0, len(data), self._frame_bytes):
            part = data[start : start + self._frame_bytes]
            if len(part) < 126:
                length = bytes([len(part)])
            elif len(part) < 65_536:
                length = struct.pack(">BH", 126, len(part))
            else:
                length = struct.pack(">BQ", 127, len(part))
            writer.write(b"\x82" + length + part)


async def _upgrade(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the WebSocket handshake (RFC 6455 4.2.2)."""
    head = await reader.readuntil(b"\r\n\r\n")
    key = next(
        line.partition(b":")[2].strip()
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"sec-websocket-key:")
    )
    digest = hashlib.sha1(key + _WEBSOCKET_GUID).digest()  # noqa: S324 (the RFC asks for SHA-1)
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
    )


async def _unwrap(reader: asyncio.StreamReader, packets: asyncio.StreamReader) -> None:
    """Take the payloads out of masked frames, until the client is gone; only binary ones hold packets."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while True:
            first, second = await reader.readexactly(2)
            size = second & 0x7F
            if size == 126:
                (size,) = struct.unpack(">H", await reader.readexactly(2))
            elif size == 127:
                (size,) = struct.unpack(">Q", await reader.readexactly(8))
            mask = await reader.readexactly(4) if second & 0x80 else bytes(4)
            payload = await reader.readexactly(size)
            if first & 0x0F == 2:
                packets.feed_data(bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload)))
    packets.feed_eof()
