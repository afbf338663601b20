"""A catalog loader at work in a test's own event loop, and statements beside it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import asyncpg

from ingest.resolve.loader import CatalogLoader
from ingest.settings import ResolveSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from ingest.resolve import Catalog

WAIT_S = 10.0


class Swaps:
    """Collects the snapshots a loader hands over."""

    def __init__(self) -> None:
        self.catalogs: list[Catalog] = []

    def __call__(self, catalog: Catalog) -> None:
        self.catalogs.append(catalog)


@contextlib.asynccontextmanager
async def running(dsn: str, swaps: Swaps, **options: float) -> AsyncIterator[CatalogLoader]:
    loader = CatalogLoader(dsn, ResolveSettings.model_validate(options), swaps)
    task = asyncio.create_task(loader.run())
    try:
        await until(lambda: bool(swaps.catalogs))
        yield loader
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await loader.close()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not holds():  # noqa: ASYNC110 (what is waited for is on a server, without an event)
            await asyncio.sleep(0.01)


async def execute(dsn: str, *statements: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()
