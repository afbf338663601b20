"""One worker process as its supervisor sees it: started, heard, asked to leave, ended.

Its log lines go where the supervisor's go. It has a session (of the system's) of its own, so that Ctrl-C on a
terminal reaches the supervisor alone, which then asks it. Runs on the supervisor's event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from typing import TYPE_CHECKING

from ingest.workers.line import MOST_BYTES, Report

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ingest.workers.order import Order


class Child:
    """See the module's header; made by `start`."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer

    @classmethod
    async def start(cls, order: Order, *, config: Path | None, debug: bool) -> Child:
        """Start a process that follows *order*. Raises OSError."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *order.command(theirs.fileno(), config=config, debug=debug),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        return cls(process, *await asyncio.open_connection(sock=ours, limit=MOST_BYTES))

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def run(self, on_report: Callable[[Report], None]) -> int:
        """Hear its reports until it ends; give its exit code, below 0 the signal that ended it."""
        with contextlib.suppress(OSError):
            while line := await self._reader.readline():
                if line.endswith(b"\n"):  # it was not killed in the middle of it
                    on_report(Report.of(line))
        code = await self._process.wait()
        self._writer.close()
        return code

    def ask_conditions(self) -> None:
        """Have its next reports say the last conditions; one that does not read is asked once."""
        if not self._writer.is_closing() and not self._writer.transport.get_write_buffer_size():
            self._writer.write(b"\n")

    def ask_to_leave(self) -> None:
        """Have it commit, acknowledge and disconnect; asked again, it only goes on doing so."""
        if not self._writer.is_closing():
            with contextlib.suppress(OSError):
                self._writer.write_eof()

    def kill(self) -> None:
        """End it at once: the broker keeps what is not committed."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()


def ending_of(code: int) -> dict[str, object]:
    """Give an exit code as a log line has it."""
    if code >= 0:
        return {"exit_code": code}
    with contextlib.suppress(ValueError):
        return {"signal": signal.Signals(-code).name}
    return {"signal": str(-code)}
