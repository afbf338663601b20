"""The connection of a backfill when its database falls silent."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ingest.errors import Unavailable
from ingest.settings import WriteSettings
from ingest.write import backfiller
from tests.batches import row, series_of, stored
from tests.proxy import Proxy

if TYPE_CHECKING:
    import asyncpg
    import pytest

    from ingest.errors import DatabaseFault


async def test_a_silence_longer_than_its_patience_is_tried_again(
    timeseries_dsn: str, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backfiller, "PATIENCE_S", 0.9)
    told: list[DatabaseFault] = []
    async with Proxy(urlsplit(timeseries_dsn).port or 0) as proxy:
        one = backfiller.Backfiller(
            proxy.url(timeseries_dsn),
            WriteSettings(commit_timeout_s=1.0, retry_max_s=0.1),
            "(import)",
            on_retry=lambda fault, _: told.append(fault),
        )
        proxy.set_trap(b"BEGIN", "stall", forward=False)
        landed = await one.store([row(series_of(), 2.0)])
        await one.close()
    assert [type(fault) for fault in told] == [Unavailable]
    assert landed.written == 1
    assert [value for _, value in await stored(connection)] == [2.0]
