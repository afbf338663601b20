"""What broker and database have in common: started and stopped with or without an event loop."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Self

from ingest.errors import EmbeddedError

if TYPE_CHECKING:
    from ingest.embedded.child import Child


class EmbeddedServer(ABC):
    """A server in a `Child` that *what* names, as in "the embedded database"."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._child: Child | None = None

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
    def pid(self) -> int:
        """The process id of the server."""
        return self._running().pid

    async def start(self) -> None:
        """Start it; returns once it takes connections. `EmbeddedError` says what is missing."""
        await asyncio.to_thread(self.start_blocking)

    async def stop(self) -> None:
        """End it: a database with a checkpoint, a broker with what it kept. Safe to call twice."""
        await asyncio.to_thread(self.stop_blocking)

    async def wait_closed(self) -> None:
        """Return after `stop`; raise `EmbeddedError` with its last lines if the server ended by itself."""
        await self._running().wait_ended()

    def start_blocking(self) -> None:
        """Do what `start` does, for code without an event loop."""
        if self._child is not None:
            raise EmbeddedError(f"{self._what} is running already")
        self._child = self._started()

    def stop_blocking(self) -> None:
        """Do what `stop` does, for code without an event loop."""
        child, self._child = self._child, None
        if child is not None:
            child.stop()

    @abstractmethod
    def _started(self) -> Child:
        """Give its process, which is ready."""

    def _running(self) -> Child:
        if self._child is None:
            raise EmbeddedError(f"{self._what} is not running: start it first")
        return self._child
