"""The line between a worker process and its supervisor: a socket that both have open, and nothing else.

The worker writes a line of JSON a second, and more while it is not ready: whether it is subscribed, why it is
not ready, every number of its metrics. The supervisor writes nothing; that its end is closed, by itself or
because it is gone, asks the worker to leave. So no worker stays behind when its supervisor is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from typing import TYPE_CHECKING, Final, NamedTuple

from ingest.observe.merged import Family

if TYPE_CHECKING:
    from collections.abc import Callable

INTERVAL_S: Final = 1.0
UNREADY_INTERVAL_S: Final = 0.2
"""Of a worker that is not ready: others wait for it to be."""
MOST_BYTES: Final = 1 << 20
"""Of one report; they are 20 KB."""
LAST_S: Final = 1.0


class Report(NamedTuple):
    """What a worker says of itself."""

    subscribed: bool
    reasons: list[str]
    """Why it is not ready; empty when it is."""
    metrics: list[Family]

    def line(self) -> bytes:
        """Give it as a line."""
        return json.dumps(self).encode() + b"\n"

    @classmethod
    def of(cls, line: bytes) -> Report:
        """Read what `line` gave. Raises ValueError."""
        subscribed, reasons, metrics = json.loads(line)
        return cls(subscribed, reasons, [Family.of(each) for each in metrics])


class Line:
    """The worker's end."""

    def __init__(self, descriptor: int) -> None:
        """Take the socket over that this process inherited as *descriptor*."""
        self._socket = socket.socket(fileno=descriptor)
        self._writer: asyncio.StreamWriter | None = None

    async def serve(self, report: Callable[[], Report], on_asked: Callable[[], None]) -> None:
        """Report again and again, while somebody hears it; *on_asked* hears that the worker is to leave."""
        reader, self._writer = await asyncio.open_connection(sock=self._socket)

        def closed(listening: asyncio.Task[bytes]) -> None:
            if not listening.cancelled():
                listening.exception()  # reset: as good as closed
                on_asked()

        listening = asyncio.create_task(reader.read())
        listening.add_done_callback(closed)
        try:
            while True:
                said = report()
                self._writer.write(said.line())
                await self._writer.drain()
                await asyncio.sleep(UNREADY_INTERVAL_S if said.reasons else INTERVAL_S)
        except OSError:
            on_asked()
        finally:
            listening.cancel()

    async def close(self, last: Report) -> None:
        """Say what the worker ends with."""
        if self._writer is None:
            self._socket.close()
            return
        if not self._writer.is_closing():
            self._writer.write(last.line())
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(LAST_S):
                await self._writer.drain()
        self._writer.close()
