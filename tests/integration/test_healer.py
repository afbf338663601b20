"""The healer on a real database: what it replays, when it waits, what it tells."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from ingest import healing
from ingest.errors import Misconfigured
from ingest.healing import Healer
from ingest.resolve import Resolver
from ingest.resolve.rows import Greenhouse, Tenant
from ingest.settings import Settings
from tests.batches import NOW_US, stored
from tests.integration.plain_postgres import create_timeseries_schema
from tests.letters import LABEL, left, letter, replay_all, store, under
from tests.unit.catalog_examples import SARA_01, default_rules, example_catalog, sensor
from tests.unit.examples import default_decoder
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ingest.errors import DatabaseFault
    from ingest.resolve import Catalog

    Connection = asyncpg.Connection[asyncpg.Record]

PUMP = sensor(UUID(int=0xD2), SARA_01, "B", "SENSOR", label="BOMBA")
BOILER = sensor(UUID(int=0xD3), SARA_01, "C", "SENSOR", label="CALDERA")
NEW = Tenant(UUID(int=0xD0), "New", "NEW", is_active=True)
HOUSE = Greenhouse(UUID(int=0xD1), NEW.tenant_id, "1", is_active=True)


class HealerUnderTest(Healer):
    """A Healer under a catalog that the test sets, which remembers what it told."""

    def __init__(self, dsn: str) -> None:
        self.catalog = example_catalog()
        self.trouble = False
        self.healed = 0
        self.faults: list[DatabaseFault] = []
        super().__init__(
            Settings(timeseries_dsn=SecretStr(dsn)),
            default_decoder(),
            lambda: Resolver(self.catalog, default_rules(), out_of_range="quarantine"),
            in_trouble=lambda: self.trouble,
            on_healed=self._count,
            on_fault=lambda fault, _: self.faults.append(fault),
        )

    def _count(self, readings: int) -> None:
        self.healed += readings

    def learn_of(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.look()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def healer(timeseries_dsn: str) -> HealerUnderTest:
    return HealerUnderTest(timeseries_dsn)


async def until_left(connection: Connection, count: int) -> None:
    async def holds() -> bool:
        return bool(await connection.fetchval("select count(*) from iot.ingest_dead_letters") == count)

    await until(holds, f"{count} letters are left")


async def test_it_heals_what_the_catalog_knows(healer: HealerUnderTest, connection: Connection) -> None:
    other = f"label {SARA_01} caldera"
    await store(
        connection,
        *(
            letter({"BOMBA": at}, ("BOMBA", "unknown_sensor_type"), receipt_us=NOW_US + at, missing=[LABEL])
            for at in range(450)
        ),
        letter({"CALDERA": 1}, ("CALDERA", "unknown_sensor_type"), missing=[other]),
        letter({"BOMBA": -1}, ("BOMBA", "bad_value"), receipt_us=NOW_US - 1),
    )
    async with healer.running():
        with capture_logs() as logs:
            healer.look()
            await asyncio.sleep(0.2)
            assert await connection.fetchval("select count(*) from iot.ingest_dead_letters") == 452
            healer.learn_of(example_catalog(PUMP))
            await until_left(connection, 2)
            await until(lambda: bool(logs), "it is told")
        told = {"letters": 450, "settled": 450, "written": 450, "duplicate": 0, "null": 0, "rejected": 0}
        assert logs == [{"event": "dead_letters_healed", "log_level": "info", "names": 1, **told}]
        assert healer.healed == 450
        assert await stored(connection) == [(at, float(at)) for at in range(450)]
        healer.learn_of(example_catalog(PUMP, BOILER))
        await until_left(connection, 1)
    assert [each[1:] for each in await left(connection)] == [(["bad_value"], 1, None)]


async def test_it_waits_while_commits_have_trouble(healer: HealerUnderTest, connection: Connection) -> None:
    await store(connection, letter({"BOMBA": 1}, ("BOMBA", "unknown_sensor_type"), missing=[LABEL]))
    healer.trouble = True
    async with healer.running():
        healer.learn_of(example_catalog(PUMP))
        await asyncio.sleep(2 * healing.PEACE_S)
        assert await connection.fetchval("select count(*) from iot.ingest_dead_letters") == 1
        assert await connection.fetchval(
            "select count(*) from pg_stat_activity where application_name like '% healing %'"
        ) == 0  # fmt: skip
        healer.trouble = False
        await until_left(connection, 0)


async def test_a_cure_that_leads_to_another_name_is_followed(
    healer: HealerUnderTest, connection: Connection, timeseries_dsn: str
) -> None:
    await store(
        connection,
        letter(
            {"SENSOR_01": 1},
            ("SENSOR_01", "unknown_tenant"),
            topic="GREENHOUSE/NEW",
            missing=["tenant * NEW"],
        ),
    )
    away = HealerUnderTest(timeseries_dsn)
    async with healer.running(), away.running():
        away.look()
        await asyncio.sleep(0.3)  # it knows of the tenant that is missing, and of nothing else
        healer.learn_of(example_catalog(tenants=(NEW,)))
        lacks = [f"only_greenhouse {NEW.tenant_id} NEW"]

        async def rewritten() -> bool:
            return await left(connection) == [("GREENHOUSE/NEW", ["ambiguous_greenhouse"], 1, lacks)]

        await until(rewritten, "the letter says what is missing now")
        assert await connection.fetchval("select tenant_id from iot.ingest_dead_letters") == NEW.tenant_id
        away.learn_of(example_catalog(tenants=(NEW,), greenhouses=(HOUSE,)))
        await until_left(connection, 0)
        await until(lambda: away.healed == 1, "it is counted")
    assert await stored(connection) == [(0, 1.0)]
    assert healer.healed == 0


async def test_two_share_the_letters(
    healer: HealerUnderTest, connection: Connection, timeseries_dsn: str
) -> None:
    await store(
        connection,
        *(
            letter({"BOMBA": at}, ("BOMBA", "unknown_sensor_type"), receipt_us=NOW_US + at, missing=[LABEL])
            for at in range(2_000)
        ),
    )
    second = HealerUnderTest(timeseries_dsn)
    async with healer.running(), second.running():
        healer.learn_of(example_catalog(PUMP))
        second.learn_of(example_catalog(PUMP))
        await until_left(connection, 0)
        await until(lambda: healer.healed + second.healed == 2_000, "both together healed each once")
    assert await stored(connection) == [(at, float(at)) for at in range(2_000)]


async def test_a_database_that_does_not_serve_it_is_asked_again(
    postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(healing, "RETRY_S", 0.05)
    healer = HealerUnderTest(postgres_dsn)
    async with healer.running():
        healer.learn_of(example_catalog(PUMP))
        await until(lambda: len(healer.faults) > 1, "it complains of the missing table")
        assert all(isinstance(fault, Misconfigured) for fault in healer.faults)
        connection = await asyncpg.connect(postgres_dsn)
        try:
            async with connection.transaction():
                await create_timeseries_schema(connection)
                await store(
                    connection, letter({"BOMBA": 1}, ("BOMBA", "unknown_sensor_type"), missing=[LABEL])
                )
            await until_left(connection, 0)
        finally:
            await connection.close()


async def test_names_beyond_the_bound_are_said_and_come_later(
    healer: HealerUnderTest, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(healing, "MAX_NAMES", 2)
    labels = [f"L{number}" for number in range(5)]
    await store(
        connection,
        *(
            letter(
                {label: number},
                (label, "unknown_sensor_type"),
                receipt_us=NOW_US + number,
                missing=[f"label {SARA_01} {label.lower()}"],
            )
            for number, label in enumerate(labels)
        ),
    )
    registered = [
        sensor(UUID(int=0xE0 + number), SARA_01, label, "SENSOR", label=label)
        for number, label in enumerate(labels)
    ]
    with capture_logs() as logs:
        async with healer.running():
            healer.learn_of(example_catalog(*registered))
            await until_left(connection, 3)
            healer.look()
            await until_left(connection, 1)
            healer.look()
            await until_left(connection, 0)
    bounds = [line for line in logs if line["event"] == "missing_names_bound"]
    assert len(bounds) == 2


async def test_what_was_replayed_by_hand_is_done(healer: HealerUnderTest, connection: Connection) -> None:
    await store(connection, letter({"BOMBA": 1}, ("BOMBA", "unknown_sensor_type"), missing=[LABEL]))
    assert (await replay_all(connection, under(example_catalog(PUMP)))).settled == 1
    async with healer.running():
        healer.learn_of(example_catalog(PUMP))
        await asyncio.sleep(0.3)
    assert (healer.healed, healer.faults) == (0, [])
