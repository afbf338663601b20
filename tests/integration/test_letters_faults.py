"""Dead letters taken up again while something breaks, or somebody else does the same."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
import pytest

from ingest.errors import Unavailable
from ingest.settings import WriteSettings
from ingest.write import letters
from ingest.write.replay import Replayed, replay
from tests.batches import NOW_US, stored
from tests.letters import letter, replay_all, store, under
from tests.servers import free_port
from tests.unit.catalog_examples import SARA_01, example_catalog, sensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    Connection = asyncpg.Connection[asyncpg.Record]

LABELLED = example_catalog(sensor(UUID(int=0xD2), SARA_01, "B", "SENSOR", label="BOMBA"))
FAULT_BEFORE_DELETE = """
    create sequence public.comes;
    create function public.fault() returns trigger language plpgsql as $$
    begin
        if nextval('public.comes') <= {times} then
            {fault};
        end if;
        return old;
    end $$;
    create trigger fault before delete on iot.ingest_dead_letters
    for each row execute function public.fault();
"""


async def store_many(connection: Connection, count: int) -> list[int]:
    return await store(
        connection,
        *(letter({"BOMBA": at}, ("BOMBA", "inactive"), receipt_us=NOW_US + at) for at in range(count)),
    )


async def untouched(connection: Connection, count: int) -> bool:
    letters_left = await connection.fetchval("select count(*) from iot.ingest_dead_letters")
    return letters_left == count and not await stored(connection)


async def test_killed_before_the_commit_changes_nothing(timeseries_dsn: str, connection: Connection) -> None:
    await store_many(connection, 50)
    kill = FAULT_BEFORE_DELETE.format(times=1, fault="perform pg_terminate_backend(pg_backend_pid())")
    await connection.execute(kill)
    with pytest.raises(Unavailable):
        async with letters.connected(timeseries_dsn, WriteSettings(), "test") as doomed:
            await replay_all(doomed, under(LABELLED))
    assert await untouched(connection, 50)
    async with letters.connected(timeseries_dsn, WriteSettings(), "test") as again:
        replayed = await replay_all(again, under(LABELLED))
    assert (replayed.written, replayed.settled) == (50, 50)
    assert await stored(connection) == [(at, float(at)) for at in range(50)]


async def test_a_deadlock_is_tried_again(connection: Connection) -> None:
    await store_many(connection, 3)
    deadlock = "raise exception 'deadlock' using errcode = '40P01'"
    await connection.execute(FAULT_BEFORE_DELETE.format(times=2, fault=deadlock))
    replayed = await replay_all(connection, under(LABELLED))
    assert (replayed.written, replayed.settled) == (3, 3), "the tries that failed do not count"


async def test_another_fault_is_not(connection: Connection) -> None:
    await store_many(connection, 3)
    await connection.execute(
        FAULT_BEFORE_DELETE.format(times=9, fault="raise exception using errcode = '42P17'")
    )
    with pytest.raises(asyncpg.InvalidObjectDefinitionError):
        await replay_all(connection, under(LABELLED))
    assert await untouched(connection, 3)
    assert await connection.fetchval("select last_value from public.comes") == 1


async def test_letters_that_somebody_has_are_passed_over(timeseries_dsn: str, connection: Connection) -> None:
    first, *_ = await store_many(connection, 3)
    async with letters.connected(timeseries_dsn, WriteSettings(), "test") as other:
        async with connection.transaction():
            await connection.fetch(
                "select from iot.ingest_dead_letters where dead_letter_id = $1 for update", first
            )
            assert (await replay_all(other, under(LABELLED))).letters == 2
        assert (await replay_all(other, under(LABELLED))).letters == 1
    assert await stored(connection) == [(at, float(at)) for at in range(3)]


async def test_several_at_once_share_the_work(timeseries_dsn: str, connection: Connection) -> None:
    numbers = await store_many(connection, 400)

    async def work(on: Connection) -> Replayed:
        done = Replayed()
        rest: Sequence[int] = numbers
        while rest:
            page, rest = rest[:50], rest[50:]
            while page:
                replayed, page = await replay(
                    on, page, under(LABELLED), policy="dead_letter", max_rows=20, now_us=NOW_US
                )
                done.add(replayed)
        return done

    async with AsyncExitStack() as stack:
        several = [
            await stack.enter_async_context(
                letters.connected(timeseries_dsn, WriteSettings(), f"test {number}")
            )
            for number in range(3)
        ]
        done = await asyncio.gather(*(work(each) for each in several))
    total = Replayed()
    for each in done:
        total.add(each)
    assert await stored(connection) == [(at, float(at)) for at in range(400)]
    assert await connection.fetchval("select count(*) from iot.ingest_dead_letters") == 0
    assert (total.letters, total.settled, total.written, total.duplicate) == (400, 400, 400, 0)


async def test_a_database_that_is_not_there_is_unavailable() -> None:
    nobody = f"postgresql://x@127.0.0.1:{free_port()}/x"
    with pytest.raises(Unavailable):
        async with letters.connected(nobody, WriteSettings(), "test"):
            raise AssertionError
