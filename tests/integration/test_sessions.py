"""The sessions of a share group in the journal: who is alive, who may take over what, and what is left."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from ingest.errors import BrokerRefused, ConfigurationError, SessionTakenOver
from ingest.model import MOST_SESSIONS
from ingest.write import sessions
from tests.batches import WriterUnderTest, batch_of, row, series_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

    Connection = asyncpg.Connection

GROUP = "group"


@asynccontextmanager
async def process(dsn: str, client_id: str, *, ending: bool = False) -> AsyncIterator[WriterUnderTest]:
    """A process of the group; killed at the end, since it takes no leave."""
    async with WriterUnderTest(dsn, client_id=client_id, group=GROUP, ending=ending) as writer:
        yield writer


async def ownerless(dsn: str) -> list[str]:
    return [each.client_id for each in await sessions.ownerless(dsn, GROUP)]


async def until_ownerless(dsn: str, *client_ids: str) -> None:
    """Wait until the server has noticed which connections are gone."""
    async with asyncio.timeout(10):
        while await ownerless(dsn) != list(client_ids):  # noqa: ASYNC110 (the server tells nobody)
            await asyncio.sleep(0.02)


@pytest.fixture
def dsn(timeseries_dsn: str) -> str:
    return timeseries_dsn


async def ended_at_broker() -> None:
    """What a session is ended with."""


async def test_a_session_has_a_process_for_as_long_as_that_is_connected(dsn: str) -> None:
    async with process(dsn, "a") as a, process(dsn, "b") as b:
        await a.claim()
        await b.claim()
        assert await ownerless(dsn) == []
        await a.close()
        await until_ownerless(dsn, "a")
        await a.commit(batch_of([row(series_of(), 1.0)]))  # connects anew
        assert await ownerless(dsn) == []
    await until_ownerless(dsn, "a", "b")
    assert await sessions.ownerless(dsn, "another group") == []


async def test_what_has_a_process_is_not_taken_away(dsn: str) -> None:
    async with process(dsn, "a") as owner, process(dsn, "a", ending=True) as adopter:
        await owner.claim()
        with pytest.raises(SessionTakenOver, match="'a' has a process"):
            await adopter.claim()
        await owner.commit(batch_of([row(series_of(), 1.0)]))


async def test_an_owner_that_returns_has_its_session_back(dsn: str) -> None:
    async with process(dsn, "a") as owner:
        await owner.claim()
    await until_ownerless(dsn, "a")
    async with process(dsn, "a", ending=True) as adopter, process(dsn, "a") as returned:
        await adopter.claim()
        await adopter.commit(batch_of([row(series_of(), 1.0)]))
        await returned.claim()
        assert await ownerless(dsn) == []
        with pytest.raises(SessionTakenOver):
            await adopter.end_session(ended_at_broker)
        await returned.commit(batch_of([row(series_of(), 2.0)]))


async def test_an_owner_that_claims_first_is_not_taken_over_in_the_same_moment(
    dsn: str, connection: Connection
) -> None:
    async with process(dsn, "a") as owner:
        first = await owner.claim()
    await until_ownerless(dsn, "a")
    async with process(dsn, "a") as returned:
        epoch = await sessions.epoch_of(connection, "a")  # as an adopter does, before it tries the lock
        assert epoch == first.epoch
        await returned.claim()
        assert await sessions.epoch_of(connection, "a") > epoch
        assert not await sessions.try_lock(connection, "a")


async def test_a_session_that_ended_leaves_no_row_and_nobody_takes_it_up_again(
    dsn: str, connection: Connection
) -> None:
    async with process(dsn, "a") as frozen:
        before = await frozen.claim()
        await frozen.close()
        await until_ownerless(dsn, "a")
        async with process(dsn, "a", ending=True) as adopter:
            await adopter.claim()
            await adopter.end_session(ended_at_broker)
            await adopter.forget(())
            await adopter.take_leave()
            assert await connection.fetchval("select count(*) from iot.ingest_sessions") == 0
        with pytest.raises(SessionTakenOver):
            await frozen.commit(batch_of([row(series_of(), 1.0)]))
        async with process(dsn, "a", ending=True) as late:
            with pytest.raises(SessionTakenOver, match="has ended already"):
                await late.claim()
        async with process(dsn, "a") as newcomer:
            assert (await newcomer.claim()).epoch > before.epoch + 1, "no epoch comes again"
    assert await connection.fetchval("select count(*) from iot.sensor_readings") == 0


async def test_nobody_claims_a_session_while_it_is_ended(dsn: str, connection: Connection) -> None:
    async with process(dsn, "a") as adopter, process(dsn, "a") as returned:
        await adopter.claim()
        claiming: list[asyncio.Task[object]] = []

        async def at_broker() -> None:
            claiming.append(asyncio.create_task(returned.claim()))
            await asyncio.sleep(0.2)
            assert not claiming[0].done(), "it would connect before the broker has forgotten the session"

        await adopter.end_session(at_broker)
        await claiming[0]
    assert await connection.fetchval("select count(*) from iot.ingest_sessions") == 1


async def test_a_session_the_broker_did_not_end_is_kept(dsn: str, connection: Connection) -> None:
    async def refusing() -> None:
        raise BrokerRefused("no")

    async with process(dsn, "a") as adopter:
        await adopter.claim()
        with pytest.raises(BrokerRefused):
            await adopter.end_session(refusing)
        async with asyncio.timeout(5):
            await connection.execute("select from iot.ingest_sessions for update")  # it holds no lock
        await adopter.end_session(ended_at_broker)
    assert await connection.fetchval("select count(*) from iot.ingest_sessions") == 0


async def test_each_session_has_a_number_of_its_own(dsn: str, connection: Connection) -> None:
    writers = [
        WriterUnderTest(dsn, client_id=f"w{number}", group=GROUP) for number in range(MOST_SESSIONS + 1)
    ]
    claims = await asyncio.gather(*(each.claim() for each in writers[:-1]))  # at once
    assert sorted(each.clock_slot or 0 for each in claims) == list(range(MOST_SESSIONS))
    with pytest.raises(ConfigurationError, match="has 16 sessions, and can have no more"):
        await writers[-1].claim()
    assert (await writers[3].claim()).clock_slot == claims[3].clock_slot
    await connection.execute("delete from iot.ingest_sessions where client_id = 'w5'")
    assert (await writers[-1].claim()).clock_slot == claims[5].clock_slot
    for each in writers:
        await each.close()


async def test_one_that_was_by_itself_joins_and_leaves_a_group(dsn: str) -> None:
    async with WriterUnderTest(dsn, client_id="a") as alone:
        assert (await alone.claim()).clock_slot is None
        assert await sessions.is_alone(dsn, "a")
        async with process(dsn, "a") as joined:
            assert (await joined.claim()).clock_slot == 0
            assert not await sessions.is_alone(dsn, "a")
    async with WriterUnderTest(dsn, client_id="a") as again:
        assert (await again.claim()).clock_slot is None
        assert await sessions.is_alone(dsn, "a")
        assert not await sessions.is_alone(dsn, "b")
