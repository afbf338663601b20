"""What a worker says of its lag, and of being ready, while its database is away and after."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.acceptance.conftest import Greenhouse
from tests.gateways import publish

if TYPE_CHECKING:
    from tests.acceptance.conftest import WorkerMaker
    from tests.servers import Mosquitto, PostgresCluster


async def test_lag_grows_with_the_database_away_and_is_gone_with_the_last_commit(
    cluster: tuple[PostgresCluster, str], broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    server, dsn = cluster
    greenhouse = Greenhouse(dsn)
    await greenhouse.register()
    worker = worker_of(greenhouse, dsn, broker.url, settings={"write": {"retry_max_s": 0.2}})
    await worker.ready()
    await publish(broker.port, greenhouse.messages(range(20)))
    await worker.until(lambda: greenhouse.holds(20), "20 rows")
    metrics = await worker.metrics()
    assert (metrics["ingest_ready"], metrics["ingest_lag_seconds"]) == (1, 0)

    server.stop()
    await publish(broker.port, greenhouse.messages(range(20, 40)))
    loop = asyncio.get_running_loop()
    since_s = loop.time()
    lags: list[float] = []

    async def grown() -> bool:
        found = await worker.metrics()
        lags.append(found["ingest_lag_seconds"])
        return found["ingest_ready"] == 0 and lags[-1] > 0.5

    await worker.until(grown, "it is not ready, and lags by half a second")
    assert lags == sorted(lags)
    assert lags[-1] < loop.time() - since_s + 5
    await asyncio.to_thread(server.start)

    async def settled() -> bool:
        found = await worker.metrics()
        return (found["ingest_ready"], found["ingest_lag_seconds"]) == (1, 0)

    await worker.until(settled, "it is ready, and lags no more")
    assert await greenhouse.count() == 40
    await worker.stop()
