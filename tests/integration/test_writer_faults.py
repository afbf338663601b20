"""The writer when something breaks: connections cut or silent, a database killed, tables gone, locks held."""

from __future__ import annotations

import asyncio
from typing import Literal
from urllib.parse import urlsplit

import asyncpg
import pytest

from ingest.errors import Misconfigured, Unavailable
from ingest.settings import WriteSettings
from ingest.write import Counts
from tests.batches import WriterUnderTest, batch_of, counters_of, row, series_of, stored
from tests.integration.plain_postgres import create_timeseries_schema
from tests.proxy import Proxy
from tests.servers import PostgresCluster

Connection = asyncpg.Connection


@pytest.mark.parametrize("way", ["cut", "stall"])
@pytest.mark.parametrize("forward", [True, False])
async def test_a_commit_whose_outcome_is_unknown_is_settled(
    way: Literal["cut", "stall"],
    forward: bool,  # noqa: FBT001 (whether COMMIT reaches the server)
    timeseries_dsn: str,
    connection: Connection,
) -> None:
    async with Proxy(urlsplit(timeseries_dsn).port or 0) as proxy:
        patient = WriteSettings(commit_timeout_s=1.0, retry_max_s=0.2)
        async with WriterUnderTest(proxy.url(timeseries_dsn), patient) as writer:
            await writer.commit(batch_of([row(series_of(), 1.0)]))
            proxy.set_trap(b"COMMIT", way, forward=forward)
            batch = batch_of([row(series_of(), 2.0), row(series_of(), 3.0)])
            outcome = await writer.commit(batch)
            assert proxy.sprung.is_set()
            assert writer.faults
            assert all(isinstance(fault, Unavailable) for fault in writer.faults)
            assert writer.recoveries == 1
            await writer.commit(batch_of([row(series_of(), 4.0)]))
    assert outcome.counts == Counts(committed=2, decoded=2, written=2)
    assert sorted(value for _, value in await stored(connection)) == [1.0, 2.0, 3.0, 4.0]
    counters = await counters_of(connection)
    assert counters["written"] == 4


@pytest.mark.parametrize("pattern", [b"PGCOPY", b"ingest_sessions", b"BEGIN"])
async def test_a_connection_cut_before_commit_is_tried_again(
    pattern: bytes, timeseries_dsn: str, connection: Connection
) -> None:
    async with (
        Proxy(urlsplit(timeseries_dsn).port or 0) as proxy,
        WriterUnderTest(proxy.url(timeseries_dsn)) as writer,
    ):
        await writer.claim()
        proxy.set_trap(pattern, "cut", forward=False)
        await writer.commit(batch_of([row(series_of(), 2.0)]))
        assert proxy.sprung.is_set()
    assert [value for _, value in await stored(connection)] == [2.0]


async def test_a_database_killed_while_a_commit_waits() -> None:
    with PostgresCluster() as cluster:
        dsn = cluster.create_database()
        opened = await asyncpg.connect(dsn)
        await create_timeseries_schema(opened)
        await opened.close()
        async with WriterUnderTest(dsn, WriteSettings(retry_max_s=0.2)) as writer:
            await writer.commit(batch_of([row(series_of(), 1.0)]))
            cluster.kill9()
            committing = asyncio.create_task(writer.commit(batch_of([row(series_of(), 2.0)])))
            await writer.faulted.wait()
            await asyncio.to_thread(cluster.start)
            outcome = await committing
            assert outcome.counts.written == 1
            assert writer.recoveries == 1
        opened = await asyncpg.connect(dsn)
        assert [value for _, value in await stored(opened)] == [1.0, 2.0]
        await opened.close()


async def test_a_missing_table_is_held_and_named_until_it_is_back(
    writer: WriterUnderTest, connection: Connection
) -> None:
    await writer.claim()
    await connection.execute("alter table iot.sensor_readings rename to elsewhere")
    committing = asyncio.create_task(writer.commit(batch_of([row(series_of(), 1.0)])))
    await writer.faulted.wait()
    fault = writer.faults[0]
    assert isinstance(fault, Misconfigured)
    assert fault.sqlstate == "42P01"
    assert "sensor_readings" in str(fault)
    await connection.execute("alter table iot.elsewhere rename to sensor_readings")
    assert (await committing).counts.written == 1


async def test_a_lock_held_for_too_long_is_waited_for(timeseries_dsn: str, connection: Connection) -> None:
    settings = WriteSettings(commit_timeout_s=0.3, retry_max_s=0.1)
    async with WriterUnderTest(timeseries_dsn, settings) as writer:
        await writer.claim()
        async with connection.transaction():
            await connection.execute("lock table iot.sensor_readings")
            committing = asyncio.create_task(writer.commit(batch_of([row(series_of(), 1.0)])))
            await writer.faulted.wait()
            assert isinstance(writer.faults[0], Unavailable)
        assert (await committing).counts.written == 1
    assert len(await stored(connection)) == 1


async def test_a_commit_that_is_given_up_leaves_nothing(
    writer: WriterUnderTest, connection: Connection
) -> None:
    await writer.claim()
    async with connection.transaction():
        await connection.execute("lock table iot.sensor_readings")
        committing = asyncio.create_task(writer.commit(batch_of([row(series_of(), 1.0)])))
        waiting = "select count(*) from pg_locks where not granted"
        while not await connection.fetchval(waiting):  # noqa: ASYNC110 (the event is in the server)
            await asyncio.sleep(0.01)
        committing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await committing
    assert await stored(connection) == []
    assert (await writer.commit(batch_of([row(series_of(), 2.0)]))).counts.written == 1


async def test_a_database_that_answers_has_not_recovered_while_a_claim_is_refused(
    timeseries_dsn: str, connection: Connection
) -> None:
    await connection.execute("alter table iot.ingest_sessions rename to gone")
    async with WriterUnderTest(timeseries_dsn) as writer:
        claiming = asyncio.create_task(writer.claim())
        await asyncio.wait_for(writer.faulted.wait(), 30)
        await writer.probe()
        assert (isinstance(writer.faults[0], Misconfigured), writer.recoveries) == (True, 0)
        await connection.execute("alter table iot.gone rename to ingest_sessions")
        await asyncio.wait_for(claiming, 30)
        assert writer.recoveries == 1
