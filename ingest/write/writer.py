"""The writer: one connection, one batch at a time, each batch one transaction.

Rows, dead letters, counters and the journal entry commit together or not at all. Runs in the worker's
commit task. It waits for a database that is away, for ever and with jitter; it never drops a batch,
and it settles a COMMIT whose answer was lost by the batch id, not by writing again.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4

import asyncpg

from ingest.errors import DatabaseFault, Poison, SessionTakenOver
from ingest.write import deadletters, journal, late, mirrors, overflow, sessions
from ingest.write.ascii_texts import in_ascii
from ingest.write.attempts import Attempts
from ingest.write.budget import Budget, Division
from ingest.write.connection import KeptConnection
from ingest.write.copy import copy_straight, pack, parts
from ingest.write.doubts import Doubts
from ingest.write.ledger import Booking, book
from ingest.write.retry import translate, until_done
from ingest.write.staged import insert_new

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence
    from uuid import UUID

    from ingest.model import Rejection, Row
    from ingest.settings import WriteSettings
    from ingest.write.batch import Batch, Counts

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a COMMIT did with a batch."""

    counts: Counts
    refused: dict[int, Rejection]
    """Rows only the database could refuse, by row number; dead-lettered in the same COMMIT."""
    staged: bool
    """Whether rows took the temporary table: for duplicates, or for one that was refused."""
    booking: Booking
    """Whose messages, readings and rows it had."""
    letters: Division = field(default_factory=Division)
    """The dead letters kept, and those only counted."""


class Writer:
    """See the module's header."""

    def __init__(
        self,
        dsn: str,
        settings: WriteSettings,
        client_id: str,
        *,
        max_payload_bytes: int,
        group: str | None = None,
        ending: bool = False,
        on_retry: Callable[[DatabaseFault, float], None],
        on_recovery: Callable[[], None],
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare; nothing connects before the first use.

        In a share *group* the connection shows that the session has a process. One that is *ending* the
        session claims it only while it has none.
        *on_retry* hears each fault and the wait (s) that follows, *on_recovery* the success after.
        *meanwhile* is called while the server inserts rows: for what would hold up the next batch later.
        """
        self._kept = KeptConnection(dsn, settings, journal.application_name(client_id))
        self._settings = settings
        self._client_id = client_id
        self._max_payload_bytes = max_payload_bytes
        self._group = group
        self._ending = ending
        self._ended = False
        self._budget = Budget(settings.dead_letters_per_topic_per_hour, max_payload_bytes)
        self._on_retry = on_retry
        self._on_recovery = on_recovery
        self._meanwhile = meanwhile
        self._owner = uuid4()
        self._epoch: int | None = None
        self._claimed_on: asyncpg.Connection | None = None
        """The connection that took the epoch."""
        self._in_doubt: tuple[UUID, Outcome] | None = None
        self._start_counts = False
        """Whether the journal counts the start of this process as unfinished: until a COMMIT"""
        self._suspecting = False
        """of a batch that holds no suspect."""
        self._in_trouble = False
        self._retrying = 0
        """Works that failed and are tried again: meanwhile the success of another recovers nothing."""
        self._doubts = Doubts()
        self._lock = asyncio.Lock()

    async def claim(self) -> journal.Claim:
        """Take a new epoch of the session. Raises SessionTakenOver if it was lost since the last."""
        return await self._until_done(self._claim)

    async def commit(self, batch: Batch, pending: Sequence[int], also: Counts) -> Outcome:
        """Commit *batch*: its rows, dead letters, counters (*also* added to them) and journal entry.

        *pending* is the journal's list including this batch. Returns only after COMMIT; raises
        SessionTakenOver when the session has another owner, and BatchRefused, nothing of it committed,
        when the batch has to be given in parts.
        """
        attempts = Attempts(len(batch), len(batch.rows))
        outcome = await self._until_done(
            lambda: self._commit(batch, pending, also, attempts), attempts.failed
        )
        self._budget.spend(outcome.letters)
        return outcome

    async def forget(self, pending: Sequence[int]) -> None:
        """Shorten the stored list to *pending* while nothing else is to be written.

        Does nothing before the first claim: the list is then another process's.
        """
        if self._epoch is None:
            return
        await self._until_done(
            lambda: self._with_epoch(
                lambda connection, epoch: journal.forget(connection, self._client_id, epoch, pending)
            )
        )

    async def store_filters(self, filters: Sequence[str]) -> None:
        """Remember the session's subscriptions."""
        await self._until_done(
            lambda: self._with_epoch(
                lambda connection, epoch: journal.store_filters(connection, self._client_id, epoch, filters)
            )
        )

    async def suspect(self, digest: bytes) -> None:
        """Note, in a COMMIT of its own, the message that is about to be taken in alone."""
        self._suspecting = True
        await self._until_done(
            lambda: self._with_epoch(
                lambda connection, epoch: journal.suspect(connection, self._client_id, epoch, digest)
            )
        )

    async def end_session(self, at_broker: Callable[[], Awaitable[None]]) -> None:
        """End the session for good, *at_broker* first; everything of it has to be committed and acknowledged.

        After that, nothing of it can be written. Raises SessionTakenOver, and what *at_broker* raises.
        """

        async def end(connection: asyncpg.Connection, epoch: int) -> None:
            try:
                await connection.execute("begin")
                await sessions.end(connection, self._client_id, epoch, at_broker)
                await connection.execute("commit")
            except BaseException:
                self._kept.close()  # the server rolls back
                raise
            self._ended = True

        await self._until_done(lambda: self._with_epoch(end))

    async def take_leave(self) -> None:
        """Try once to note that this process ends in order. Raises DatabaseFault."""
        if self._ended or not self._start_counts:
            return

        async def leave() -> None:
            await journal.take_leave(await self._kept.opened(), self._client_id, self._owner)

        await self._attempt(leave)

    async def mirror(self, mirrored: mirrors.Mirrored) -> None:
        """Try once to bring what is mirrored of the catalog in step. Raises DatabaseFault."""

        async def store() -> None:
            await mirrors.store(await self._kept.opened(), mirrored)

        await self._attempt(store)

    async def probe(self) -> None:
        """Ask the database for a sign of life; returns once it gives one."""
        await self._until_done(self._ask)

    async def close(self) -> None:
        """Close the connection; a transaction still open is rolled back by the server."""
        self._kept.close()

    async def _until_done(
        self, work: Callable[[], Awaitable[T]], on_fault: Callable[[DatabaseFault], None] | None = None
    ) -> T:
        failed = False

        def note(fault: DatabaseFault, wait_s: float) -> None:
            nonlocal failed
            if not failed:
                failed = self._in_trouble = True
                self._retrying += 1
            if on_fault is not None:
                on_fault(fault)
            self._on_retry(fault, wait_s)

        try:
            done = await until_done(
                lambda: self._attempt(work),
                min_s=self._settings.retry_min_s,
                max_s=self._settings.retry_max_s,
                on_retry=note,
            )
        finally:
            self._retrying -= failed
        if self._in_trouble and not self._retrying:
            self._in_trouble = False
            self._on_recovery()
        return done

    async def _attempt(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run *work* once, alone on the connection; translate what it raises."""
        async with self._lock:
            return await self._kept.attempt(work)

    async def _ask(self) -> None:
        await (await self._kept.opened()).execute("select 1")

    async def _claim(self) -> journal.Claim:
        connection = await self._kept.opened()
        epoch, locked = self._epoch, self._group is None
        if not locked:
            if self._ending and epoch is None:
                epoch = await sessions.epoch_of(connection, self._client_id)
            locked = await sessions.try_lock(connection, self._client_id)
            if self._ending and self._epoch is None and not locked:
                raise SessionTakenOver(f"the session of client id {self._client_id!r} has a process")
        claim = await journal.claim(connection, self._client_id, self._owner, epoch=epoch, group=self._group)
        self._epoch = claim.epoch
        await journal.end_former(connection)
        if not locked:
            await sessions.lock(connection, self._client_id)
        self._claimed_on = connection
        self._start_counts = claim.unfinished_starts > 0
        return claim

    async def _with_epoch(self, work: Callable[[asyncpg.Connection, int], Awaitable[None]]) -> None:
        if self._ended:
            return
        connection = await self._kept.opened()
        await work(connection, await self._current_epoch(connection))

    async def _current_epoch(self, connection: asyncpg.Connection) -> int:
        """Give the epoch, a new one on a new *connection*: the last one's backend may still hold its rows."""
        if self._epoch is None or self._claimed_on is not connection:
            return (await self._claim()).epoch
        return self._epoch

    async def _commit(
        self, batch: Batch, pending: Sequence[int], also: Counts, attempts: Attempts
    ) -> Outcome:
        if self._in_doubt is not None:
            batch_id, outcome = self._in_doubt
            claim = await self._claim()  # waits for the old transaction, and fences it
            self._in_doubt = None
            if claim.batch_id == batch_id == batch.batch_id:
                return outcome
        attempts.check()  # only now: no transaction of this batch is open or in doubt
        connection = await self._kept.opened()
        epoch = await self._current_epoch(connection)
        attempts.begun = True
        if attempts.in_ascii:
            batch = in_ascii(batch)
        transaction = partial(self._transaction, connection, epoch, batch, pending, also, attempts)
        try:
            return await transaction(*self._doubts.divide(batch.rows))
        except asyncpg.PostgresError as error:
            if not isinstance(translate(error), Poison):
                raise
            if isinstance(error, asyncpg.UniqueViolationError):
                self._doubts.failed(batch.rows)
        try:
            return await transaction((), range(len(batch.rows)))
        except asyncpg.PostgresError as error:
            if isinstance(fault := translate(error), Poison):
                raise attempts.poisoned(fault) from error
            raise

    async def _transaction(  # noqa: PLR0917 - private, called twice above
        self,
        connection: asyncpg.Connection,
        epoch: int,
        batch: Batch,
        pending: Sequence[int],
        also: Counts,
        attempts: Attempts,
        straight: Sequence[Row],
        suspects: Sequence[int],
    ) -> Outcome:
        transaction = connection.transaction()
        await transaction.start()
        try:
            attempts.writing = True
            written, duplicates, refused = await self._insert(connection, batch.rows, straight, suspects)
            attempts.writing = False
            if written:
                landed = (
                    [row for at, row in enumerate(batch.rows) if at not in refused] if refused else batch.rows
                )
                if hours := late.late_hours(landed, batch.receipts_us[-1]):
                    await late.note(connection, hours)
            letters = self._budget.divide(batch.dead_letters(refused))
            if letters.kept:
                await deadletters.store(
                    connection, self._client_id, letters.kept, max_payload_bytes=self._max_payload_bytes
                )
            if letters.counted:
                await overflow.add(connection, self._client_id, letters)
            counts = batch.counts(written=written, duplicate=len(duplicates), refused=len(refused))
            totals = counts.plus(also).as_dict()
            booking = book(batch, duplicates=duplicates, refused=refused)
            await journal.record(connection, self._client_id, epoch, batch.batch_id, pending, totals, booking)
        except Exception:  # after a deadline or a cancellation the connection is thrown away instead
            if not connection.is_closed():
                await transaction.rollback()
            raise
        outcome = Outcome(counts, refused, bool(suspects), booking, letters)
        self._in_doubt = (batch.batch_id, outcome)
        await transaction.commit()
        self._in_doubt = None
        self._doubts.committed(divided=bool(straight), duplicates=len(duplicates))
        self._start_counts = self._start_counts and self._suspecting
        self._suspecting = False
        return outcome

    async def _insert(
        self,
        connection: asyncpg.Connection,
        rows: Sequence[Row],
        straight: Sequence[Row],
        suspects: Sequence[int],
    ) -> tuple[int, Sequence[int], dict[int, Rejection]]:
        """Put the rows in, *straight* ones first: of two with one key the second is a suspect.

        Give how many were written, the numbers of those stored already and, by number, those refused.
        """
        if straight:
            await copy_straight(connection, self._packed(straight))
        if not suspects:
            return len(straight), (), {}
        inserted, refused = await insert_new(
            connection, [rows[number] for number in suspects], self._settings.conflicting_value
        )
        return (
            len(straight) + inserted.written,
            [suspects[at] for at in inserted.duplicates],
            {suspects[at]: rejection for at, rejection in refused.items()},
        )

    def _packed(self, rows: Sequence[Row]) -> Iterator[list[bytes]]:
        yield from map(pack, parts(rows))
        self._meanwhile()
