"""The link to the broker: one MQTT session kept alive, and the truth about its acknowledgements.

Part of the composition root, on the event loop: it ties `receive` (session, ledger, redelivery) to the
journal that the writer keeps. Order of a reconnect: everything received is committed, a new epoch is
claimed, only then is the broker asked again; so the journal's list is complete when the redelivery
arrives. It decodes nothing and writes no row.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from ingest.ending import check_sharing, empty, end
from ingest.errors import BrokerRefused, IngestError
from ingest.receive import (
    DUP,
    WHOLE_PACKET_BYTES,
    AckLedger,
    ConnectionLost,
    Entry,
    ProtocolUnsupported,
    Redelivery,
    Session,
    Undecided,
    Verdict,
    VersionChoice,
    answers_to,
    without_retransmitted,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingest.model import Delivery
    from ingest.observe.logs import Repeats
    from ingest.receive import Attempt, MqttVersion
    from ingest.settings import Settings
    from ingest.write import Claim, Writer

_REDELIVERY_PATIENCE_S: Final = 5.0
"""How long the head of a redelivered run may stand still before the broker is asked whether that was all."""
_PROOF_PATIENCE_S: Final = 2.0
"""How long a leaving link waits for the PINGRESP that proves its last PUBACKs."""
_MOST_DOUBLINGS: Final = 20

log = structlog.get_logger()


class Receiver(Protocol):
    """Who gets what the link receives; called on the event loop, must not block."""

    def take_in(self, deliveries: Sequence[Delivery]) -> None:
        """Take new deliveries, in arrival order."""

    def claimed(self, claim: Claim) -> None:
        """Hear of a claim, before it can bring a delivery."""

    def unacknowledged(self) -> list[Delivery]:
        """Give the QoS 1 deliveries taken in and not yet committed, in arrival order."""

    def reconnected(self) -> None:
        """Hear of a subscribed connection after the first."""

    def skipped(self, deliveries: Sequence[Delivery]) -> None:
        """Hear of *deliveries* that are in the table already."""

    def proved(self) -> None:
        """Hear that the broker has every PUBACK: the stored list may be emptied."""

    async def settle(self) -> None:
        """Note what was skipped since the last COMMIT."""


class Link:
    """See the module's header."""

    def __init__(
        self,
        settings: Settings,
        writer: Writer,
        receiver: Receiver,
        repeats: Repeats,
        *,
        ending: bool = False,
    ) -> None:
        """Prepare; `serve` connects. With *ending* it empties the session, and ends it."""
        self._settings = settings
        self._writer = writer
        self._receiver = receiver
        self._repeats = repeats
        self._ending = ending
        self.ended = False
        """Whether the session was, as ordered."""
        self._taken = 0
        """Deliveries that the broker sent."""
        self._session: Session | None = None
        self._redelivery: Redelivery | None = None
        self._answered = asyncio.Event()
        self._pings = 0
        self._pongs = 0
        """PINGREQs sent and answered on this connection."""
        self._leaving = False
        self._pause_limit: asyncio.TimerHandle | None = None
        self.ledger = AckLedger()
        self.trouble: str | None = "not connected yet"
        """Why nothing can be received at the moment; None while subscribed."""
        self._connected_before = False
        self._versions = VersionChoice(settings.broker.protocol)

    async def serve(self, drained: asyncio.Event) -> None:
        """Keep one connection until `stop_intake` or the session's end; wait for *drained* before each.

        Raises SessionTakenOver when another process claimed the session.
        """
        settings = self._settings.broker
        versions = self._versions
        failures = 0
        while not self._leaving:
            await drained.wait()
            started_s = time.monotonic()
            attempt = versions.attempt()
            try:
                await self._connection(attempt, drained)
            except Undecided:
                continue
            except (ConnectionLost, BrokerRefused) as error:
                versions.failed(attempt, error)
                if isinstance(error, ProtocolUnsupported):
                    self._tell(error, next_protocol=versions.version)
                else:
                    self._tell(error)
            else:
                return
            if time.monotonic() - started_s > settings.reconnect_max_s:
                failures = 0
            longest_s = min(settings.reconnect_min_s * 2**failures, settings.reconnect_max_s)
            failures = min(failures + 1, _MOST_DOUBLINGS)
            await asyncio.sleep(random.uniform(longest_s / 2, longest_s))  # noqa: S311 - jitter

    async def leave(self) -> None:
        """Have the broker prove the last PUBACKs, then disconnect and keep the session.

        What of the list has no PUBACK on this connection, no answer can prove: it is for whoever comes next.
        """
        session = self._session
        if session is None or session.closed.done():
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PROOF_PATIENCE_S):
                while self.ledger.provable and not session.closed.done():
                    self._answered.clear()
                    if not self.ledger.ping_outstanding:
                        session.ping()
                    await self._answered.wait()
        await session.close(_PROOF_PATIENCE_S)

    def stop_intake(self) -> None:
        """From now on leave deliveries unacknowledged: the broker sends them to whoever comes next."""
        self._leaving = True

    def abort(self) -> None:
        """Cut the connection, if there is one."""
        if self._session is not None:
            self._session.abort()

    def acknowledge(self, answers: list[int]) -> None:
        """Write PUBACKs (*answers*: see `answers_to`) in arrival order and ask for proof that they arrived.

        Without a connection nothing is written: the broker sends again what the journal then knows.
        """
        session = self._session
        if session is None or session.closed.done() or not answers:
            return
        session.acknowledge(answers)
        self.ledger.acknowledged(len(answers))
        if not self.ledger.ping_outstanding:
            session.ping()

    def pause(self) -> None:
        """Stop reading; after a keep-alive time of that, disconnect until everything is committed.

        Unread PINGRESPs would end the connection anyway.
        """
        session = self._session
        if session is not None and not session.paused and not session.closed.done():
            session.pause()
            keepalive_s = self._settings.broker.keepalive_s
            self._pause_limit = asyncio.get_running_loop().call_later(
                keepalive_s,
                session.abort,
                "disconnected until the database has taken what was received (write.max_buffered_…)",
            )
            if (held_back := self._repeats.admit("intake paused", time.monotonic())) is not None:
                reason = "write.max_buffered_… is reached; the broker has to wait"
                log.warning("intake_paused", reason=reason, repeats=held_back)

    def resume(self) -> None:
        """Read again after `pause`."""
        session = self._session
        if session is not None and session.paused:
            if self._pause_limit is not None:
                self._pause_limit.cancel()
            session.resume()
            log.debug("intake_resumed")

    async def _connection(self, attempt: Attempt, drained: asyncio.Event) -> None:
        """Claim, connect, subscribe, receive until the connection is gone; raises why it is.

        Returns only when the session was to be ended, and has been.
        """
        claim = await self._writer.claim()
        self._receiver.claimed(claim)
        self._expect(claim.pending)
        self._pings = self._pongs = 0
        self._session = session = Session(
            self._settings.broker_address,
            self._settings.broker,
            version=attempt.version,
            whole_packet_bytes=self._settings.decode.max_payload_bytes + WHOLE_PACKET_BYTES,
            on_deliveries=self._on_deliveries,
            on_ping=self._on_ping,
            on_pong=self._on_pong,
        )
        patience: asyncio.Task[None] | None = None
        try:
            opened = await session.open()
            if not opened.session_present:
                # Its packet ids start over: our list of the old session must not mean anything, and
                # be gone before the first subscription can bring a message.
                self._expect([])
                await self._writer.forget(())
            self._versions.answered(attempt)
            session.start()
            patience = asyncio.create_task(self._watch_redelivery(session))
            if self._ending:
                await self._end(session, claim, attempt.version, drained)
                return
            check_sharing(self._settings, shares=opened.shares)
            if opened.session_present and set(claim.filters) == set(self._settings.broker.filters):
                self.trouble = None  # subscribed all along; the SUBACK comes behind the backlog
            await self._subscribe(session, claim.filters if opened.session_present else ())
            self.trouble = None
            if self._connected_before:
                self._receiver.reconnected()
            self._connected_before = True
            log.info(
                "broker_connected",
                broker=self._settings.broker_url,
                protocol=attempt.version,
                session_present=opened.session_present,
                filters=self._settings.broker.filters,
                unproven=len(claim.pending),
            )
            self._check_expiry(opened.session_expiry_s)
            raise await session.closed or ConnectionLost("the link was closed")
        finally:
            if patience is not None:
                patience.cancel()
            if self._pause_limit is not None:
                self._pause_limit.cancel()
            session.abort()

    async def _subscribe(self, session: Session, earlier: Sequence[str]) -> None:
        """Subscribe, and end subscriptions that an earlier configuration left in the session."""
        filters = self._settings.broker.filters
        changed = set(earlier) != set(filters)
        if changed:  # remembered before and exactly after: a crash in between forgets none of them
            await self._writer.store_filters(sorted({*earlier, *filters}))
        await session.subscribe(filters)
        if stale := sorted(set(earlier) - set(filters)):
            await session.unsubscribe(stale)
            log.info("stale_filters_unsubscribed", filters=stale)
        if changed:
            await self._writer.store_filters(filters)

    async def _end(
        self, session: Session, claim: Claim, version: MqttVersion, drained: asyncio.Event
    ) -> None:
        """Empty the session, and end it: at the broker, then in the journal."""
        self.trouble = None
        await empty(
            session,
            sorted({*claim.filters, *self._settings.broker.filters}),
            drained=drained,
            taken=lambda: None if self._leaving or self._redelivery is not None else self._taken,
            ask=lambda: self._ask(session),
        )
        await self._receiver.settle()
        await self._writer.end_session(lambda: end(session, self._settings, version))
        self.ended = True
        log.info("session_ended", client_id=self._settings.broker.client_id, received=self._taken)

    def _check_expiry(self, granted_s: int | None) -> None:
        asked_s = self._settings.broker.session_expiry_s
        if granted_s is not None and granted_s < asked_s:
            log.warning(
                "session_expiry_shortened",
                asked_s=asked_s,
                granted_s=granted_s,
                action="raise the broker's limit: a worker away for longer loses messages",
            )

    # deliveries

    def _on_deliveries(self, deliveries: list[Delivery]) -> None:
        if self._leaving:
            return
        self._taken += len(deliveries)
        if self._redelivery is not None:
            deliveries, verdict = self._redelivery.sort_out(deliveries)
            if verdict is not None:
                self._settle(verdict)
        deliveries = self._without_retransmitted(deliveries)
        if deliveries:
            self._receiver.take_in(deliveries)

    def _without_retransmitted(self, deliveries: list[Delivery]) -> list[Delivery]:
        """Leave out what the broker sends twice on one connection, impatient for a PUBACK."""
        if not any(delivery.flags & DUP for delivery in deliveries):
            return deliveries
        outstanding: list[Entry | Delivery] = [*self.ledger.pending, *self._receiver.unacknowledged()]
        window = self._settings.broker.receive_maximum
        return without_retransmitted(deliveries, outstanding, window=window)

    def _settle(self, verdict: Verdict) -> None:
        """Go on with what the redelivery showed: which PUBACKs the broker did not have."""
        self._redelivery = None
        self.ledger.redelivered(verdict.unproven)
        if not verdict.unproven:  # the broker has them all: as good as a PINGRESP
            self._receiver.proved()
        if verdict.skipped:
            self._receiver.skipped(verdict.skipped)
            log.info("redelivery_skipped", messages=len(verdict.skipped))
            self.acknowledge(answers_to(verdict.skipped))

    async def _watch_redelivery(self, session: Session) -> None:
        """Give up on a redelivered run that stopped short: in doubt a duplicate, never a loss.

        Time alone says nothing, as the network may have fallen silent in the middle of the run. So the
        broker is asked: its PINGRESP comes behind everything that it wrote before.
        """
        held = -1
        while self._redelivery is not None and held != self._redelivery.held:
            held = self._redelivery.held
            await asyncio.sleep(_REDELIVERY_PATIENCE_S)
            if self._redelivery is not None:
                await self._ask(session)
        if self._redelivery is not None:
            verdict = self._redelivery.give_up()
            self._settle(verdict)
            if verdict.fresh:
                self._receiver.take_in(verdict.fresh)

    async def _ask(self, session: Session) -> None:
        """Send a PINGREQ and wait for its answer, as long as the connection lasts."""
        session.ping()
        asked = self._pings
        while self._pongs < asked:
            self._answered.clear()
            await self._answered.wait()

    def _expect(self, pending: list[Entry]) -> None:
        self.ledger.reconnected(pending)
        self._redelivery = Redelivery(pending) if pending else None

    def _on_ping(self) -> None:
        self._pings += 1
        self.ledger.ping_sent()

    def _on_pong(self) -> None:
        """Note the proof; ask for the next, or tell that nothing is left to prove."""
        self._pongs += 1
        shorter = self.ledger.ping_answered()
        if shorter and not self.ledger.pending:
            self._receiver.proved()
        elif self.ledger.proof_wanted and not self.ledger.ping_outstanding and self._session is not None:
            self._session.ping()
        self._answered.set()

    def _tell(self, error: IngestError, **more: str) -> None:
        self.trouble = str(error)
        if self._leaving:
            return
        if (held_back := self._repeats.admit(f"broker {error}", time.monotonic())) is not None:
            log.warning("broker_unavailable", error=str(error), repeats=held_back, **more)
