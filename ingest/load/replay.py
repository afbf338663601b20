"""A recording published again: when its messages are due, by which gateway, and how far it has come.

`Replay.run` is one task on the event loop that hands message after message to a fleet, which slows it down,
beside one that keeps the resume point once a second. The point is the oldest message without an outcome, so
that everything before it is acknowledged, however the gateways' PUBACKs interleave.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from ingest.decode import Routes
from ingest.decode.routes import IGNORED
from ingest.errors import RecordingError
from ingest.load import resume
from ingest.load.gateways import Fleet, gateway_of
from ingest.load.resume import Position, ResumePoint
from ingest.load.shifting import shifted
from ingest.load.survey import messages_from

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from ingest.load.pace import Pace
    from ingest.load.recording import Recorded
    from ingest.load.survey import Survey
    from ingest.settings import Settings

_KEPT_EVERY_S: Final = 1.0
_TICK_S: Final = 0.25
_LEAST_WAIT_S: Final = 0.001
"""A shorter wait is none: the event loop's timers are no finer, and the schedule is absolute."""
_READ_A_TURN: Final = 1_000
_REFUSED_NAMED: Final = 100


class Outgoing(NamedTuple):
    """A message on its way: what is published, and where it stood."""

    number: int
    """In the order of publishing."""
    position: Position
    received_us: int
    """When it came, by the clock of the recording, which is moved with its times."""
    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: Mapping[str, Any] | None


class Observer(Protocol):
    """Who keeps account of what is published."""

    async def before(self, message: Outgoing) -> None:
        """Look at *message* before it is published; held up by this, the replay is held up."""

    def delivered(self, message: Outgoing, sent_us: int) -> None:
        """Hear that the broker has it: acknowledged, or at QoS 0 sent; called on the event loop."""

    def refused(self, message: Outgoing) -> None:
        """Hear that the broker does not take it; called on the event loop."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A message that the broker does not take."""

    file: Path
    position: Position
    topic: str
    why: str


@dataclass(slots=True)
class Tally:
    """What became of the messages of this run. published = acknowledged + sent + refused + in flight."""

    published: int = 0
    acknowledged: int = 0
    sent: int = 0
    """At QoS 0, where nothing is heard of them."""
    refused: int = 0
    passed_over: int = 0
    """Recorded as retained, and not published."""
    skipped: int = 0
    """Done by an earlier run, before the resume point."""
    first_refused: list[Refused] = field(default_factory=list)
    seconds: float = 0.0
    """From the first message to the last outcome."""

    @property
    def settled(self) -> int:
        """Messages with an outcome."""
        return self.acknowledged + self.sent + self.refused + self.passed_over


@dataclass(frozen=True, slots=True)
class Plan:
    """What is replayed, and how."""

    files: Sequence[Path]
    survey: Survey
    pace: Pace
    client_ids: Sequence[str]
    """Of the gateways that publish what has no client id in the recording; those of the recording follow."""
    target: str
    """The broker, as the resume point names it."""
    shift: bool = False
    loop: bool = False
    keep_retained: bool = False


class Replay:
    """See the module's header; one run of it."""

    def __init__(
        self, plan: Plan, settings: Settings, start: ResumePoint, observer: Observer | None = None
    ) -> None:
        """Prepare to go on from *start*; *settings* say what the decoder takes for a time."""
        self.tally = Tally(skipped=plan.survey.before)
        self.late_s = 0.0
        self.unkept: str | None = None
        """Why the resume point could not be kept, when it could not."""
        self._plan = plan
        self._observer = observer
        self._scopes = Routes(settings.route, settings.decode.ignore).scopes
        self._most_payload_bytes = settings.decode.max_payload_bytes
        self._round = start.round
        self._shift_us = start.shift_us
        self._start = start.position
        self._finished = start.finished
        self._next = start.position
        self._pending: dict[int, Position] = {}
        """Messages without an outcome by number, the oldest first."""
        self._number = 0
        self._round_began = 0
        """What was settled before this round."""
        self._gateways = {
            client_id: number
            for number, client_id in enumerate(plan.survey.client_ids, start=len(plan.client_ids))
        }

    @property
    def all_client_ids(self) -> list[str]:
        """The client ids that the fleet needs, in its order."""
        return [*self._plan.client_ids, *self._plan.survey.client_ids]

    @property
    def point(self) -> ResumePoint:
        """Where it stands."""
        position = next(iter(self._pending.values()), self._next)
        return ResumePoint(
            position, self._round, self._shift_us, self.finished, tuple(self._plan.survey.began_us)
        )

    @property
    def finished(self) -> bool:
        """Whether every message has an outcome."""
        return self._finished and not self._pending

    @property
    def round(self) -> int:
        """Which time it goes through the recording."""
        return self._round

    @property
    def shift_us(self) -> int | None:
        """By how much times are moved in this round."""
        return self._shift_us

    @property
    def done_of_round(self) -> int:
        """Messages of this round that have an outcome, earlier runs included; 0 while the last lacks some."""
        return max(self.tally.settled + self.tally.skipped - self._round_began, 0)

    # what the fleet tells

    def on_acknowledged(self, _gateway: int, message: Outgoing, sent_us: int, _acked_us: int) -> None:
        """Hear of a PUBACK."""
        self.tally.acknowledged += 1
        self._settle(message)
        if self._observer is not None:
            self._observer.delivered(message, sent_us)

    def on_refused(self, _gateway: int, message: Outgoing, why: str) -> None:
        """Hear of a message that the broker does not take."""
        self.tally.refused += 1
        self._settle(message)
        if self._observer is not None:
            self._observer.refused(message)
        if len(self.tally.first_refused) < _REFUSED_NAMED:
            file = self._plan.files[message.position.file]
            self.tally.first_refused.append(Refused(file, message.position, message.topic, why))

    # the run

    async def run(
        self, fleet: Fleet[Outgoing], stop: asyncio.Event, on_tick: Callable[[Replay], None]
    ) -> None:
        """Publish until the end, or until *stop*, and wait for the outcome of what is on its way.

        *on_tick* is called four times a second. The resume point is kept meanwhile and when this ends,
        however it does. Raises BrokerAway, RecordingError.
        """
        began_s = time.monotonic()
        ticking = asyncio.create_task(self._tick(on_tick))
        try:
            while not stop.is_set() and not self._finished:
                await self._go_through(fleet, stop)
                if stop.is_set():
                    break
                self._begin_again()
            await fleet.drain()
        finally:
            ticking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ticking
            self.tally.seconds = time.monotonic() - began_s
            self.late_s = self._plan.pace.late_s
            self.keep()
            on_tick(self)

    def _begin_again(self) -> None:
        if not self._plan.loop:
            self._finished = True
            return
        self._round += 1
        self._next = self._start = Position()
        self._shift_us = None
        self._round_began = self.tally.settled + self.tally.skipped + len(self._pending)
        self._plan.pace.begin_again()

    async def _go_through(self, fleet: Fleet[Outgoing], stop: asyncio.Event) -> None:
        """Publish one round, from where it stands."""
        plan = self._plan
        if plan.shift and self._shift_us is None:
            # Whole seconds: a time in seconds cannot say less, and all have to move alike.
            now_s = time.time_ns() // 1_000_000_000
            self._shift_us = (now_s - -(-plan.survey.last_us // 1_000_000)) * 1_000_000
        for position, recorded in messages_from(plan.files, self._start):
            if position.done % _READ_A_TURN == 0:
                await asyncio.sleep(0)  # what is left out waits for nothing: signals have to be heard
            await self._wait(recorded.received_us, stop)
            if stop.is_set():
                return
            self._next = position._replace(done=position.done + 1)
            if recorded.retain and not plan.keep_retained:
                self.tally.passed_over += 1
                continue
            await self._publish(fleet, position, recorded)

    async def _publish(self, fleet: Fleet[Outgoing], position: Position, recorded: Recorded) -> None:
        self._number += 1
        self._pending[self._number] = position
        message = Outgoing(
            self._number,
            position,
            recorded.received_us + (self._shift_us or 0),
            recorded.topic,
            self._moved(recorded),
            min(recorded.qos, 1),
            recorded.retain,
            recorded.properties,
        )
        if self._observer is not None:
            await self._observer.before(message)
        if not await fleet.publish(self._gateway_of(recorded), message):
            return  # stopped: it is pending, and the resume point stands at it
        self.tally.published += 1
        if not message.qos and message.number in self._pending:
            self.tally.sent += 1
            self._settle(message)
            if self._observer is not None:
                self._observer.delivered(message, time.time_ns() // 1_000)

    def _moved(self, recorded: Recorded) -> bytes:
        if not self._shift_us:
            return recorded.payload
        scope = self._scopes[recorded.topic]
        if scope is None or scope is IGNORED or len(recorded.payload) > self._most_payload_bytes:
            return recorded.payload  # no worker reads a time in it
        return shifted(recorded.payload, scope.format, self._shift_us)

    def _gateway_of(self, recorded: Recorded) -> int:
        if recorded.client_id is not None:
            return self._gateways[recorded.client_id]
        return gateway_of(recorded.topic, len(self._plan.client_ids))

    async def _wait(self, received_us: int, stop: asyncio.Event) -> None:
        wait_s = self._plan.pace.wait_s(received_us, time.monotonic())
        if wait_s < _LEAST_WAIT_S:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await stop.wait()

    def _settle(self, message: Outgoing) -> None:
        self._pending.pop(message.number, None)

    # beside it

    async def _tick(self, on_tick: Callable[[Replay], None]) -> None:
        kept_s = time.monotonic()
        while True:
            await asyncio.sleep(_TICK_S)
            on_tick(self)
            if time.monotonic() - kept_s >= _KEPT_EVERY_S:
                kept_s = time.monotonic()
                self.keep(to_disk=False)

    def keep(self, *, to_disk: bool = True) -> None:
        """Keep the resume point; *to_disk* waits for the disk. What goes wrong is in `unkept`."""
        files = self._plan.files
        try:
            resume.write(resume.resume_file(files), self.point, files, self._plan.target, to_disk=to_disk)
        except RecordingError as error:
            self.unkept = str(error)
