"""A loader that reads only what changed has, at rest, what a whole read gives: whatever changed."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import time
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
import pytest

from ingest.migrate import Database, migrate
from ingest.resolve import loader as loader_module
from ingest.resolve import reading as reading_module
from ingest.resolve.loader import CatalogLoader, read_catalog
from ingest.resolve.missing import missing_name
from ingest.settings import ResolveSettings
from tests.integration.loading import WAIT_S, Swaps, running
from tests.statements import execute
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Connection = asyncpg.Connection
SETTINGS = ResolveSettings.model_validate({})
PLACES = tuple(UUID(int=0xB0 + number) for number in range(6))
FILL = """
    insert into metadata.tenants (id, name, mqtt_topic_prefix)
    select ('00000000-0000-0000-0000-0000000000a' || n)::uuid, 'Tenant ' || n, 'T' || n
    from generate_series(0, 1) as n;
    insert into metadata.greenhouses (id, tenant_id, name, greenhouse_code)
    select
        ('00000000-0000-0000-0000-0000000000b' || n)::uuid,
        ('00000000-0000-0000-0000-0000000000a' || n % 2)::uuid,
        'House ' || n,
        '0' || n
    from generate_series(0, 5) as n;
    insert into metadata.sensors
        (id, tenant_id, greenhouse_id, sensor_code, device_id, mqtt_field_name, sensor_type)
    select
        ('00000000-0000-0000-0000-000000000' || g.greenhouse_code || n)::uuid,
        g.tenant_id,
        g.id,
        'S' || n,
        'ESP',
        'TEMP ' || n,
        'Temperatura'
    from metadata.greenhouses as g, generate_series(0, 4) as n
"""
MANY = """
    insert into metadata.greenhouses (tenant_id, name, greenhouse_code)
    select '00000000-0000-0000-0000-0000000000a0', n, 'many ' || n
    from generate_series(1, 200) as n;
    insert into metadata.sensors
        (tenant_id, greenhouse_id, sensor_code, device_id, mqtt_field_name, sensor_type_id)
    select tenant_id, id, 'DHT22-' || n, 'ESP32-' || n / 4, 'TEMPERATURA INVERNADERO ' || n, 1
    from metadata.greenhouses, generate_series(1, 100) as n
    where greenhouse_code like 'many %'
"""
LAST = """
    insert into metadata.greenhouses (id, tenant_id, name, greenhouse_code)
    select $1, id, 'last', 'last'
    from metadata.tenants
    limit 1
"""
ADD = """
    insert into metadata.sensors (tenant_id, greenhouse_id, sensor_code, sensor_type)
    select tenant_id, id, 'N' || $1, 'CO2'
    from metadata.greenhouses
    order by id
    offset $1 % 6
    limit 1
"""
MOVE = """
    update metadata.sensors as s
    set greenhouse_id = g.id, tenant_id = g.tenant_id, sensor_code = 'M' || $1, mqtt_field_name = null
    from (select id, tenant_id from metadata.greenhouses order by id offset $1 % 3 limit 1) as g
    where s.id = (select id from metadata.sensors where greenhouse_id <> g.id order by id offset $1 limit 1)
"""
FOUND = """
    insert into metadata.greenhouses (tenant_id, name, greenhouse_code)
    select id, 'New', 'N' || $1
    from metadata.tenants
"""
ABANDON = """
    delete from metadata.greenhouses as g
    where not exists (select from metadata.sensors as s where s.greenhouse_id = g.id)
"""
SENSOR_SETS = (
    "device_id = 'B' || $1",
    "sensor_code = 'R' || $1 || sensor_code",
    "mqtt_field_name = 'L' || $1 || sensor_code, unit = 'C'",
    "is_active = not is_active",
    "expected_interval_s = $1 + 1",
    "sensor_type = 'Humedad ' || $1",
    "sensor_type = 'CO2 ' || $1, sensor_type_id = null",
)
GREENHOUSE_SETS = ("greenhouse_code = 'C' || $1", "is_active = not is_active")
SOME = " where get_byte(uuid_send(id), 15) % 5 = $1 % 5"
NAME_DEVICES = "update metadata.sensors set device_id = $1, updated_at = now() where greenhouse_id = $2"
STEPS = (
    ADD,
    ADD,
    MOVE,
    MOVE,
    FOUND,
    ABANDON,
    f"delete from metadata.sensors {SOME}",
    *(f"update metadata.sensors set {each} {SOME}" for each in SENSOR_SETS),
    *(f"update metadata.greenhouses set {each} {SOME}" for each in GREENHOUSE_SETS),
    "update metadata.tenants set mqtt_topic_prefix = 'P' || $1 where name <> 'Tenant 0'",
    "insert into metadata.sensor_type_aliases (alias, sensor_type_id) values ('ALIAS ' || $1, $1 % 11 + 1)",
    "delete from metadata.sensor_type_aliases where alias like 'ALIAS %'",
    "update metadata.sensor_types set max_value = 90 + $1 where id = 1",
    "update metadata.units set symbol = 'U' || $1 where id = 11",
)
"""Statements with a number for $1, each of which may change nothing."""


@pytest.fixture
async def metadata(postgres_dsn: str) -> AsyncIterator[Connection]:
    await migrate(postgres_dsn, Database.METADATA)
    connection = await asyncpg.connect(postgres_dsn)
    await connection.execute(FILL)
    yield connection
    await connection.close()


@contextlib.asynccontextmanager
async def unannounced(connection: Connection) -> AsyncIterator[None]:
    """Have no trigger run, as when somebody switched them off for a bulk load."""
    await connection.execute("set session_replication_role = replica")
    yield
    await connection.execute("reset session_replication_role")


async def agree(dsn: str, *loaders: CatalogLoader) -> None:
    """Wait until each of *loaders* has what a whole read gives, and compare."""
    whole = await read_catalog(dsn, SETTINGS)
    for loader in loaders:
        await until(lambda one=loader: one.catalog is not None and one.catalog.version == whole.version)  # type: ignore[misc]
        assert loader.catalog is not None
        assert dict(loader.catalog.sensors) == dict(whole.sensors)
        assert loader.catalog.counts() == whole.counts()


@pytest.mark.parametrize("seed", range(3))
async def test_two_workers_follow_whatever_is_announced(
    postgres_dsn: str, metadata: Connection, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(loader_module, "QUIET_S", 0.01)
    chance = random.Random(seed)  # noqa: S311 (a walk, not a secret)
    async with running(postgres_dsn, Swaps()) as one, running(postgres_dsn, Swaps()) as other:
        for turn, step in enumerate(chance.sample(STEPS, len(STEPS))):
            with contextlib.suppress(asyncpg.UniqueViolationError):
                await metadata.execute(step.replace("$1", str(turn)))
            if chance.random() < 0.7:
                await agree(postgres_dsn, one, other)
        await agree(postgres_dsn, one, other)


async def test_a_change_of_one_reads_one_greenhouse(postgres_dsn: str, metadata: Connection) -> None:
    swaps = Swaps()
    async with running(postgres_dsn, swaps) as loader:
        await metadata.execute(NAME_DEVICES, "X", PLACES[2])
        await agree(postgres_dsn, loader)
        before, after = swaps.catalogs
        assert list(after.rosters_changed_since(before)) == [PLACES[2]]
        assert [key for key, roster in after.rosters.items() if before.rosters[key] is not roster] == [
            PLACES[2].int
        ]
        assert after.has_the_places_of(before)


async def test_a_transaction_that_commits_late_is_not_lost(postgres_dsn: str, metadata: Connection) -> None:
    late = await asyncpg.connect(postgres_dsn)
    async with running(postgres_dsn, Swaps()) as loader:
        transaction = late.transaction()
        await transaction.start()
        await late.execute(NAME_DEVICES, "late", PLACES[0])
        await metadata.execute(NAME_DEVICES, "soon", PLACES[1])
        await agree(postgres_dsn, loader)
        await transaction.commit()
        await agree(postgres_dsn, loader)
        assert loader.catalog is not None
        assert len(loader.catalog.sensors_coded(PLACES[0], "late")) == 5
    await late.close()


WAITING = """
    select count(*) = 1
    from pg_stat_activity
    where wait_event_type = 'Lock' and datname = current_database()
"""


async def test_a_change_after_the_snapshot_of_the_first_read(postgres_dsn: str, metadata: Connection) -> None:
    """It is heard, because LISTEN came before."""
    blocker = await asyncpg.connect(postgres_dsn)
    loader = CatalogLoader(postgres_dsn, SETTINGS, lambda _: None)
    blocking = blocker.transaction()
    await blocking.start()
    await blocker.execute("lock table metadata.tenants in access exclusive mode")
    task = asyncio.create_task(loader.run())
    async with asyncio.timeout(WAIT_S):
        while not await metadata.fetchval(WAITING):  # noqa: ASYNC110 (it has its snapshot then, by the units)
            await asyncio.sleep(0.01)
    await metadata.execute("update metadata.sensors set device_id = 'between'")
    await blocking.commit()
    await agree(postgres_dsn, loader)
    assert loader.refreshes == 2
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await loader.close()
    await blocker.close()


async def test_after_a_lost_connection_everything_is_read(postgres_dsn: str, metadata: Connection) -> None:
    async with running(postgres_dsn, Swaps()) as loader:
        async with unannounced(metadata):
            await metadata.execute("update metadata.sensors set device_id = 'unheard'")
            await metadata.execute("delete from metadata.sensors where greenhouse_id = $1", PLACES[5])
            await metadata.execute("delete from metadata.greenhouses where id = $1", PLACES[5])
        await execute(
            postgres_dsn,
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where application_name = 'greenhouse-ingest catalog' and datname = current_database()",
        )
        await agree(postgres_dsn, loader)


async def test_what_nobody_announced_is_found_page_by_page(
    postgres_dsn: str, metadata: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (loader_module, reading_module):
        monkeypatch.setattr(module, "PAGE_GREENHOUSES", 2)
    await metadata.execute(
        "update metadata.sensors set sensor_code = sensor_code || id, mqtt_field_name = id"
    )
    async with running(postgres_dsn, Swaps(), refresh_interval_s=0.3) as loader:
        for place, change in (
            (PLACES[0], "delete from metadata.sensors where greenhouse_id = $1"),
            (PLACES[0], "delete from metadata.greenhouses where id = $1"),
            (PLACES[5], "update metadata.sensors set greenhouse_id = $1 where sensor_code like 'S0%'"),
            (PLACES[5], "update metadata.greenhouses set greenhouse_code = 'ZZ' where id = $1"),
            (UUID(int=2**128 - 1), LAST),
        ):
            async with unannounced(metadata):
                await metadata.execute(change, place)
            await agree(postgres_dsn, loader)


async def test_a_missing_name_is_looked_for_where_it_would_be(
    postgres_dsn: str, metadata: Connection
) -> None:
    settings = ResolveSettings.model_validate({"miss_refresh_min_interval_s": 0})
    loader = CatalogLoader(postgres_dsn, settings, lambda _: None)
    await loader.load()
    owner = UUID(int=0xA1)
    rename = "update metadata.greenhouses set greenhouse_code = 'c' || greenhouse_code"
    for change, missing in (
        ("update metadata.sensors set device_id = 'a'", missing_name("sensor", "a", PLACES[1])),
        ("update metadata.sensors set mqtt_field_name = sensor_code", missing_name("label", "s1", owner)),
        (rename, missing_name("greenhouse", "c02")),
        (rename, missing_name("greenhouse", "CC03", owner)),
    ):
        async with unannounced(metadata):
            await metadata.execute(change)
        before = loader.catalog
        assert missing is not None
        assert before is not None
        assert await loader.refresh_on_miss([missing])
        assert loader.catalog is not None
        rows = loader.catalog.greenhouses
        renamed = [each for each in PLACES if rows[each] != before.greenhouses[each]]
        assert 1 <= len({*renamed, *loader.catalog.rosters_changed_since(before)}) <= 3, "of six greenhouses"
    await loader.close()


async def test_a_tenant_merged_into_another_takes_its_greenhouses_along(
    postgres_dsn: str, metadata: Connection
) -> None:
    """Nobody tells: as when it is read between their COMMIT and its announcement."""
    loader = CatalogLoader(postgres_dsn, SETTINGS, lambda _: None)
    try:
        before = await loader.load()
        kept, gone = sorted(before.tenants)
        assert len(before.greenhouses_of(gone)) == 3
        await metadata.execute("set session_replication_role = replica")
        async with metadata.transaction():
            await metadata.execute("update metadata.greenhouses set tenant_id = $1", kept)
            await metadata.execute("update metadata.sensors set tenant_id = $1", kept)
            await metadata.execute("delete from metadata.greenhouses where id = $1", PLACES[5])
            await metadata.execute("delete from metadata.tenants where id = $1", gone)
        assert await loader.refresh_on_miss(["unit * furlong"])
        catalog = loader.catalog
        assert catalog is not None
        assert list(catalog.tenants) == [kept]
        assert set(catalog.greenhouses) == set(PLACES[:5])
        assert {house.tenant_id for house in catalog.greenhouses.values()} == {kept}
    finally:
        await loader.close()


async def test_neither_a_change_nor_a_whole_read_holds_up_the_event_loop(
    postgres_dsn: str, metadata: Connection
) -> None:
    """In CPU of this thread, so that other processes do not count: 20 000 sensors at once take 200 ms."""
    async with unannounced(metadata):
        await metadata.execute(MANY)
    longest_s = 0.0

    async def probe() -> None:
        nonlocal longest_s
        while True:
            before_s = time.thread_time()
            await asyncio.sleep(0)
            longest_s = max(longest_s, time.thread_time() - before_s)

    loader = CatalogLoader(postgres_dsn, SETTINGS, lambda _: None)
    gc.collect()
    gc.disable()  # of all that the other tests left behind
    probing = asyncio.create_task(probe())
    try:
        catalog = await loader.load()
        assert len(catalog.sensors) == 20_030
        async with unannounced(metadata):
            await metadata.execute("update metadata.sensors set device_id = 'X'")
        assert (await loader.load()).version != catalog.version
    finally:
        probing.cancel()
        gc.enable()
    await loader.close()
    assert longest_s < 0.03
