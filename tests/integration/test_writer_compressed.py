"""The writer against TimescaleDB: late rows and duplicates in compressed chunks, the table's columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import pytest

from ingest.write import Counts
from ingest.write.copy import COLUMNS
from tests.batches import WriterUnderTest, batch_of, row, series_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LEGACY_COLUMNS = {"sensor_type", "unit"}
"""Left NULL by the worker: names come from the views."""


@pytest.fixture
async def connection(migrated_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    opened = await asyncpg.connect(migrated_dsn)
    yield opened
    await opened.close()


async def test_the_packed_columns_are_the_hypertables(connection: asyncpg.Connection) -> None:
    records = await connection.fetch(
        "select column_name, udt_name from information_schema.columns "
        "where table_schema = 'iot' and table_name = 'sensor_readings'"
    )
    types = {record["column_name"]: record["udt_name"] for record in records}
    assert set(COLUMNS) == set(types) - LEGACY_COLUMNS
    assert [types[name] for name in COLUMNS] == [
        "timestamptz", "float8", "uuid", "uuid", "uuid", "int2", "int2", "jsonb",
    ]  # fmt: skip


async def test_late_rows_and_duplicates_in_a_compressed_chunk(
    migrated_dsn: str, connection: asyncpg.Connection
) -> None:
    series, other = series_of(), series_of()
    async with WriterUnderTest(migrated_dsn) as writer:
        await writer.commit(batch_of([row(series, float(at), at) for at in range(1_000)]))
        compressed = await connection.fetch(
            "select compress_chunk(chunk) from show_chunks('iot.sensor_readings') as chunk"
        )
        assert len(compressed) == 1
        late = [row(series, float(at), at) for at in range(500, 1_500)]
        conflicting = row(series, -1.0, 3)
        outcome = await writer.commit(batch_of([*late, conflicting, row(other, 1.0)]))
    assert outcome.counts == Counts(committed=1_002, decoded=1_002, written=501, duplicate=500, rejected=1)
    assert outcome.refused[1_000].reason == "conflicting_value"
    assert not writer.faults
    stored = await connection.fetch(
        "select value from iot.sensor_readings where sensor_id = $1 order by time", series.sensor_id
    )
    assert [record["value"] for record in stored] == [float(at) for at in range(1_500)]


async def test_duplicates_and_new_rows_spread_over_every_compressed_batch(
    migrated_dsn: str, connection: asyncpg.Connection
) -> None:
    series = series_of()
    everything = [row(series, float(at), at * 10) for at in range(20_000)]
    between = [row(series, -1.0, at * 10 + 5) for at in range(0, 20_000, 50)]
    async with WriterUnderTest(migrated_dsn) as writer:
        await writer.commit(batch_of(everything))
        await connection.execute("select compress_chunk(c) from show_chunks('iot.sensor_readings') as c")
        outcome = await writer.commit(batch_of([*everything[::20], *between]))
    assert (outcome.counts.duplicate, outcome.counts.written) == (1_000, 400)
    assert not writer.faults
