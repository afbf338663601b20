"""A TCP proxy between the worker and a server, which fails when told to.

Real faults for tests: it cuts or stalls every connection, at once or the moment a client sends given bytes.
A stall is a silence without RST, as behind a router that died or a link that is full.
Runs on the test's event loop; owns its sockets and knows no protocol.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from types import TracebackType

READ_BYTES = 65_536

Way = Literal["cut", "stall"]


@dataclass(slots=True)
class _Trap:
    pattern: bytes
    way: Way
    forward: bool


@dataclass(slots=True)
class _Fate:
    """What is to become of one connection."""

    stalled: bool = False
    cut_on_answer: bool = False


class Proxy:
    """Forwards 127.0.0.1:``port`` to *target_port*, once entered with ``async with``."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._trap: _Trap | None = None
        self._refusing = False
        self._over = asyncio.Event()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._left_bytes: int | None = None
        self.sprung = asyncio.Event()
        """Set once the trap has caught its bytes."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        self._over.set()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # an aborted transport closes its socket in the loop's next turn

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    def url(self, of: str) -> str:
        """Give the URL or DSN *of* the server as it is reached through the proxy."""
        parts = urlsplit(of)
        user, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{user}{at}127.0.0.1:{self.port}"))

    def set_trap(self, pattern: bytes, way: Way, *, forward: bool) -> None:
        """Cut or stall the connection whose client sends *pattern* next; once.

        With *forward* those bytes still reach the server, and only the answer is lost. A stalled
        connection stays open to the server, as behind a router that died.
        """
        self._trap = _Trap(pattern, way, forward)
        self.sprung.clear()

    def cut(self) -> None:
        """Cut every connection there is."""
        for writer in self._writers:
            writer.transport.abort()

    def refuse(self, *, refusing: bool) -> None:
        """Cut every connection there is and, while *refusing*, every new one."""
        self._refusing = refusing
        self.cut()

    def stall_after(self, answered_bytes: int) -> None:
        """Begin a `stall` once the server has sent so many bytes more."""
        self._left_bytes = answered_bytes
        self.sprung.clear()

    def stall(self) -> None:
        """Carry nothing from now on, either way, on old connections and new; nobody hears of it."""
        self._flowing.clear()

    def flow(self) -> None:
        """End a `stall`: what was sent meanwhile arrives late, even from who has hung up since."""
        self._flowing.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        if self._refusing:
            writer.transport.abort()
            return
        self._writers.add(writer)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()
            return
        self._writers.add(far_writer)
        fate = _Fate()
        pumps = [
            asyncio.create_task(self._forward(reader, far_writer, fate)),
            asyncio.create_task(self._answer(far_reader, writer, fate)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for each in (writer, far_writer):
                self._writers.discard(each)
                each.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fate: _Fate) -> None:
        """Carry what the client sends; returns when the connection is to be cut."""
        while data := await self._read(reader):
            trap = self._trap
            if trap is None or trap.pattern not in data:
                if not fate.stalled:
                    writer.write(data)
                    await writer.drain()
                continue
            self._trap = None
            fate.stalled = trap.way == "stall"
            fate.cut_on_answer = trap.way == "cut" and trap.forward
            if trap.forward:
                writer.write(data)
                await writer.drain()
            self.sprung.set()
            if trap.way == "cut" and not trap.forward:
                return
        if fate.stalled:
            await self._over.wait()  # the server does not hear that the client has gone

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        """Read what is to be carried next, b"" at the end; a stall holds either back."""
        data = await reader.read(READ_BYTES)
        await self._flowing.wait()
        return data

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fate: _Fate) -> None:
        """Carry what the server sends; returns when the connection is to be cut."""
        while data := await self._read(reader):
            if fate.cut_on_answer:
                return
            if not fate.stalled:
                await self._carry_answer(data, writer)
        if fate.stalled:
            await self._over.wait()  # nor the client that the server has

    async def _carry_answer(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        left = self._left_bytes
        if left is not None and len(data) >= left:
            self._left_bytes = None
            writer.write(data[:left])
            data = data[left:]
            self.stall()
            self.sprung.set()
            await self._flowing.wait()
        elif left is not None:
            self._left_bytes = left - len(data)
        writer.write(data)
        await writer.drain()
