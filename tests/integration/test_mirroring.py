"""What of a newer catalog is carried over to the readings' database, and what is left alone there."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from ingest import mirroring as mirroring_module
from ingest.mirroring import Mirroring
from ingest.resolve.rows import Greenhouse
from tests.integration.loading import WAIT_S
from tests.unit.catalog_examples import SARA, SARA_01, SARA_02, example_catalog, sensor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

    from ingest.errors import DatabaseFault
    from ingest.resolve import Catalog
    from tests.batches import WriterUnderTest

GONE = UUID(int=0xB9)
ONE, TWO, THREE = (UUID(int=0xD0 + number) for number in range(3))
INTERVALS = "select sensor_id, expected_interval_s, greenhouse_id, xmin::text from iot.sensor_intervals"


def catalog_of(**intervals: int) -> Catalog:
    """One greenhouse with sensors `one` and `two`, another with `three`: those given have an interval."""
    places = {"one": (ONE, SARA_01), "two": (TWO, SARA_01), "three": (THREE, SARA_02)}
    made = [
        sensor(*places[name], name, "CO2")._replace(expected_interval_s=seconds)
        for name, seconds in intervals.items()
    ]
    return example_catalog(*made, greenhouses=(Greenhouse(GONE, SARA, "09", is_active=True),))


class Mirrors:
    """The mirrors as they come to be."""

    def __init__(self, mirroring: Mirroring, connection: asyncpg.Connection) -> None:
        self.mirroring = mirroring
        self.faults: list[DatabaseFault] = []
        self._connection = connection

    async def hold(self, wanted: dict[UUID, int]) -> dict[UUID, str]:
        """Wait until the intervals are those *wanted*; give the transaction that wrote each."""
        async with asyncio.timeout(WAIT_S):
            while True:
                rows = await self._connection.fetch(INTERVALS)
                if {row[0]: row[1] for row in rows} == wanted:
                    return {row[0]: row[3] for row in rows}
                await asyncio.sleep(0.01)


@pytest.fixture
async def mirrors(connection: asyncpg.Connection, writer: WriterUnderTest) -> AsyncIterator[Mirrors]:
    made: list[Mirrors] = []
    mirroring = Mirroring(writer, lambda fault, _: made[0].faults.append(fault))
    made.append(Mirrors(mirroring, connection))
    task = asyncio.create_task(mirroring.run())
    yield made[0]
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_all_at_the_start_and_then_what_changed(
    mirrors: Mirrors, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirroring_module, "PIECE_SENSORS", 1)
    await connection.execute(f"insert into iot.sensor_intervals values ('{GONE}', '{GONE}', 5)")
    await connection.execute(f"insert into iot.sensor_intervals values ('{THREE}', '{SARA_02}', 30)")
    before = {row[0]: row[3] for row in await connection.fetch(INTERVALS)}
    mirrors.mirroring.on_catalog(catalog_of(one=10, two=20, three=30))
    first = await mirrors.hold({ONE: 10, TWO: 20, THREE: 30})
    assert first[THREE] == before[THREE], "what is right already is not written"
    mirrors.mirroring.on_catalog(catalog_of(one=10, two=25, three=30))
    second = await mirrors.hold({ONE: 10, TWO: 25, THREE: 30})
    assert (second[ONE], second[THREE]) == (first[ONE], first[THREE])
    mirrors.mirroring.on_catalog(catalog_of(one=10))
    await mirrors.hold({ONE: 10})


async def test_a_fault_is_told_and_all_that_is_missing_is_written_later(
    mirrors: Mirrors, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirroring_module, "RETRY_S", 0.05)
    await connection.execute("alter table iot.sensor_intervals rename to elsewhere")
    mirrors.mirroring.on_catalog(catalog_of(one=10))
    async with asyncio.timeout(WAIT_S):
        while len(mirrors.faults) < 2:  # noqa: ASYNC110 (a fault of a server)
            await asyncio.sleep(0.01)
    mirrors.mirroring.on_catalog(catalog_of(one=10, three=30))
    await connection.execute("alter table iot.elsewhere rename to sensor_intervals")
    await mirrors.hold({ONE: 10, THREE: 30})
