"""What the journal remembers of processes that ended: how many, and over which message."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ingest.errors import SessionTakenOver
from tests.batches import WriterUnderTest, batch_of, row, series_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import asyncpg

    Process = Callable[[], WriterUnderTest]

A, B = b"a" * 32, b"b" * 32


@pytest.fixture
async def process(timeseries_dsn: str) -> AsyncIterator[Process]:
    """Make one process after the other, all of one session; each ends without taking leave."""
    made: list[WriterUnderTest] = []

    def make() -> WriterUnderTest:
        made.append(WriterUnderTest(timeseries_dsn, client_id="one session"))
        return made[-1]

    yield make
    for writer in made:
        await writer.close()


async def test_starts_count_until_something_is_committed(process: Process) -> None:
    assert [(await process().claim()).unfinished_starts for _ in range(3)] == [1, 2, 3]
    fourth = process()
    assert (await fourth.claim()).unfinished_starts == 4
    assert (await fourth.claim()).unfinished_starts == 4, "a reconnect is no start"
    await fourth.commit(batch_of([row(series_of(), 1.0)]))
    assert (await fourth.claim()).unfinished_starts == 0
    assert (await process().claim()).unfinished_starts == 1


async def test_who_takes_leave_does_not_count(process: Process) -> None:
    await process().claim()
    orderly = process()
    await orderly.take_leave()  # claimed nothing
    await orderly.claim()
    await orderly.suspect(A)
    await orderly.take_leave()
    successor = await process().claim()
    assert (successor.unfinished_starts, successor.poison) == (2, [])


async def test_who_committed_takes_nothing_back_from_its_successor(
    process: Process,
) -> None:
    first, second = process(), process()
    await first.claim()
    await first.commit(batch_of([row(series_of(), 1.0)]))
    await second.claim()
    with pytest.raises(SessionTakenOver):
        await first.forget(())
    await first.take_leave()
    assert (await second.claim()).unfinished_starts == 1
    third = process()
    assert (await third.claim()).unfinished_starts == 2
    with pytest.raises(SessionTakenOver):
        await second.forget(())
    await second.take_leave()
    assert (await third.claim()).unfinished_starts == 1


async def test_a_message_taken_in_alone_is_poison_if_the_process_ends_over_it(
    process: Process,
) -> None:
    first = process()
    await first.claim()
    await first.suspect(A)
    await first.commit(batch_of([row(series_of(), 1.0)]))
    assert (await first.claim()).unfinished_starts == 1, "one message says nothing of the next"
    await first.suspect(B)
    assert (await first.claim()).poison == [], "a reconnect in between"
    second = process()
    claim = await second.claim()
    assert (claim.unfinished_starts, claim.poison) == (2, [B])
    await second.suspect(B)
    await second.commit(batch_of([row(series_of(), 2.0)]))
    third = process()
    assert (await third.claim()).poison == [B], "known to those who come after, too"
    await third.suspect(A)
    assert (await process().claim()).poison == [B, A]


async def test_poison_is_forgotten_after_a_day_and_beyond_a_hundred(
    process: Process, connection: asyncpg.Connection
) -> None:
    digests = [b"%032d" % number for number in range(102)]
    for digest in digests:
        writer = process()
        await writer.claim()
        await writer.suspect(digest)
        await writer.close()
    assert (await process().claim()).poison == digests[2:]
    await connection.execute("update iot.ingest_sessions set poison_at = now() - interval '25 hours'")
    last = process()
    assert (await last.claim()).poison == []
    await last.suspect(A)
    assert (await process().claim()).poison == [A]
