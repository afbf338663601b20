"""A worker's committer and link in this process, without its catalog, healer and HTTP port."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from typing import TYPE_CHECKING

from pydantic import SecretStr

from ingest.commits import Committer
from ingest.intake import Intake
from ingest.observe.logs import Repeats
from ingest.observe.metrics import Metrics
from ingest.resolve import Resolver
from ingest.settings import BrokerSettings, Settings
from tests.unit.catalog_examples import default_rules, example_catalog
from tests.unit.examples import default_decoder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@contextlib.asynccontextmanager
async def committing(
    dsn: str, url: str, *filters: str, client_id: str | None = None
) -> AsyncIterator[Committer]:
    """Have a committer take in what comes for *filters*, until the block ends, in a session of its own."""
    broker = {
        "client_id": client_id or f"test-{uuid.uuid4().hex[:12]}",
        "filters": filters,
        "reconnect_min_s": 0.05,
        "reconnect_max_s": 0.1,
        "connect_timeout_s": 5.0,
    }
    settings = Settings(
        broker_url=url, broker=BrokerSettings.model_validate(broker), timeseries_dsn=SecretStr(dsn)
    )
    committer = Committer(
        settings,
        Intake(
            default_decoder(),
            Resolver(example_catalog(), default_rules(), out_of_range="quarantine"),
            ignore_retained=True,
            max_batch_rows=settings.write.max_batch_rows,
        ),
        metrics=Metrics(),
        repeats=Repeats(0.0),
        look_up=_known_no_better,
        on_committed=lambda *_: None,
        meanwhile=lambda: None,
        on_outdated=lambda: None,
    )
    work = (committer.run(), committer.link.serve(committer.drained))
    tasks = [asyncio.create_task(each) for each in work]
    try:
        yield committer
    finally:
        committer.link.abort()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await committer.writer.close()


async def _known_no_better(_: frozenset[str]) -> bool:
    return False
