"""The line between a worker process and its supervisor: a socket that both have open, and nothing else.

The worker writes a line of JSON a second, and more while it is not ready: whether it is subscribed, why it is
not ready, every number of its metrics. The supervisor writes a line feed when somebody looks at the page, for
which the worker says the last conditions, too. That its end is closed, by itself or because it is gone, asks
the worker to leave. So no worker stays behind when its supervisor is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from ingest.observe.merged import Family
from ingest.quality import Conditions

if TYPE_CHECKING:
    from collections.abc import Callable

INTERVAL_S: Final = 1.0
UNREADY_INTERVAL_S: Final = 0.2
"""Of a worker that is not ready: others wait for it to be."""
MOST_BYTES: Final = 1 << 20
"""Of one report; they are 20 KB, with conditions 60."""
WATCHED_S: Final = 10.0
"""How long somebody looks who has looked."""
LAST_S: Final = 1.0


class Report(NamedTuple):
    """What a worker says of itself."""

    subscribed: bool
    reasons: list[str]
    """Why it is not ready; empty when it is."""
    metrics: list[Family]
    conditions: Conditions | None = None
    """The last ones; None when nobody looks, or none are kept."""

    def line(self) -> bytes:
        """Give it as a line."""
        return json.dumps(self).encode() + b"\n"

    @classmethod
    def of(cls, line: bytes) -> Report:
        """Read what `line` gave. Raises ValueError."""
        subscribed, reasons, metrics, told = json.loads(line)
        conditions = None if told is None else Conditions.parsed(told)
        return cls(subscribed, reasons, [Family.of(each) for each in metrics], conditions)


class Line:
    """The worker's end."""

    def __init__(self, descriptor: int) -> None:
        """Take the socket over that this process inherited as *descriptor*."""
        self._socket = socket.socket(fileno=descriptor)
        self._writer: asyncio.StreamWriter | None = None
        self._watched_until_s = 0.0

    async def serve(self, report: Callable[[bool], Report], on_asked: Callable[[], None]) -> None:
        """Report again and again, while somebody hears it; *on_asked* hears that the worker is to leave.

        *report* is told whether somebody looks at the page.
        """
        reader, self._writer = await asyncio.open_connection(sock=self._socket)

        def closed(listening: asyncio.Task[None]) -> None:
            if not listening.cancelled():
                listening.exception()  # reset: as good as closed
                on_asked()

        listening = asyncio.create_task(self._listen(reader))
        listening.add_done_callback(closed)
        try:
            while True:
                said = report(time.monotonic() < self._watched_until_s)
                self._writer.write(said.line())
                await self._writer.drain()
                await asyncio.sleep(UNREADY_INTERVAL_S if said.reasons else INTERVAL_S)
        except OSError:
            on_asked()
        finally:
            listening.cancel()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        """Note who looks; return when the other end is closed."""
        while await reader.read(1024):
            self._watched_until_s = time.monotonic() + WATCHED_S

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
