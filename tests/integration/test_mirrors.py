from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import pytest

from ingest.errors import Poison
from tests.batches import WriterUnderTest
from tests.integration.plain_postgres import create_timeseries_schema

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def connection(postgres_dsn: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    opened = await asyncpg.connect(postgres_dsn)
    await create_timeseries_schema(opened)
    yield opened
    await opened.close()


async def names(connection: asyncpg.Connection[asyncpg.Record]) -> tuple[dict[int, str], dict[int, str]]:
    units = await connection.fetch("select id, symbol from iot.units")
    types = await connection.fetch("select id, name from iot.sensor_types")
    return {each[0]: each[1] for each in units}, {each[0]: each[1] for each in types}


async def test_new_and_renamed_entries_are_carried_over_and_none_is_deleted(
    postgres_dsn: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    units, types = await names(connection)
    async with WriterUnderTest(postgres_dsn) as writer:
        await writer.mirror({1: "Celsius", 12: "kPa"}, {12: "SOIL_TEMPERATURE"})
        await writer.mirror({1: "Celsius", 12: "kPa"}, {12: "SOIL_TEMPERATURE"})

    assert await names(connection) == (
        units | {1: "Celsius", 12: "kPa"},
        types | {12: "SOIL_TEMPERATURE"},
    )


async def test_a_symbol_under_two_ids_is_refused_and_changes_nothing(
    postgres_dsn: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    before = await names(connection)
    async with WriterUnderTest(postgres_dsn) as writer:
        with pytest.raises(Poison, match="23505"):
            await writer.mirror({12: "kPa", 13: "%"}, {})

    assert await names(connection) == before
