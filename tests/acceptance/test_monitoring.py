"""What a running worker says: all that alerts and dashboards ask for; its lag with its database away."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.acceptance.conftest import Greenhouse
from tests.gateways import publish
from tests.promql import Selector, selectors, without_series

if TYPE_CHECKING:
    from tests.acceptance.conftest import WorkerMaker
    from tests.servers import Mosquitto, PostgresCluster

DEPLOY = Path(__file__).parents[2] / "deploy"


def asked_for() -> list[Selector]:
    """Give what alert rules and dashboards select of a worker's own series."""
    groups = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
    expressions = [rule["expr"] for group in groups for rule in group["rules"]]
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
    greenhouse = Greenhouse(dsn)
    await greenhouse.register()
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
