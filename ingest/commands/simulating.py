"""`ingest simulate`: greenhouses and gateways that nobody has to build, into a file, a broker, or both.

The simulation itself is `ingest.load.simulate`; here is where it goes, from when, and what is told of it.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import orjson

from ingest.commands.broker_option import chosen_broker, refuse_workers, remark_rivals
from ingest.commands.invocation import EXIT_INTERRUPTED
from ingest.commands.load_reports import TO_PUBACK, ReportFile, of_simulation
from ingest.commands.moments import moment
from ingest.commands.progress import first_interrupt, progress_bar
from ingest.commands.report import print_json, print_table, remark
from ingest.errors import BrokerAway, CheckFailed, ConfigurationError
from ingest.load.fields import END_US
from ingest.load.live import Published, publish
from ingest.load.measured import Meter
from ingest.load.pace import Pace
from ingest.load.recording import Recording
from ingest.load.simulate.gateway import client_id, number_of
from ingest.load.simulate.stream import catalog_of, messages
from ingest.load.simulated_readings import SimulatedReadings
from ingest.operate.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ingest.addresses import BrokerAddress
    from ingest.commands.invocation import Invocation
    from ingest.load.recording import Recorded
    from ingest.load.simulate.gateway import Plan
    from ingest.settings import BrokerSettings, Settings

FILE_START: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""When a simulation begins that goes into a file alone: the same seed gives the same file."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_LOOK_UP_EVERY: Final = 1_000
"""Messages between two looks at signals while a file is written."""
_SHOWN_EVERY_S: Final = 0.1
_STOPPING: Final = "stopping; what is on its way is waited for, once more ends it at once"


@dataclass(frozen=True, slots=True)
class Targets:
    """Where a simulation goes."""

    output: Path | None
    broker: str | None
    catalog: Path | None
    speed: float
    """How much faster than the time simulated it is published."""
    deadline_s: float
    """How long the broker may be away."""
    report: Path | None = None


@dataclass(slots=True)
class _Outcome:
    plan: Plan
    """With the start that it had in the end."""
    messages: int = 0
    file_bytes: int | None = None
    published: Published | None = None
    reconnects: int = 0
    unheard: int = 0
    failure: str | None = None
    """Why the broker was given up."""
    meter: Meter = field(default_factory=Meter)
    readings: SimulatedReadings | None = None
    seconds: float = 0.0
    interrupted: bool = False


def run(invocation: Invocation, plan: Plan, targets: Targets, *, start: str | None, as_json: bool) -> int:
    """Simulate *plan* from *start*; without one a file begins at FILE_START, and what is published ends now.

    Returns 1 when the broker refused a message or stayed away, 130 when it was interrupted.
    """
    broker = settings = None
    page = None if targets.report is None else ReportFile(targets.report)
    if targets.broker is not None or page is not None:
        settings = invocation.settings()
    if targets.broker is not None and settings is not None:
        broker = (chosen_broker(settings, targets.broker), settings.broker)
        refuse_workers((client_id(plan.seed, number) for number in range(plan.gateways)), settings)
    elif start is None:
        start = FILE_START.isoformat()
    if start is not None:
        plan = _starting(plan, moment(start, datetime.now(UTC), "--start"))
    if targets.catalog is not None:
        _write_catalog(plan, targets.catalog)
    outcome = _Outcome(plan)
    if targets.output is not None or broker is not None:
        decoding = None if page is None else settings
        asyncio.run(_simulate(outcome, targets, broker, decoding, fixed=start is not None))
    report = _report(outcome, targets, as_json=as_json)
    if page is not None:
        days = None if outcome.readings is None else outcome.readings.days
        page.write(of_simulation(report, outcome.meter.rates, outcome.meter.latency(TO_PUBACK), days))
    return _ended(outcome)


def _ended(outcome: _Outcome) -> int:
    """Say what went wrong, and give the exit code."""
    remark_rivals(outcome.reconnects, outcome.plan.gateways)
    if outcome.interrupted:
        return EXIT_INTERRUPTED
    published = outcome.published
    if published is not None and published.refused:
        remark(f"the broker refused {published.refused} messages, the first: {published.first_refusal}")
    if outcome.failure is not None:
        remark(outcome.failure)
    return 1 if outcome.failure is not None or (published is not None and published.refused) else 0


async def _simulate(
    outcome: _Outcome,
    targets: Targets,
    broker: tuple[BrokerAddress, BrokerSettings] | None,
    decoding: Settings | None,
    *,
    fixed: bool,
) -> None:
    """Give every message to the recording, the broker, or both; a start that is not *fixed*: see `run`.

    With *decoding* the messages are read too, for the page.
    """
    began_s = time.monotonic()
    async with first_interrupt(_STOPPING) as stop:
        with progress_bar() as show:
            recording = None if targets.output is None else Recording(targets.output)
            try:
                tell = _teller(outcome, recording, decoding, show)
                if broker is None:
                    await _to_file(outcome, tell, stop)
                else:
                    await _to_broker(outcome, targets, broker, tell, stop, fixed=fixed)
            finally:
                if recording is not None:
                    recording.close()
                    outcome.file_bytes = recording.size_bytes
        outcome.interrupted = stop.is_set()
    outcome.seconds = time.monotonic() - began_s


async def _to_file(outcome: _Outcome, tell: Callable[[Recorded], None], stop: asyncio.Event) -> None:
    for message in messages(outcome.plan):
        tell(message)
        if outcome.messages % _LOOK_UP_EVERY == 0:
            await asyncio.sleep(0)
            if stop.is_set():
                return


async def _to_broker(
    outcome: _Outcome,
    targets: Targets,
    broker: tuple[BrokerAddress, BrokerSettings],
    tell: Callable[[Recorded], None],
    stop: asyncio.Event,
    *,
    fixed: bool,
) -> None:
    from ingest.load.gateways import Fleet  # noqa: PLC0415 (paho; a simulation into a file needs none)

    plan = outcome.plan
    account = outcome.published = Published(Pace(targets.speed))
    fleet: Fleet[Recorded] = Fleet(
        *broker,
        [client_id(plan.seed, number) for number in range(plan.gateways)],
        deadline_s=targets.deadline_s,
        on_acknowledged=outcome.meter.timing(account.on_acknowledged),
        on_refused=account.on_refused,
        stop=stop,
    )
    try:
        async with fleet:
            outcome.meter.total(time.monotonic(), 0, 0)
            if not fixed:  # decided only here: connecting took its time
                # Faster than time, it begins in the past: both end together, no reading is of the future.
                ahead = timedelta(microseconds=round(plan.duration_us * (1 - 1 / targets.speed)))
                plan = outcome.plan = _starting(plan, datetime.now(UTC) - ahead)
            await publish(messages(plan), fleet, account, gateway_of=number_of, stop=stop, tell=tell)
    except BrokerAway as error:
        outcome.failure = str(error)
    outcome.meter.total(time.monotonic(), outcome.messages, account.acknowledged, last=True)
    outcome.reconnects = max(0, fleet.connections - plan.gateways)
    outcome.unheard = fleet.unheard


def _teller(
    outcome: _Outcome,
    recording: Recording | None,
    decoding: Settings | None,
    show: Callable[[Progress], None],
) -> Callable[[Recorded], None]:
    """Give what counts each message, writes it down, and moves the bar."""
    total_s = outcome.plan.duration_us // 1_000_000
    shown_s = float("-inf")

    def tell(message: Recorded) -> None:
        nonlocal shown_s
        now_s = time.monotonic()
        outcome.messages += 1
        if decoding is not None:
            if outcome.readings is None:  # by now it is known when it began
                outcome.readings = SimulatedReadings(outcome.plan, decoding)
            outcome.readings.add(message)
        if outcome.published is not None:
            outcome.meter.total(now_s, outcome.messages, outcome.published.acknowledged)
        if recording is not None:
            recording.write(message)
        if now_s - shown_s >= _SHOWN_EVERY_S:
            shown_s = now_s
            done_s = (message.received_us - outcome.plan.start_us) // 1_000_000
            show(Progress(f"{outcome.messages:,} messages, seconds simulated", done_s, total_s))

    return tell


def _starting(plan: Plan, start: datetime) -> Plan:
    plan = plan._replace(start_us=(start - _EPOCH) // _MICROSECOND)
    if plan.start_us < 0 or plan.end_us > END_US:
        raise ConfigurationError(
            [f"--start: {start.isoformat()} and --duration leave the years 1970 to 9998"]
        )
    return plan


def _write_catalog(plan: Plan, path: Path) -> None:
    try:
        path.write_bytes(
            orjson.dumps(catalog_of(plan), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        )
    except OSError as error:
        raise CheckFailed(f"{path} cannot be written: {error.strerror}") from error


def _report(outcome: _Outcome, targets: Targets, *, as_json: bool) -> dict[str, Any]:
    plan, published = outcome.plan, outcome.published
    report: dict[str, Any] = {
        "seed": plan.seed,
        "gateways": plan.gateways,
        "messages": outcome.messages,
        "interrupted": outcome.interrupted,
        "seconds": round(outcome.seconds, 3),
        "catalog": None if targets.catalog is None else str(targets.catalog),
    }
    if outcome.messages:
        report["start"] = (_EPOCH + plan.start_us * _MICROSECOND).isoformat()
    if outcome.file_bytes is not None:
        report |= {"output": str(targets.output), "output_bytes": outcome.file_bytes}
    if published is not None:
        report |= {
            "acknowledged": published.acknowledged,
            "refused": published.refused,
            "unheard": outcome.unheard,
            "reconnects": outcome.reconnects,
            "failure": outcome.failure,
            **outcome.meter.puback_ms(),
            "late_s": round(published.pace.late_s, 3),
        }
    if as_json:
        print_json(report)
    else:
        catalog_alone = outcome.file_bytes is None and published is None
        silent = {"messages", "interrupted", "seconds"} if catalog_alone else set()
        shown = [(name, text) for name, text in report.items() if text is not None and name not in silent]
        print_table(("simulated", ""), shown, empty="")
    return report
