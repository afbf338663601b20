"""`ingest replay`: recordings published again, and what came of it.

Owns the exit code: 0 all is published (and, asked for, in the tables), 1 something was damaged, refused or is
missing, or the broker stayed away, 130 interrupted.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ingest.commands.account_report import account_json, print_account
from ingest.commands.broker_option import chosen_broker, refuse_workers, remark_rivals
from ingest.commands.invocation import EXIT_INTERRUPTED
from ingest.commands.load_reports import TO_PUBACK, TO_ROW, ReportFile, of_replay
from ingest.commands.progress import first_interrupt, progress_bar
from ingest.commands.report import print_counts, print_json, print_line, print_table, remark
from ingest.errors import BrokerAway, CheckFailed, ConfigurationError, IngestError, RecordingError
from ingest.load import resume
from ingest.load.account import Accountant
from ingest.load.gateways import Fleet
from ingest.load.measured import Meter, latency_of
from ingest.load.pace import Pace
from ingest.load.recording import files as files_of
from ingest.load.replay import Plan, Replay
from ingest.load.resume import ResumePoint
from ingest.load.survey import survey
from ingest.operate.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ingest.addresses import BrokerAddress
    from ingest.commands.invocation import Invocation
    from ingest.load.account import Account
    from ingest.load.replay import Outgoing
    from ingest.load.stored_rows import StoredRows
    from ingest.load.survey import Survey
    from ingest.settings import Settings

_TROUBLE_TOLD_EVERY_S: Final = 5.0
_STOPPING: Final = "stopping; what is on its way is waited for, once more ends it at once"


class _StoppedEarlyError(Exception):
    """Ctrl-C, before anything was published."""


@dataclass(frozen=True, slots=True)
class Options:
    """As given; neither *speed* nor *rate*: as fast as the broker acknowledges."""

    files: Sequence[Path]
    broker: str | None
    speed: float | None
    rate: float | None
    gateways: int
    shift_time: bool
    loop: bool
    resume: bool
    retained: bool
    verify: bool
    patience_s: float
    deadline_s: float
    report: Path | None = None


@dataclass(slots=True)
class _Outcome:
    """What the report says."""

    files: Sequence[Path]
    target: str
    survey: Survey
    replay: Replay
    gateways: int
    reconnects: int = 0
    unheard: int = 0
    interrupted: bool = False
    failure: str | None = None
    """Why the broker was given up."""
    loop: bool = False
    account: Account | None = None
    """What is there of it, where that was asked for."""
    stored: StoredRows | None = None
    meter: Meter = field(default_factory=Meter)

    @property
    def ok(self) -> bool:
        """Whether all of it went well."""
        return self.whole and (self.account is None or self.account.complete)

    @property
    def whole(self) -> bool:
        """Whether everything readable is with the broker, and everything was readable."""
        return not (self.survey.damages or self.replay.tally.refused or self.failure)

    def as_json(self) -> dict[str, Any]:
        """Give the report as JSON has it."""
        tally, point = self.replay.tally, self.replay.point
        return {
            "files": [str(each) for each in self.files],
            "broker": self.target,
            "messages": self.survey.messages,
            "gateways": self.gateways,
            "round": self.replay.round,
            "published": tally.published,
            "acknowledged": tally.acknowledged,
            "sent_at_qos_0": tally.sent,
            "refused": tally.refused,
            "first_refused": [
                {"file": str(each.file), "offset": each.position.offset, "message": each.position.done}
                | {"topic": each.topic, "why": each.why}
                for each in tally.first_refused
            ],
            "retained_left_out": tally.passed_over,
            "done_before": tally.skipped,
            "unheard": self.unheard,
            "reconnects": self.reconnects,
            **self.meter.puback_ms(),
            "seconds": round(tally.seconds, 3),
            "messages_per_s": round(tally.settled / tally.seconds, 1) if tally.seconds else None,
            "late_s": round(self.replay.late_s, 3),
            "shift_s": None if self.replay.shift_us is None else self.replay.shift_us // 1_000_000,
            "damage": [
                {"file": str(each.path), "offset": each.offset, "bytes": each.length, "reason": each.reason}
                for each in self.survey.damages
            ],
            "finished": self.replay.finished,
            "resume": {
                "file": str(self.files[point.position.file]),
                "offset": point.position.offset,
                "message": point.position.done,
            },
            "failure": self.failure,
            "verify": None if self.account is None else account_json(self.account, self.files),
            "ok": self.ok,
        }


def run(invocation: Invocation, options: Options, *, as_json: bool) -> int:
    """Replay and print the report."""
    settings = invocation.settings(*(("metadata", "timeseries") if options.verify else ()))
    page = None if options.report is None else ReportFile(options.report)
    files = files_of(options.files)
    address = chosen_broker(settings, options.broker)
    target = f"{address.host}:{address.port}"
    start = _start(options, files, target)
    try:
        outcome = asyncio.run(_replay(settings, options, files, address, start))
    except _StoppedEarlyError:
        remark("stopped while it read the recordings: nothing was published")
        return EXIT_INTERRUPTED
    if as_json:
        print_json(outcome.as_json())
    else:
        _print(outcome)
    if page is not None:
        account = outcome.account
        latencies = outcome.meter.latency(TO_PUBACK)
        latencies += latency_of(TO_ROW, account.latencies_s if account is not None else ())
        page.write(of_replay(outcome.as_json(), outcome.meter.rates, latencies, outcome.stored))
    return _ended(outcome)


async def _replay(
    settings: Settings, options: Options, files: Sequence[Path], address: BrokerAddress, start: ResumePoint
) -> _Outcome:
    """Read the files through, publish what is in them, and take account of it."""
    target = f"{address.host}:{address.port}"
    async with contextlib.AsyncExitStack() as around:
        stop = await around.enter_async_context(first_interrupt(_STOPPING))
        on_progress = around.enter_context(progress_bar())
        accountant = None
        if options.verify:
            accountant = await around.enter_async_context(Accountant(settings, options.patience_s))
        found = await _surveyed(files, start, stop, on_progress)
        outcome = _outcome(settings, options, files, target, start, found=found, accountant=accountant)
        if start.finished:
            remark(f"{resume.resume_file(files)} says that all is done; without --resume it begins anew")
            return outcome
        await _publish(settings, options, address, outcome, stop=stop, on_progress=on_progress)
        if accountant is not None:
            outcome.account = await accountant.settle(
                asyncio.Event() if outcome.interrupted and options.loop else stop,
                lambda done, readings: on_progress(Progress("in the tables", done, readings)),
            )
            outcome.interrupted = stop.is_set()
            if options.report is not None:
                try:
                    outcome.stored = await accountant.stored()
                except IngestError as error:  # the account is taken: a page that lacks a part is still one
                    remark(f"the page lacks what is in the tables: {error}")
        return outcome


async def _publish(
    settings: Settings,
    options: Options,
    address: BrokerAddress,
    outcome: _Outcome,
    *,
    stop: asyncio.Event,
    on_progress: Callable[[Progress], None],
) -> None:
    """Publish until the end, *stop*, or the broker is given up."""
    replay, meter = outcome.replay, outcome.meter
    replay.keep()
    fleet: Fleet[Outgoing] = Fleet(
        address,
        settings.broker,
        replay.all_client_ids,
        deadline_s=options.deadline_s,
        on_acknowledged=meter.timing(replay.on_acknowledged),
        on_refused=replay.on_refused,
        on_trouble=_Trouble().tell,
        stop=stop,
    )
    try:
        async with fleet:
            meter.total(time.monotonic(), 0, 0)
            await replay.run(fleet, stop, _told_to(on_progress, outcome))
    except BrokerAway as error:
        outcome.failure = str(error)
    meter.total(time.monotonic(), replay.tally.published, replay.tally.acknowledged, last=True)
    outcome.interrupted = stop.is_set()
    outcome.unheard = fleet.unheard
    outcome.reconnects = max(fleet.connections - outcome.gateways, 0)


def _start(options: Options, files: Sequence[Path], target: str) -> ResumePoint:
    path = resume.resume_file(files)
    if not options.resume:
        with contextlib.suppress(RecordingError):
            left = resume.read(path, files, target)
            if (left.underway or left.round > 1) and not left.finished:
                remark(f"an earlier replay stopped at {left.text(files)}; beginning anew (--resume goes on)")
        return ResumePoint()
    start = resume.read(path, files, target)
    if start.finished and options.verify:
        raise CheckFailed(
            f"{path} says that all is published, and --verify accounts for what it publishes itself: "
            "give it without --resume (readings with a time are stored once all the same)"
        )
    if not start.finished and start.shift_us is not None and not options.shift_time:
        raise ConfigurationError(
            ["--resume: the replay that it goes on with has moved times: add --shift-time"]
        )
    if start.shift_us is None and start.underway and not start.finished and options.shift_time:
        raise ConfigurationError(
            ["--resume: the replay that it goes on with has moved no times: leave --shift-time out"]
        )
    return start


async def _surveyed(
    files: Sequence[Path], start: ResumePoint, stop: asyncio.Event, on_progress: Callable[[Progress], None]
) -> Survey:
    """Read the files through, beside the event loop, which hears of signals; raises _StoppedEarlyError."""

    def on_block(messages: int) -> None:
        if stop.is_set():
            raise _StoppedEarlyError
        on_progress(Progress("reading", messages, 0))

    found = await asyncio.to_thread(survey, files, start.position, on_block)
    if not (found.begun or start.finished) or not start.is_of(found.began_us):
        raise RecordingError(
            f"{resume.resume_file(files)} says: {start.text(files)}; that is not there: the file is another, "
            "or was changed; without --resume it is replayed from the beginning"
        )
    return found


def _outcome(
    settings: Settings,
    options: Options,
    files: Sequence[Path],
    target: str,
    start: ResumePoint,
    *,
    found: Survey,
    accountant: Accountant | None,
) -> _Outcome:
    """Prepare to publish what was *found*, or refuse to."""
    refuse_workers(found.client_ids, settings)
    if options.loop and found.messages == (0 if options.retained else found.retained):
        raise ConfigurationError(["--loop: there is nothing in the recordings to publish again and again"])
    # Random, so that two replays at a time do not end each other's connections.
    prefix = f"{settings.broker.client_id}-replay-{secrets.token_hex(4)}"
    names = [f"{prefix}-{number}" for number in range(options.gateways if found.nameless else 0)]
    plan = Plan(
        files,
        found,
        Pace(options.speed, options.rate),
        names,
        target,
        shift=options.shift_time,
        loop=options.loop,
        keep_retained=options.retained,
    )
    gateways = len(names) + len(found.client_ids)
    return _Outcome(
        files, target, found, Replay(plan, settings, start, accountant), gateways, loop=options.loop
    )


def _told_to(on_progress: Callable[[Progress], None], outcome: _Outcome) -> Callable[[Replay], None]:
    def tell(replay: Replay) -> None:
        errors = replay.tally.refused + len(outcome.survey.damages)
        doing = f"acknowledged, {errors} errors" if errors else "acknowledged"
        if replay.round > 1:
            doing += f", round {replay.round}"
        on_progress(Progress(doing, replay.done_of_round, outcome.survey.messages))
        outcome.meter.total(time.monotonic(), replay.tally.published, replay.tally.acknowledged)

    return tell


@dataclass(slots=True)
class _Trouble:
    """Connections that are not there, told once in a while and counted in between."""

    told_s: float = field(default=float("-inf"))
    untold: int = 0

    def tell(self, _gateway: int, error: Exception) -> None:
        """Say *error*, unless another was said just now."""
        now_s = time.monotonic()
        if now_s - self.told_s < _TROUBLE_TOLD_EVERY_S:
            self.untold += 1
            return
        more = f" (and {self.untold} times like it)" if self.untold else ""
        self.told_s, self.untold = now_s, 0
        remark(f"{error}{more}; trying again")


def _print(outcome: _Outcome) -> None:
    tally, replay = outcome.replay.tally, outcome.replay
    per_s = f", {tally.settled / tally.seconds:,.0f}/s" if tally.seconds else ""
    of = f" of {outcome.survey.messages - tally.skipped}" if replay.round == 1 else ""
    rounds = "" if replay.round == 1 else f", {replay.round} rounds"
    gateways = "1 gateway" if outcome.gateways == 1 else f"{outcome.gateways} gateways"
    print_line(
        f"{tally.settled}{of} messages replayed to {outcome.target} "
        f"by {gateways}{rounds}, {tally.seconds:.1f} s{per_s}"
    )
    lines = (
        (tally.skipped, "messages were done by an earlier run"),
        (tally.acknowledged, "messages acknowledged"),
        (tally.sent, "messages sent at QoS 0, of which nothing is heard"),
        (tally.passed_over, "messages left out, for they were recorded as retained (--retained)"),
        (tally.refused, "messages refused by the broker"),
        (outcome.unheard, "messages acknowledged that nobody is subscribed to"),
        (outcome.reconnects, "connections lost and made again"),
        (len(outcome.survey.damages), "damaged places in the recordings"),
    )
    print_counts(lines)
    if pubacks := [f"{each:g}" for each in outcome.meter.puback_ms().values() if each is not None]:
        print_line(f"from PUBLISH to PUBACK: p50 {pubacks[0]} ms, p99 {pubacks[1]} ms")
    if replay.late_s >= 1:
        print_line(f"{replay.late_s:>12.1f} seconds behind the recording's own times, at most")
    if tally.first_refused:
        print_table(
            ("file", "block", "message", "topic", "why"),
            [(each.file, each.position.offset, each.position.done, each.topic, each.why) for each in
             tally.first_refused],
            empty="",
        )  # fmt: skip
    if outcome.account is not None:
        print_account(outcome.account, outcome.files)


def _ended(outcome: _Outcome) -> int:
    """Say how to go on, and give the exit code."""
    replay = outcome.replay
    for damage in outcome.survey.damages:
        remark(str(damage))
    remark_rivals(outcome.reconnects, outcome.gateways)
    if replay.unkept is not None:
        remark(replay.unkept)
    if outcome.failure is not None:
        remark(outcome.failure)
    if not replay.finished and not outcome.loop:
        remark(f"run it again with --resume to go on at {replay.point.text(outcome.files)}")
    if outcome.interrupted and not outcome.loop and outcome.failure is None:
        return EXIT_INTERRUPTED
    return 0 if outcome.ok else 1
