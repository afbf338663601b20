"""A catalog loader at work in a test's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from ingest.resolve.loader import CatalogLoader
from ingest.settings import ResolveSettings
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

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
