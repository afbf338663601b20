"""What a running worker says: all that alerts and dashboards ask for; its lag with its database away."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from tests.acceptance.conftest import Greenhouse
from tests.gateways import publish
from tests.promql import RULES, Selector, selectors, without_series

if TYPE_CHECKING:
    from tests.acceptance.conftest import WorkerMaker
    from tests.servers import Mosquitto, PostgresCluster

DEPLOY = Path(__file__).parents[2] / "deploy"


def asked_for() -> list[Selector]:
    """Give what alert rules and dashboards select of a worker's own series."""
    expressions = [rule["expr"] for rule in RULES]
    for path in DEPLOY.glob("grafana/dashboards/*.json"):
        targets = [
            each for panel in json.loads(path.read_text())["panels"] for each in panel.get("targets", ())
        ]
        expressions += [target["expr"] for target in targets if "expr" in target]
    found = [each for expression in expressions for each in selectors(expression)]
    return [each for each in found if each.name != "up" and ":" not in each.name]


async def test_a_page_has_what_is_asked_for_and_lag_grows_with_the_database_away(
    cluster: tuple[PostgresCluster, str], broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    server, dsn = cluster
    greenhouse = await Greenhouse.registered(dsn)
    worker = worker_of(greenhouse, dsn, broker.url, settings={"write": {"retry_max_s": 0.2}})
    await worker.ready()
    await publish(broker.port, greenhouse.messages(range(20)))
    await worker.until(lambda: greenhouse.holds(20), "20 rows")
    _, page = await worker.get("/metrics")
    families = list(text_string_to_metric_families(page))
    series = [(sample.name, sample.labels) for family in families for sample in family.samples]
    wanted = asked_for()
    assert len(wanted) > 50
    assert without_series(wanted, series) == []
    assert without_series(selectors('ingest_retries_total{sqlstate_class="99"}'), series)
    metrics = await worker.metrics()
    assert (metrics["ingest_ready"], metrics["ingest_lag_seconds"]) == (1, 0)

    await asyncio.to_thread(server.stop)
    since_s = time.monotonic()
    await publish(broker.port, greenhouse.messages(range(20, 40)))
    lags: list[float] = []

    async def grown() -> bool:
        found = await worker.metrics()
        lags.append(found["ingest_lag_seconds"])
        return found["ingest_ready"] == 0 and lags[-1] > 0.5

    await worker.until(grown, "it is not ready, and lags by half a second")
    assert lags == sorted(lags)
    assert lags[-1] < time.monotonic() - since_s
    await asyncio.to_thread(server.start)

    async def settled() -> bool:
        found = await worker.metrics()
        return (found["ingest_ready"], found["ingest_lag_seconds"]) == (1, 0)

    await worker.until(settled, "it is ready, and lags no more")
    assert await greenhouse.count() == 40
    await worker.stop()
