from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest

from ingest.errors import Poison
from ingest.write import Mirrored
from tests.batches import WriterUnderTest

if TYPE_CHECKING:
    import asyncpg


async def names(connection: asyncpg.Connection[asyncpg.Record]) -> tuple[dict[int, str], dict[int, str]]:
    units = await connection.fetch("select id, symbol from iot.units")
    types = await connection.fetch("select id, name from iot.sensor_types")
    return {each[0]: each[1] for each in units}, {each[0]: each[1] for each in types}


async def test_new_and_renamed_entries_are_carried_over_and_none_is_deleted(
    timeseries_dsn: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    units, types = await names(connection)
    async with WriterUnderTest(timeseries_dsn) as writer:
        mirrored = Mirrored({1: "Celsius", 12: "kPa"}, {12: "SOIL_TEMPERATURE"})
        await writer.mirror(mirrored)
        await writer.mirror(mirrored)

    assert await names(connection) == (
        units | {1: "Celsius", 12: "kPa"},
        types | {12: "SOIL_TEMPERATURE"},
    )


async def test_names_may_be_exchanged(
    timeseries_dsn: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    units, types = await names(connection)
    exchanged = Mirrored({1: "°F", 2: "°C"}, {1: "HUMIDITY", 2: "TEMPERATURE"})
    async with WriterUnderTest(timeseries_dsn) as writer:
        await writer.mirror(exchanged)

    assert await names(connection) == (units | dict(exchanged.units), types | dict(exchanged.sensor_types))


async def test_a_symbol_under_two_ids_is_refused_and_changes_nothing(
    timeseries_dsn: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    before = await names(connection)
    async with WriterUnderTest(timeseries_dsn) as writer:
        with pytest.raises(Poison, match="23505"):
            await writer.mirror(Mirrored({12: "kPa", 13: "%"}, {}))

    assert await names(connection) == before


async def test_intervals_follow_the_catalog(
    timeseries_dsn: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    one, two = uuid4(), uuid4()
    kept, moved, gone, other = (uuid4() for _ in range(4))

    async def intervals() -> dict[UUID, tuple[UUID, int]]:
        found = await connection.fetch("select * from iot.sensor_intervals")
        return {each["sensor_id"]: (each["greenhouse_id"], each["expected_interval_s"]) for each in found}

    async with WriterUnderTest(timeseries_dsn) as writer:
        await writer.mirror(Mirrored({}, {}, [one], [(kept, one, 10), (moved, one, 60), (gone, one, 60)]))
        await writer.mirror(Mirrored({}, {}, [two], [(other, two, 5)]))
        assert await intervals() == {kept: (one, 10), moved: (one, 60), gone: (one, 60), other: (two, 5)}
        await writer.mirror(Mirrored({}, {}, [two], [(other, two, 5), (moved, two, 60)]))
        await writer.mirror(Mirrored({}, {}, [one], [(kept, one, 30)]))
        assert await intervals() == {kept: (one, 30), moved: (two, 60), other: (two, 5)}
        await writer.mirror(Mirrored({}, {}, all_greenhouses=[two]))
        assert await intervals() == {moved: (two, 60), other: (two, 5)}
        await writer.mirror(Mirrored({}, {}, [two]))
        assert await intervals() == {}
