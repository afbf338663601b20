from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import pytest
from pydantic import SecretStr

from ingest.operate.check import check
from ingest.settings import BrokerSettings, Settings
from tests.integration.plain_postgres import create_timeseries_schema
from tests.servers import free_port

if TYPE_CHECKING:
    from tests.acceptance.conftest import Greenhouse, WorkerMaker
    from tests.servers import Mosquitto


def settings(broker_url: str, dsn: str, client_id: str = "checked") -> Settings:
    return Settings(
        broker_url=broker_url,
        metadata_dsn=SecretStr(dsn),
        timeseries_dsn=SecretStr(dsn),
        broker=BrokerSettings(client_id=client_id, connect_timeout_s=2),
    )


async def failures(checked: Settings) -> dict[str, str]:
    return {each.name: each.detail for each in await check(checked) if not each.ok}


@pytest.mark.usefixtures("greenhouse")
async def test_all_is_well(broker: Mosquitto, database: str) -> None:
    assert await failures(settings(broker.url, database)) == {}


async def test_a_running_worker_is_not_disturbed(
    broker: Mosquitto, database: str, greenhouse: Greenhouse, worker_of: WorkerMaker
) -> None:
    worker = worker_of(greenhouse, database, broker.url, client_id="disturbed")
    await worker.ready()
    assert await failures(settings(broker.url, database, "disturbed")) == {}
    assert "broker_unavailable" not in worker.log_file.read_text()


@pytest.mark.usefixtures("greenhouse")
async def test_what_is_away_is_named(database: str) -> None:
    port = free_port()
    found = await failures(settings(f"mqtt://127.0.0.1:{port}", database))
    assert list(found) == ["broker"]
    assert f"127.0.0.1:{port}" in found["broker"]

    found = await failures(
        settings(f"mqtt://127.0.0.1:{port}", f"postgresql://nobody@127.0.0.1:{port}/nowhere")
    )
    assert set(found) == {
        "broker",
        "metadata server",
        "metadata schema",
        "catalog",
        "timeseries server",
        "timeseries schema",
        "timeseries privileges",
    }


async def test_a_database_that_was_never_migrated(broker: Mosquitto, postgres_dsn: str) -> None:
    found = await failures(settings(broker.url, postgres_dsn))

    assert "ingest schema migrate" in found["metadata schema"]
    assert "extension timescaledb" in found["timeseries server"]
    assert "metadata server" not in found


async def test_what_the_role_may_not_is_said(broker: Mosquitto, postgres_dsn: str) -> None:
    connection = await asyncpg.connect(postgres_dsn)
    try:
        await create_timeseries_schema(connection)
        worker = f"{postgres_dsn}?options=-c%20role%3Dgreenhouse_worker"
        assert "timeseries privileges" not in await failures(settings(broker.url, worker))
        await connection.execute("revoke delete on iot.ingest_dead_letters from greenhouse_worker")
        found = await failures(settings(broker.url, worker))
    finally:
        await connection.close()
    assert "lacks delete on iot.ingest_dead_letters" in found["timeseries privileges"]


async def test_an_edited_migration(
    broker: Mosquitto, database: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    await connection.execute("update iot.schema_history set checksum = repeat('0', 64) where version = '15'")
    try:
        assert "V15 edited" in (await failures(settings(broker.url, database)))["timeseries schema"]
    finally:
        await connection.execute("delete from iot.schema_history where version = '15'")
