"""Commits: what the link receives, batch by batch into the database, acknowledged in arrival order.

Part of the composition root, on the event loop: it ties `intake` (deliveries become batches) to the writer
and the writer's COMMITs to the link's PUBACKs. It keeps both ledgers, bounds what waits for the database,
and has `announcing` tell the operator of a database that does not take it.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING, Final

import structlog

from ingest.announcing import Announcer
from ingest.caution import Caution, digest_of
from ingest.errors import BatchRefused
from ingest.link import Link
from ingest.model import MOST_SESSIONS, UNPLACED
from ingest.observe.skew import ClockSkews
from ingest.receive import QOS, Entry, answers_to, entries_of
from ingest.write import Batch, Counts, Outcome, Writer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from ingest.errors import DatabaseFault
    from ingest.intake import Intake
    from ingest.model import Delivery, Gateway, Reason
    from ingest.observe.logs import Repeats
    from ingest.observe.metrics import BatchResult, Metrics
    from ingest.settings import Settings
    from ingest.write import Claim

_PROGRESS_INTERVAL_S: Final = 10.0
_UNREAD_S: Final = 86_400.0
"""A message that equals one that ended a worker is not read; after a day it is tried again."""
_ALL: Final = 1 << 40
_QUICK_SHARE: Final = 0.25
"""Of the deadline: a part committed within it lets the next be twice as large."""
_PROBE_INTERVAL_S: Final = 10.0
"""How often an idle worker asks whether the database is still there, for /readyz."""

log = structlog.get_logger()


class Committer:
    """Owns the link, whose deliveries it takes, and the writer; see the module's header."""

    def __init__(
        self,
        settings: Settings,
        intake: Intake,
        *,
        metrics: Metrics,
        repeats: Repeats,
        look_up: Callable[[frozenset[str]], Awaitable[bool]],
        on_committed: Callable[[Batch, Outcome], None],
        meanwhile: Callable[[], None],
        on_outdated: Callable[[], None],
        ending: bool = False,
    ) -> None:
        """Prepare; `run` commits. *look_up* asks the catalog once more for names it does not know.

        *on_committed* hears of each batch once it is acknowledged, *meanwhile* is called while the database
        inserts the next: neither may block nor raise. *on_outdated* hears of dead letters committed while a
        newer catalog came. Raises ConfigurationError when the DSN is missing. With *ending*, the session is
        emptied and ended.
        """
        self._settings = settings
        self._intake = intake
        self._metrics = metrics
        self._announce = Announcer(repeats)
        self._look_up = look_up
        self._on_committed = on_committed
        self._on_outdated = on_outdated
        self.writer = Writer(
            settings.dsn("timeseries"),
            settings.write,
            settings.broker.client_id,
            max_payload_bytes=settings.decode.max_payload_bytes,
            group=settings.share_group,
            ending=ending,
            on_retry=self._on_database_fault,
            on_recovery=self._on_database_recovery,
            meanwhile=meanwhile,
        )
        self.totals = Counts()
        self.skews = ClockSkews(settings.observe.clock_skew_s)
        self.drained = asyncio.Event()
        """Set while nothing received waits for its COMMIT."""
        self.drained.set()
        self._database_trouble: str | None = None
        self.link = Link(settings, self.writer, self, repeats, ending=ending)
        self._filled = asyncio.Event()
        self.caution = Caution()
        self._claimed = False
        self._forget_wanted = False
        self._unrecorded_skips: Counter[tuple[int, Gateway]] = Counter()
        self._committing: Batch | None = None
        self._left_to_commit: Sequence[Delivery] = ()
        """What of it is not committed yet."""
        self._messages_at_once = _ALL
        """Fewer while the database does not take a batch whole."""
        self._waiting_since_s: float | None = None

    # called by the link

    def take_in(self, deliveries: Sequence[Delivery]) -> None:
        """Decode and resolve *deliveries* into the batch being filled; wake the committer."""
        take = self._intake.hold if self.caution.careful else self._intake.take_in
        take(deliveries, time.time_ns() // 1000)
        self.totals.received += len(deliveries)
        self._metrics.messages(received=len(deliveries))
        if self._waiting_since_s is None:
            self._waiting_since_s = time.monotonic()
        self.drained.clear()
        self._filled.set()
        if self._over_bound(1.0):
            self.link.pause()

    def claimed(self, claim: Claim) -> None:
        """Hear what the journal says of the processes before this one, before the first delivery comes."""
        if self._claimed:
            return
        self._claimed = True
        if claim.clock_slot is not None:
            self._intake.share_clock(claim.clock_slot, MOST_SESSIONS)
        earlier = claim.unfinished_starts - 1
        unread = self._intake.unread
        unread |= dict.fromkeys(claim.poison, "a worker ended over this message, taken in alone")
        if self.caution.begin(earlier):
            log.error(
                "careful_start",
                unfinished_starts=earlier,
                poison=len(unread),
                reason="the workers before this one ended without a COMMIT; messages are taken in one by one",
            )
            if claim.poison:
                unread[claim.poison[-1]] = (
                    f"{earlier} workers in a row ended without a COMMIT, the last over this message alone"
                )
        asyncio.get_running_loop().call_later(_UNREAD_S, unread.clear)

    def unacknowledged(self) -> list[Delivery]:
        """Give the QoS 1 deliveries that wait for their COMMIT, in arrival order."""
        waiting = chain(
            self._left_to_commit,
            *(batch.deliveries for batch in self._intake.waiting),
            (delivery for delivery, _ in self._intake.held),
        )
        return [each for each in waiting if each.flags & QOS]

    def reconnected(self) -> None:
        """Count a connection after the first."""
        self._metrics.reconnected()

    def skipped(self, deliveries: Sequence[Delivery]) -> None:
        """Count *deliveries* that the journal knows; stored with the next COMMIT, or by `settle`."""
        count = len(deliveries)
        self.totals.received += count
        self.totals.skipped += count
        now_us = time.time_ns() // 1000
        self._unrecorded_skips.update((now_us, self._intake.gateway_of(each.topic)) for each in deliveries)
        self._metrics.messages(received=count, skipped=count)

    def proved(self) -> None:
        """Empty the stored list while idle: a packet id used again must not look committed."""
        if self.drained.is_set():
            self._forget_wanted = True
            self._filled.set()

    # commit

    async def run(self) -> None:
        """Commit batch after batch, for ever. Raises SessionTakenOver."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            while (batch := await self._next_batch()) is not None:
                self._committing = batch
                self._left_to_commit = batch.deliveries
                await self._commit(batch)
                self._committing = None
                self._left_to_commit = []
                self._waiting_since_s = time.monotonic() if self._intake.messages else None
                if not self._over_bound(0.5):
                    self.link.resume()
            if self._forget_wanted:
                self._forget_wanted = False
                await self.settle()
            if not self._intake.messages:
                self.drained.set()

    async def _next_batch(self) -> Batch | None:
        """Take the oldest batch that waits; while careful, of one message, noted before it is looked at."""
        held = self._intake.held
        if held:
            delivery, _ = held[0]
            if not self.caution.takes_alone(delivery):
                log.info("careful_no_more")
                self._intake.release(len(held))
            else:
                await self.writer.suspect(digest_of(delivery))
                self._intake.release(1)
        return self._intake.next_batch()

    async def _commit(self, batch: Batch) -> None:
        """Commit *batch*, in parts where the database does not take it whole, each acknowledged by itself."""
        if batch.curable:
            await self._look_up(frozenset().union(*batch.curable.values()))
            if self._intake.is_outdated(batch):  # by this refresh, or by a NOTIFY since it arrived
                batch = self._intake.look_again(batch)
        done = 0
        while done < len(batch):
            size = min(self._messages_at_once, len(batch) - done)
            part = batch if size == len(batch) else self._intake.part(batch, done, done + size)
            try:
                await self._commit_part(part)
            except BatchRefused as fault:
                self._announce.refused(fault, size)
                if size > 1:
                    self._messages_at_once = size // 2
                    continue
                await self._commit_part(self._intake.rejected(part, "database_refused", str(fault)))
            done += size
            self._left_to_commit = batch.deliveries[done:]

    async def _commit_part(self, batch: Batch) -> None:
        ledger = self.link.ledger
        entries = entries_of(batch.deliveries)
        started_s = time.perf_counter()
        outcome = await self._write(batch, ledger.extended_by(entries))
        ledger.committed(entries)
        self.link.acknowledge(answers_to(batch.deliveries))
        commit_s = time.perf_counter() - started_s
        if commit_s < self._settings.write.commit_timeout_s * _QUICK_SHARE:
            self._messages_at_once = min(self._messages_at_once * 2, _ALL)
        self._account(batch, outcome, commit_s)
        if self._intake.is_outdated(batch):  # a newer catalog came during the COMMIT
            self._on_outdated()

    async def _write(self, batch: Batch, pending: Sequence[Entry]) -> Outcome:
        """Commit *batch*, and what was skipped since the one before."""
        batch.skipped, self._unrecorded_skips = self._unrecorded_skips, Counter()
        skips = batch.skipped.total()
        try:
            return await self.writer.commit(
                batch, pending, Counts(received=len(batch) + skips, skipped=skips)
            )
        except BatchRefused:  # the next one counts them
            self._unrecorded_skips.update(batch.skipped)
            raise

    async def settle(self) -> None:
        """Shorten the stored list to what is unproven, and note what was skipped, while no batch waits.

        Skips go in as a batch without messages: a COMMIT whose answer is lost is then settled by its id,
        not by counting again.
        """
        if self._unrecorded_skips:
            await self._write(Batch(), self.link.ledger.pending)
        else:
            await self.writer.forget(self.link.ledger.pending)

    def _account(self, batch: Batch, outcome: Outcome, commit_s: float) -> None:
        counts = outcome.counts
        self.totals = self.totals.plus(counts)
        reasons: Counter[Reason] = Counter(
            rejection.reason for rejections in batch.rejections.values() for rejection in rejections
        )
        reasons.update(rejection.reason for rejection in outcome.refused.values())
        self._metrics.messages(committed=counts.committed, ignored=counts.ignored)
        self._metrics.readings(
            decoded=counts.decoded,
            written=counts.written,
            duplicate=counts.duplicate,
            rejected=counts.rejected,
            null=counts.null,
        )
        self._metrics.rejections(reasons)
        now_s = time.monotonic()
        for (_, gateway), hour in outcome.booking.gateways.items():
            if gateway != UNPLACED.name:
                lag_s = None if hour.least_lag_us is None else hour.least_lag_us / 1e6
                self.skews.note(gateway, lag_s, hour.clock_faults["unset"], now_s)
        self._on_committed(batch, outcome)
        self._metrics.dead_letters(kept=len(outcome.letters.kept), counted=outcome.letters.counted)
        if outcome.letters.counted:
            self._announce.overflow(outcome.letters)
        result: BatchResult = "staged" if outcome.staged else "straight"
        self._metrics.batch(result, rows=len(batch.rows), commit_s=commit_s, at_s=time.time())
        log.debug(
            "batch_committed",
            messages=len(batch),
            rows=len(batch.rows),
            commit_ms=round(commit_s * 1000, 1),
            rejected=dict(reasons),
        )

    # what waits, and how it goes

    @property
    def in_flight(self) -> int:
        """Messages received and not committed."""
        return self._intake.messages + len(self._left_to_commit)

    def lag_s(self, now_us: int) -> float:
        """Give how long (s) the oldest message in flight has waited at *now_us*; 0 when none waits."""
        came_us = [] if (oldest_us := self._intake.oldest_us) is None else [oldest_us]
        if self._committing is not None and self._left_to_commit:
            came_us.append(self._committing.receipts_us[-len(self._left_to_commit)])
        return max(0.0, (now_us - min(came_us, default=now_us)) / 1e6)

    @property
    def buffered_bytes(self) -> int:
        """Bytes of their payloads and topics."""
        committing = 0 if self._committing is None else self._committing.payload_bytes
        return self._intake.payload_bytes + committing

    @property
    def _buffered_rows(self) -> int:
        return self._intake.readings + (0 if self._committing is None else self._committing.readings)

    def _over_bound(self, share: float) -> bool:
        write = self._settings.write
        return (
            self.in_flight >= write.max_buffered_messages * share
            or self.buffered_bytes >= write.max_buffered_bytes * share
            or self._buffered_rows >= write.max_buffered_rows * share
        )

    def troubles(self) -> list[str]:
        """Tell why COMMITs do not keep up, if they do not."""
        troubles = []
        if self._database_trouble is not None:
            troubles.append(f"database: {self._database_trouble}")
        if self._waiting_since_s is not None:
            waited_s = time.monotonic() - self._waiting_since_s
            if waited_s > self._settings.observe.stall_s:
                troubles.append(f"stalled: {self.in_flight} messages wait {waited_s:.0f} s for a COMMIT")
        return troubles

    def _on_database_fault(self, fault: DatabaseFault, wait_s: float) -> None:
        self._database_trouble = str(fault)
        self._metrics.retry(fault.sqlstate)
        self._metrics.batch("retried")
        self.tell_fault("database_fault", fault, wait_s)

    def tell_fault(self, event: str, fault: DatabaseFault, wait_s: float) -> None:
        """Log *fault* as *event*, with the wait (s) that follows; repeats are counted, not repeated."""
        self._announce.fault(event, fault, wait_s, in_flight=self.in_flight)

    def _on_database_recovery(self) -> None:
        self._database_trouble = None
        log.info("database_recovered", in_flight=self.in_flight)

    async def probe(self) -> None:
        """Notice a database that went away while there is nothing to write."""
        while True:
            await asyncio.sleep(_PROBE_INTERVAL_S)
            if self.drained.is_set():
                await self.writer.probe()

    async def log_progress(self) -> None:
        """Write one line for each interval in which something happened."""
        last = Counts()
        while True:
            await asyncio.sleep(_PROGRESS_INTERVAL_S)
            self._announce.skews(self.skews)
            if self.totals != last:
                last = self.totals.plus(Counts())
                log.info("progress", **last.as_dict(), in_flight=self.in_flight)
