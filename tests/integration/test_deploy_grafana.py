"""The dashboards: each query runs against the real schema, as the login that Grafana has, and finds its rows.

Grafana's own part, putting time range and variables into a query, is done here for the few macros in use; an
unknown one fails.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg
import pytest
import yaml
from prometheus_client import generate_latest

from ingest.observe.metrics import CATALOGUE, Metrics
from tests.promql import RECORDED, selectors

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "deploy" / "grafana"
DASHBOARDS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text()) for path in sorted(GRAFANA.glob("dashboards/*.json"))
}
SOURCES: dict[str, dict[str, Any]] = {
    source["uid"]: source
    for source in yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "greenhouse.yml").read_text())[
        "datasources"
    ]
}
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
NOW = datetime.now(UTC)
TENANT, GREENHOUSE, SENSOR = uuid4(), uuid4(), uuid4()
MACRO = re.compile(r"\$__\w+(?:\(([^)]*)\))?")


def panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from (panel for panel in dashboard["panels"] if panel["type"] != "row")


TARGETS = [
    (panel, target)
    for dashboard in DASHBOARDS.values()
    for panel in panels(dashboard)
    for target in panel["targets"]
]
SQL = [(panel, target) for panel, target in TARGETS if "rawSql" in target]
PROMQL = [target["expr"] for _, target in TARGETS if "expr" in target]


def as_sent(query: str) -> str:
    """Put the last two days and the greenhouse into *query*, as Grafana does before it sends it."""

    def expanded(found: re.Match[str]) -> str:
        assert found[0].startswith("$__timeFilter("), f"no macro known here: {found[0]}"
        since, until = NOW - timedelta(days=2), NOW + timedelta(hours=1)
        return f"{found[1]} BETWEEN '{since.isoformat()}' AND '{until.isoformat()}'"

    sent = MACRO.sub(expanded, query.replace("$greenhouse", str(GREENHOUSE)))
    assert "$" not in sent
    return sent


@pytest.fixture
async def reader(migrated_dsn: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A greenhouse with two days of readings, seen by a member of greenhouse_reader."""
    connection = await asyncpg.connect(migrated_dsn)
    await connection.execute(
        "insert into metadata.tenants (id, name, mqtt_topic_prefix) values ($1, 'SARA', 'SARA')", TENANT
    )
    await connection.execute(
        "insert into metadata.greenhouses (id, tenant_id, name, greenhouse_code) values ($1, $2, 'A1', 'A1')",
        GREENHOUSE,
        TENANT,
    )
    await connection.execute(
        """
        insert into metadata.data_quality_log
            (data_source, quality_issue_type, severity, greenhouse_id, description)
        values ('test', 'SPIKE', 'LOW', $1, 'a spike')
        """,
        GREENHOUSE,
    )
    await connection.execute(
        """
        insert into iot.sensor_intervals (sensor_id, greenhouse_id, expected_interval_s)
        values ($1, $2, 60)
        """,
        SENSOR,
        GREENHOUSE,
    )
    for type_id, unit_id in ((1, 1), (2, 3), (3, 4), (5, 6)):
        await connection.execute(
            """
            insert into iot.sensor_readings
                (time, greenhouse_id, tenant_id, sensor_id, sensor_type_id, unit_id, value)
            select $1::timestamptz - n * interval '30 minutes', $2, $3, $4, $5, $6, 20 + n % 7
            from generate_series(1, 60) as n
            """,
            NOW,
            GREENHOUSE,
            TENANT,
            SENSOR,
            type_id,
            unit_id,
        )
    await connection.execute("call iot.fill_greenhouse_daily_summary(0, '{}')")
    await connection.execute("set role greenhouse_reader")
    yield connection
    await connection.execute("reset role")
    await connection.close()


async def test_every_query_finds_rows_as_the_reader_in_the_shape_of_its_panel(
    reader: asyncpg.Connection[asyncpg.Record],
) -> None:
    assert len(SQL) > 10
    for panel, target in SQL:
        records = await reader.fetch(as_sent(target["rawSql"]))
        assert records, panel["title"]
        columns = list(records[0].keys())
        if target["format"] == "time_series":
            assert panel["type"] == "timeseries"
            assert columns[0] == "time"
            assert isinstance(records[0]["time"], datetime)
            for name in columns[1:]:
                kind = str if name == "metric" else (float, int, Decimal)
                assert any(isinstance(record[name], kind) for record in records), (panel["title"], name)
            times = [record["time"] for record in records]
            assert times == sorted(times)
        else:
            assert panel["type"] == "table"
            assert re.search(r"(?m)^limit \d+$", target["rawSql"]), panel["title"]
    [variable] = DASHBOARDS["greenhouses"]["templating"]["list"]
    [record] = await reader.fetch(variable["query"])
    assert dict(record) == {"__text": "SARA / A1", "__value": str(GREENHOUSE)}


@pytest.mark.parametrize("dashboard", DASHBOARDS.values(), ids=DASHBOARDS)
def test_a_dashboard_is_one_that_grafana_can_load(dashboard: dict[str, Any]) -> None:
    assert dashboard["uid"]
    assert dashboard["editable"] is False
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(numbers)) == len(numbers)
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    for panel in panels(dashboard):
        for part in (panel, *panel["targets"]):
            source = SOURCES[part["datasource"]["uid"]]
            assert part["datasource"]["type"] == source["type"]
    variables = {each["name"] for each in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$(?!__)(\w+)", json.dumps(dashboard["panels"])))
    assert used == variables


def test_the_worker_has_every_metric_that_is_drawn_and_every_metric_is_drawn() -> None:
    page = generate_latest(Metrics().registry).decode()
    held = set(re.findall(r"(?m)^(\w+)(?:\{| )", page))
    drawn = {each.name for expression in PROMQL for each in selectors(expression)}
    recorded = {name for name in drawn if ":" in name}
    assert drawn - recorded <= held
    assert recorded <= RECORDED
    assert {each.name for each in CATALOGUE} <= {name.removesuffix("_bucket") for name in drawn}


def test_the_data_sources_are_the_services_of_the_compose_file() -> None:
    services = COMPOSE["services"]
    assert SOURCES["worker"]["url"] == "http://prometheus:9090"
    for name in ("timeseries", "metadata"):
        source = SOURCES[name]
        assert source["url"] == f"{name}:5432"
        assert source["user"] == "ingest_reader"
        assert source["jsonData"]["database"] == services[name]["environment"]["POSTGRES_DB"]
        secret = f"{name}_reader_password"
        assert source["secureJsonData"] == {"password": f"$__file{{/run/secrets/{secret}}}"}
        assert secret in services["grafana"]["secrets"]


def test_what_grafana_is_told_is_where_the_compose_file_mounts_it() -> None:
    provider = yaml.safe_load((GRAFANA / "provisioning" / "dashboards" / "greenhouse.yml").read_text())
    [place] = [each["options"]["path"] for each in provider["providers"]]
    grafana = COMPOSE["services"]["grafana"]
    assert f"./deploy/grafana/dashboards:{place}:ro" in grafana["volumes"]
    home = Path(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert home.parent == Path(place)
    assert home.stem in DASHBOARDS
    assert all(not re.search("password", json.dumps(each), re.IGNORECASE) for each in DASHBOARDS.values())
