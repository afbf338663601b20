"""The catalog loader against a real PostgreSQL: snapshots, notifications, misses, outages."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from ingest.errors import Misconfigured, Unavailable
from ingest.migrate import Database, migrate
from ingest.operate.catalog import add_greenhouse, add_sensor, add_tenant
from ingest.resolve import loader as loader_module
from ingest.resolve.loader import CatalogLoader
from ingest.settings import ResolveSettings
from tests.integration.loading import WAIT_S, Swaps, running
from tests.servers import PostgresCluster
from tests.statements import execute
from tests.waiting import until


async def one_greenhouse(dsn: str) -> None:
    await add_tenant(dsn, name="Sara", prefix="SARA")
    await add_greenhouse(dsn, tenant="SARA", code="01")


async def test_load_reads_everything(metadata_dsn: str) -> None:
    await one_greenhouse(metadata_dsn)
    await add_sensor(
        metadata_dsn, tenant="SARA", greenhouse="01", sensor_type="humedad", label="HUM 1", device_id="ESP-1"
    )
    swaps = Swaps()
    loader = CatalogLoader(metadata_dsn, ResolveSettings.model_validate({}), swaps)
    assert (loader.catalog, loader.age_s) == (None, float("inf"))
    catalog = await loader.load()
    assert swaps.catalogs == [catalog]
    assert (catalog.counts()["tenants"], catalog.counts()["greenhouses"], catalog.counts()["sensors"]) == (
        1,
        1,
        1,
    )
    assert (len(catalog.units), len(catalog.sensor_types)) == (11, 11)
    temperature = catalog.sensor_type_named("Temperatura")
    assert temperature is not None
    assert (temperature.sensor_type_id, temperature.minimum, temperature.maximum) == (1, -50, 100)
    (house,) = catalog.greenhouses_coded("01")
    (sensor,) = catalog.sensors_labelled(house.greenhouse_id, "hum_1")
    assert (sensor.device_id, sensor.sensor_type, sensor.unit) == ("ESP-1", "HUMIDITY", "%")
    assert loader.last_error is None
    assert loader.age_s < WAIT_S
    assert await loader.load() is catalog, "an unchanged database gives the same snapshot"
    assert len(swaps.catalogs) == 1
    await loader.close()


async def test_notification_swaps_the_snapshot(metadata_dsn: str) -> None:
    swaps = Swaps()
    async with running(metadata_dsn, swaps) as loader:
        await add_tenant(metadata_dsn, name="Sara", prefix="SARA")
        await until(lambda: len(swaps.catalogs) == 2)
        assert swaps.catalogs[1].tenant_prefixed("SARA")
        assert loader.catalog is swaps.catalogs[1]


async def test_notification_over_the_one_session_of_the_embedded_database(migrated_dsn: str) -> None:
    swaps = Swaps()
    async with running(migrated_dsn, swaps):
        await add_tenant(migrated_dsn, name="Sara", prefix="SARA")
        await until(lambda: swaps.catalogs[-1].tenant_prefixed("SARA") is not None)


async def test_a_bulk_import_is_one_refresh(metadata_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await one_greenhouse(metadata_dsn)
    monkeypatch.setattr(loader_module, "QUIET_S", 1.0)
    monkeypatch.setattr(loader_module, "QUIET_MAX_S", 6 * WAIT_S)
    swaps = Swaps()
    async with running(metadata_dsn, swaps) as loader:
        for number in range(10):  # ten transactions, closer together than the pause that ends a burst
            await add_sensor(
                metadata_dsn, tenant="SARA", greenhouse="01", sensor_type="co2", code=f"S{number}"
            )
        await until(lambda: len(swaps.catalogs[-1].sensors) == 10)
        assert loader.refreshes == 2, "once at the start"


async def test_last_seen_is_no_change(metadata_dsn: str) -> None:
    await one_greenhouse(metadata_dsn)
    await add_sensor(metadata_dsn, tenant="SARA", greenhouse="01", sensor_type="co2", code="A")
    swaps = Swaps()
    async with running(metadata_dsn, swaps) as loader:
        await execute(metadata_dsn, "update metadata.sensors set last_seen = now()")
        await asyncio.sleep(0.5)
        assert loader.refreshes == 1


async def test_interval_without_notification(metadata_dsn: str) -> None:
    swaps = Swaps()
    async with running(metadata_dsn, swaps, refresh_interval_s=0.1) as loader:
        await execute(
            metadata_dsn,
            "alter table metadata.tenants disable trigger user",
            "insert into metadata.tenants (name, mqtt_topic_prefix) values ('Quiet', 'QUIET')",
        )
        await until(lambda: swaps.catalogs[-1].tenant_prefixed("QUIET") is not None)
        assert loader.refreshes > 1
        assert len(swaps.catalogs) == 2


async def test_lost_listener_comes_back(metadata_dsn: str) -> None:
    swaps = Swaps()
    async with running(metadata_dsn, swaps) as loader:
        await execute(
            metadata_dsn,
            "insert into metadata.tenants (name, mqtt_topic_prefix) values ('Sara', 'SARA')",
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where application_name = 'greenhouse-ingest catalog'",
        )
        await until(lambda: swaps.catalogs[-1].tenant_prefixed("SARA") is not None)
        await add_tenant(metadata_dsn, name="Next", prefix="NEXT")
        await until(lambda: swaps.catalogs[-1].tenant_prefixed("NEXT") is not None)
        assert loader.last_error is None


async def test_outage_keeps_the_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    with PostgresCluster() as cluster:
        dsn = cluster.create_database()
        await migrate(dsn, Database.METADATA)
        await add_tenant(dsn, name="Sara", prefix="SARA")
        swaps = Swaps()
        async with running(dsn, swaps, miss_refresh_min_interval_s=0) as loader:
            before = loader.catalog
            await asyncio.to_thread(cluster.kill9)
            await until(lambda: loader.failures > 1)
            assert loader.catalog is before
            assert loader.last_error
            assert "does not answer" in loader.last_error
            monkeypatch.setattr(loader_module, "MISS_WAIT_S", 10 * WAIT_S)
            async with asyncio.timeout(WAIT_S):  # a known outage holds nobody up
                assert await loader.refresh_on_miss(["unknown_tenant: X"]) is False
            await asyncio.to_thread(cluster.start)
            await until(lambda: loader.last_error is None)
            assert loader.catalog is before
            await add_tenant(dsn, name="Next", prefix="NEXT")
            await until(lambda: swaps.catalogs[-1].tenant_prefixed("NEXT") is not None)


async def test_load_without_a_database() -> None:
    with PostgresCluster() as cluster:
        settings = ResolveSettings.model_validate({})
        loader = CatalogLoader(cluster.dsn(), settings, Swaps())
        with pytest.raises(Misconfigured, match="ingest schema migrate"):
            await loader.load()
        with pytest.raises(Misconfigured, match="metadata DSN"):
            await CatalogLoader(cluster.dsn("none"), settings, Swaps()).load()
        await asyncio.to_thread(cluster.stop)
        with pytest.raises(Unavailable, match="does not answer"):
            await loader.load()
        await loader.close()
        with pytest.raises(Misconfigured):
            await CatalogLoader("mysql://nowhere", settings, Swaps()).load()


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


async def test_misses_are_rate_limited_and_remembered(metadata_dsn: str) -> None:
    clock = Clock()
    settings = ResolveSettings.model_validate(
        {"miss_refresh_min_interval_s": 5, "miss_memory_s": 60, "miss_memory_names": 3}
    )
    loader = CatalogLoader(metadata_dsn, settings, Swaps(), clock=clock)
    await loader.load()

    async def miss(*names: str) -> tuple[bool, int]:
        before = loader.refreshes
        return await loader.refresh_on_miss(names), loader.refreshes - before

    assert await miss("A") == (False, 1)
    await add_tenant(metadata_dsn, name="Sara", prefix="SARA")
    assert await miss("B") == (False, 0), "too soon"
    clock.now_s += 5
    assert await miss("A") == (False, 0), "asked for a moment ago"
    assert await miss("A", "B") == (True, 1), "too soon was not remembered"
    clock.now_s += 5
    assert await miss("A", "B") == (False, 0)
    clock.now_s += 60
    assert await miss("A") == (False, 1), "forgotten after a minute"
    clock.now_s += 5
    assert await miss("C", "D", "E") == (False, 1)
    clock.now_s += 5
    assert await miss("A") == (False, 1), "three names are remembered, A is not among them"
    assert await miss() == (False, 0)
    await loader.close()


async def test_concurrent_misses_share_one_refresh(metadata_dsn: str) -> None:
    swaps = Swaps()
    loader = CatalogLoader(metadata_dsn, ResolveSettings.model_validate({}), swaps)
    await loader.load()
    await add_tenant(metadata_dsn, name="Sara", prefix="SARA")
    answers = await asyncio.gather(*(loader.refresh_on_miss([f"N{number % 2}"]) for number in range(20)))
    assert answers == [True] * 20
    assert (loader.refreshes, len(swaps.catalogs)) == (2, 2)
    await loader.close()


async def test_misses_wait_for_a_slow_read_no_longer_than_one_does(
    metadata_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    loader = CatalogLoader(metadata_dsn, ResolveSettings.model_validate({}), Swaps(), clock=clock)
    await loader.load()
    blocker = await asyncpg.connect(metadata_dsn)
    async with blocker.transaction():
        await blocker.execute("lock table metadata.tenants in access exclusive mode")
        monkeypatch.setattr(loader_module, "MISS_WAIT_S", 0.2)
        assert await loader.refresh_on_miss(["A"]) is False
        monkeypatch.setattr(loader_module, "MISS_WAIT_S", 10 * WAIT_S)
        clock.now_s += 10 * WAIT_S
        async with asyncio.timeout(WAIT_S):
            assert await loader.refresh_on_miss(["B"]) is False
    await blocker.close()
    await loader.close()


async def test_database_that_stops_answering(metadata_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader_module, "READ_TIMEOUT_S", 0.3)
    blocker = await asyncpg.connect(metadata_dsn)
    loader = CatalogLoader(metadata_dsn, ResolveSettings.model_validate({}), Swaps())
    catalog = await loader.load()
    async with blocker.transaction():
        await blocker.execute("lock table metadata.tenants in access exclusive mode")
        assert await loader.refresh_on_miss(["A"]) is False
        await until(lambda: loader.last_error is not None)
        assert loader.catalog is catalog
    await blocker.close()
    assert await loader.load() is catalog
    assert loader.last_error is None
    await loader.close()


async def test_close_during_a_read(metadata_dsn: str) -> None:
    loader = CatalogLoader(metadata_dsn, ResolveSettings.model_validate({}), Swaps())
    reading: asyncio.Task[Any] = asyncio.create_task(loader.load())
    await asyncio.sleep(0)
    await loader.close()
    with pytest.raises(asyncio.CancelledError):
        await reading
