"""A subscriber beside the worker: it writes what the broker sends into recordings, and acknowledges it.

It has a client id and a session of its own and takes nothing away from anybody. With MQTT 5 the session
outlives a lost connection for some minutes, and is ended with the recording. A message is acknowledged once
it is in its block's buffer. One event loop, in which a message takes some 10 µs, and 45 more to anonymise.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import structlog

from ingest.errors import BrokerRefused, IngestError, RecordingError
from ingest.load.recording import Recorded
from ingest.model import RETAIN, CutPayload, DescribedPayload
from ingest.observe.logs import Repeats
from ingest.receive import (
    QOS,
    AckLedger,
    ConnectionLost,
    ProtocolUnsupported,
    Redelivery,
    Session,
    Undecided,
    VersionChoice,
    answers_to,
    entries_of,
    publish_properties,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ingest.load.rotation import Output
    from ingest.model import Delivery
    from ingest.receive import Attempt, MqttVersion, Verdict
    from ingest.settings import Settings

Ended: TypeAlias = Literal["signal", "duration", "messages", "output"]

SESSION_EXPIRY_S: Final = 300
"""How long the broker keeps what comes for a recorder that is away: long enough for a restart of its own,
short enough that what a killed one leaves behind grows no queue."""
WHOLE_PACKET_BYTES: Final = 16 * 1_048_576
"""Larger messages are not recorded. MQTT allows 256 MiB, and a gateway sends some hundred bytes."""
_BLOCK_S: Final = 5.0
"""A block waits no longer for messages: what a kill loses."""
_PROGRESS_S: Final = 10.0
_CLOSE_S: Final = 2.0
_PATIENCE_S: Final = 0.5
"""How long the broker may take to send on what it sends again, before it is asked whether that was all."""
_REPEAT_INTERVAL_S: Final = 30.0
_MOST_DOUBLINGS: Final = 20

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a recording."""

    ended: Ended
    fault: str | None
    """Why nothing more could be written, when that ended it, or why nothing could be received at all."""
    files: list[str]
    messages: int
    """Written since it began; a fault loses those of its block."""
    size_bytes: int
    skipped: int
    """Sent again by the broker though they were recorded already."""
    too_large: int
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Give it as the report of `--json`."""
        return {
            "ended": self.ended,
            "fault": self.fault,
            "files": self.files,
            "messages": self.messages,
            "bytes": self.size_bytes,
            "skipped": self.skipped,
            "too_large": self.too_large,
            "seconds": round(self.seconds, 3),
        }


class Recorder:
    """Records until it is told to end; see the module's header."""

    def __init__(
        self,
        settings: Settings,
        output: Output,
        *,
        client_id: str,
        topics: Sequence[str],
        change: Callable[[Recorded], Recorded] | None = None,
        most_messages: int | None = None,
    ) -> None:
        """Prepare to subscribe to *topics* as *client_id*; *change* is done to each message as it comes."""
        self._settings = settings
        self._broker = settings.broker.model_copy(
            update={"client_id": client_id, "session_expiry_s": SESSION_EXPIRY_S}
        )
        self._output = output
        self._topics = topics
        self._change = change
        self._most_messages = most_messages
        self.taken = 0
        """Messages that came and are recorded, or wait for their block's end."""
        self._skipped = 0
        self._too_large = 0
        self._session: Session | None = None
        self._ledger = AckLedger()
        self._redelivery: Redelivery | None = None
        """Tells which of a resumed session's first messages are recorded: the broker lacks the PUBACK."""
        self._pings = self._pongs = 0
        self._heard = asyncio.Event()
        self._versions = VersionChoice(self._broker.protocol)
        self._connected_before = False
        self._forgotten = False
        self._unconnected = "it ended before there was a connection to the broker"
        self._repeats = Repeats(_REPEAT_INTERVAL_S)
        self._ended: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        self._fault: RecordingError | None = None

    def end(self, why: Ended) -> None:
        """Take no more messages; `run` returns soon."""
        if not self._ended.done():
            self._ended.set_result(why)

    async def run(self, duration_s: float | None = None) -> Report:
        """Record until `end`, for *duration_s*, until there are enough messages or nothing can be written.

        Raises BrokerRefused where the broker says no at once.
        """
        began_s = time.monotonic()
        if duration_s is not None:
            asyncio.get_running_loop().call_later(duration_s, self.end, "duration")
        serving = asyncio.create_task(self._serve())
        others = [asyncio.create_task(self._tick()), asyncio.create_task(self._tell_progress())]
        running: list[asyncio.Future[Any]] = [serving, *others, self._ended]
        try:
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for each in done:
                each.result()  # raises why
        finally:
            self.end("signal")
            for task in (serving, *others):
                task.cancel()
            await asyncio.gather(serving, *others, return_exceptions=True)
            self._write_last()
            await self._leave()
        fault = None if self._connected_before else self._unconnected
        return Report(
            ended="output" if self._fault is not None else self._ended.result(),
            fault=fault if self._fault is None else str(self._fault),
            files=[str(each) for each in self._output.files],
            messages=self._output.messages,
            size_bytes=self._output.size_bytes,
            skipped=self._skipped,
            too_large=self._too_large,
            seconds=time.monotonic() - began_s,
        )

    # the connection

    @property
    def _version(self) -> MqttVersion:
        return self._versions.version

    async def _serve(self) -> None:
        """Keep a connection; raises BrokerRefused if it is refused before there ever was one."""
        failures = 0
        while True:
            started_s = time.monotonic()
            attempt = self._versions.attempt()
            try:
                await self._connection(attempt)
            except Undecided:
                continue
            except (ConnectionLost, BrokerRefused) as error:
                if isinstance(error, BrokerRefused) and not self._connected_before:
                    raise
                self._versions.failed(attempt, error)
                if isinstance(error, ProtocolUnsupported):
                    self._tell(error, next_protocol=self._version)
                else:
                    self._tell(error)
            if time.monotonic() - started_s > self._broker.reconnect_max_s:
                failures = 0
            longest_s = min(self._broker.reconnect_min_s * 2**failures, self._broker.reconnect_max_s)
            failures = min(failures + 1, _MOST_DOUBLINGS)
            await asyncio.sleep(random.uniform(longest_s / 2, longest_s))  # noqa: S311 - jitter

    async def _connection(self, attempt: Attempt) -> None:
        """Connect, subscribe, receive until the connection is gone; raises why it is."""
        if self._version == "5" and not self._forgotten:  # an earlier one's session has other filters
            await self._forget()
        self._session = session = self._make_session(keep=self._version == "5")
        try:
            opened = await session.open()
            self._versions.answered(attempt)
            unproven = self._expect_again(kept=opened.session_present)
            session.start()
            if not opened.session_present:
                granted = await session.subscribe(
                    self._topics, retained=not self._connected_before, any_qos=True
                )
                if weak := [name for name, qos in zip(self._topics, granted, strict=True) if not qos]:
                    log.warning("subscription_weak", filters=weak)
            self._connected_before = True
            log.info(
                "broker_connected",
                broker=self._settings.broker_url,
                protocol=self._version,
                session_present=opened.session_present,
                filters=self._topics,
                unproven=unproven,
            )
            await self._end_redelivery(session)
            raise await asyncio.shield(session.closed) or ConnectionLost("the connection was closed")
        except asyncio.CancelledError:
            await session.close(_CLOSE_S)
            raise
        finally:
            session.abort()

    async def _forget(self) -> None:
        """Have the broker forget what an earlier recorder of this name left, or this one leaves."""
        session = self._make_session(keep=False)
        try:
            await session.open()  # held deliveries are never taken, as nothing starts it
            self._forgotten = True
            await session.close(_CLOSE_S)
        finally:
            session.abort()

    async def _leave(self) -> None:
        if self._connected_before and self._version == "5":
            with contextlib.suppress(TimeoutError, ConnectionLost, BrokerRefused):  # the session expires
                async with asyncio.timeout(_CLOSE_S):
                    await self._forget()

    def _make_session(self, *, keep: bool) -> Session:
        return Session(
            self._settings.broker_address,
            self._broker,
            version=self._version,
            keep=keep,
            whole_packet_bytes=WHOLE_PACKET_BYTES,
            keep_properties=True,
            on_deliveries=self._on_deliveries,
            on_ping=self._on_ping,
            on_pong=self._on_pong,
        )

    def _on_ping(self) -> None:
        self._pings += 1
        self._ledger.ping_sent()

    def _on_pong(self) -> None:
        self._pongs += 1
        self._heard.set()
        if self._ledger.ping_answered() and self._ledger.proof_wanted and self._session is not None:
            self._session.ping()

    def _tell(self, error: IngestError, **more: str) -> None:
        self._unconnected = f"there never was a connection to the broker: {error}"
        if (held_back := self._repeats.admit(f"broker {error}", time.monotonic())) is not None:
            log.warning("broker_unavailable", error=str(error), repeats=held_back, **more)

    # what the broker sends again

    def _expect_again(self, *, kept: bool) -> int:
        """Prepare for what a session that was *kept* sends again; give how many messages that may be."""
        pending = self._ledger.pending if kept else []
        self._ledger.reconnected(pending)
        self._redelivery = Redelivery(pending) if pending else None
        self._pings = self._pongs = 0
        return len(pending)

    async def _end_redelivery(self, session: Session) -> None:
        """Take what is held for new once the broker has sent all: its PINGRESP comes behind that."""
        closed = session.closed
        closed.add_done_callback(lambda _: self._heard.set())
        held = -1
        while self._redelivery is not None and held != self._redelivery.held and not closed.done():
            held = self._redelivery.held
            await asyncio.wait([closed], timeout=_PATIENCE_S)
            session.ping()
            asked = self._pings
            while self._pongs < asked and not closed.done():
                self._heard.clear()
                await self._heard.wait()
        if self._redelivery is not None and not closed.done():
            verdict = self._redelivery.give_up()
            self._settle(verdict)
            self._take(verdict.fresh)

    def _settle(self, verdict: Verdict) -> None:
        """Acknowledge what is recorded already, and go on with what of it the broker did not know."""
        self._redelivery = None
        self._ledger.redelivered(verdict.unproven)
        self._skipped += len(verdict.skipped)
        self._answer(verdict.skipped)

    # messages

    def _on_deliveries(self, deliveries: list[Delivery]) -> None:
        """Take what is new; what is held when the connection is lost, or the recording ends, comes again."""
        if self._redelivery is not None:
            deliveries, verdict = self._redelivery.sort_out(deliveries)
            if verdict is not None:
                self._settle(verdict)
        self._take(deliveries)

    def _take(self, deliveries: list[Delivery]) -> None:
        """Write and acknowledge *deliveries*, up to the one that ends the recording."""
        now_us = time.time_ns() // 1000
        taken: list[Delivery] = []
        for delivery in deliveries:
            if self._ended.done():
                break
            if isinstance(delivery.payload, CutPayload):
                self._pass_over(delivery.topic, delivery.payload.total_bytes)
            else:
                try:
                    self._record(delivery, now_us)
                except RecordingError as error:
                    self._fail(error)
                    break
            taken.append(delivery)
        self._ledger.committed(entries_of(taken))
        self._answer(taken)

    def _record(self, delivery: Delivery, now_us: int) -> None:
        payload, properties = delivery.payload, None
        if isinstance(payload, DescribedPayload):
            properties = publish_properties(payload.properties) or None
            payload = bytes(payload)
        qos, retain = (delivery.flags & QOS) >> 1, bool(delivery.flags & RETAIN)
        message = Recorded(now_us, delivery.topic, payload, qos, retain, properties=properties)
        self._output.write(message if self._change is None else self._change(message))
        self.taken += 1
        if self.taken == self._most_messages:
            self.end("messages")

    def _pass_over(self, topic: str, size_bytes: int) -> None:
        self._too_large += 1
        if (held_back := self._repeats.admit("too large", time.monotonic())) is not None:
            log.warning("message_not_recorded", topic=topic, bytes=size_bytes, repeats=held_back)

    def _answer(self, deliveries: list[Delivery]) -> None:
        """Acknowledge, and ask for proof: what the broker sends again before it has that is known then."""
        session = self._session
        answers = answers_to(deliveries)
        if session is None or not answers:
            return
        session.acknowledge(answers)
        self._ledger.acknowledged(len(entries_of(deliveries)))
        if not self._ledger.ping_outstanding:
            session.ping()

    # time

    async def _tick(self) -> None:
        """Close blocks and files in time."""
        while True:
            await asyncio.sleep(_BLOCK_S)
            try:
                self._output.flush(time.time_ns() // 1000)
            except RecordingError as error:
                self._fail(error)

    async def _tell_progress(self) -> None:
        told = 0
        while True:
            await asyncio.sleep(_PROGRESS_S)
            if told != self.taken:
                told = self.taken
                log.info("recording_progress", messages=told, bytes=self._output.size_bytes)

    def _write_last(self) -> None:
        try:
            self._output.close()
        except RecordingError as error:
            self._fail(error)

    def _fail(self, error: RecordingError) -> None:
        self._fault = self._fault or error
        self.end("output")
