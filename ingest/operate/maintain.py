"""`ingest maintain daily|weekly|monthly`: what a database needs now and then, step by step.

Owns the run: which steps, in which order, the lock that lets no two run at once, the row in
metadata.bulk_operation_log. What a step does is in the modules maintain_*. A task that fails is a fault of
its step, and the others go on; a database that goes away ends the run. Runs in the operator's command, as the
login that owns the tables; steps that need less do with greenhouse_operator.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from ingest.errors import CheckFailed, IngestError, Unavailable
from ingest.migrate import Database
from ingest.migration_connection import connected
from ingest.operate import maintain_sql as sql
from ingest.operate.bulk_operations import Stopped, recorded
from ingest.operate.maintain_chunks import COMPRESS, RECOMPRESS, RETENTION
from ingest.operate.maintain_jobs import AGGREGATES, JOBS
from ingest.operate.maintain_review import AUDIT, NAMES, QUALITY_REVIEW
from ingest.operate.maintain_steps import Ground, MaintenanceReport, StepReport
from ingest.operate.maintain_tables import DEAD_LETTERS, INDEXES, STATISTICS
from ingest.operate.normalize_run import translated
from ingest.operate.progress import Progress
from ingest.operate.rights import advice
from ingest.write.retry import DRIVER_ERRORS, translate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from ingest.operate.maintain_steps import Period, Step, StepName, Task
    from ingest.settings import Settings

STEPS: Final[dict[Period, tuple[Step, ...]]] = {
    "daily": (AUDIT, QUALITY_REVIEW, NAMES, COMPRESS, AGGREGATES, JOBS),
    "weekly": (RECOMPRESS, STATISTICS, DEAD_LETTERS),
    "monthly": (INDEXES, RETENTION),
}
LOCK_KEY: Final = 5_147_260_404
"""Session advisory lock of the timeseries database: one run at a time. The one before it is `ingest
normalize`'s."""
_CANCELLED: Final = "57014"


def steps_of(period: Period, only: Sequence[StepName]) -> tuple[Step, ...]:
    """Give the steps of *period*, or those of them that are in *only*."""
    return tuple(step for step in STEPS[period] if not only or step.name in only)


async def survey(settings: Settings, period: Period, only: Sequence[StepName] = ()) -> MaintenanceReport:
    """Look at what there is to do, changing nothing. Raises Unavailable or Misconfigured for a database."""
    report = MaintenanceReport(period, dry_run=True)
    began_s = time.monotonic()
    async with _ground(settings, asyncio.Event()) as ground:
        for step in steps_of(period, only):
            told = StepReport(step.name, step.title)
            report.steps.append(told)
            with _timed(told), _faults_in(told, step):
                look = await step.look(ground)
                told.findings, told.tasks = look.findings, [task.what for task in look.tasks]
    report.seconds = time.monotonic() - began_s
    return report


async def maintain(
    settings: Settings,
    period: Period,
    only: Sequence[StepName] = (),
    *,
    stop: asyncio.Event | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_step: Callable[[StepReport], None] = lambda _: None,
) -> MaintenanceReport:
    """Do what there is to do, and tell *on_step* of each step that is over.

    After *stop* is set the task under way is finished. Raises CheckFailed when another run is at work, and
    Unavailable or Misconfigured for a database; what was done stays done.
    """
    report = MaintenanceReport(period, dry_run=False)
    stop = stop or asyncio.Event()
    began_s = time.monotonic()
    async with _ground(settings, stop) as ground:
        await _claim(ground)
        with contextlib.suppress(Stopped):
            async with recorded(ground.metadata, "MAINTAIN", f"maintain {period}", alone=True) as tally:
                for step in steps_of(period, only):
                    if stop.is_set():
                        raise Stopped
                    told = StepReport(step.name, step.title)
                    report.steps.append(told)
                    with _timed(told):
                        await _carry_out(ground, step, told, on_progress)
                    tally.successful += told.done
                    tally.failed += len(told.faults)
                    tally.faults += [f"{step.name}: {fault}" for fault in told.faults]
                    on_step(told)
                if stop.is_set():
                    raise Stopped
    report.interrupted = stop.is_set()
    report.seconds = time.monotonic() - began_s
    return report


async def _carry_out(
    ground: Ground, step: Step, told: StepReport, on_progress: Callable[[Progress], None]
) -> None:
    """Look again, since what was surveyed may be done by now, and do the tasks."""
    with _faults_in(told, step):
        look = await step.look(ground)
        told.findings, told.tasks = look.findings, [task.what for task in look.tasks]
        begun: list[Task] = []
        for number, task in enumerate(look.tasks):
            if step.do is None or ground.stop.is_set():
                break
            on_progress(Progress(step.name, number, len(look.tasks)))
            with _faults_in(told, step, task.what):
                said = await step.do(ground, task)
                begun.append(task)
                if step.settle is None:
                    _note_done(told, said)
        if step.settle is None:
            return
        since_s = asyncio.get_running_loop().time()
        for number, task in enumerate(begun):
            on_progress(Progress(f"{step.name}, awaited", number, len(begun)))
            with _faults_in(told, step, task.what):
                _note_done(told, await step.settle(ground, task, since_s))


def _note_done(told: StepReport, said: str | None) -> None:
    told.done += 1
    if said:
        told.told.append(said)


@contextlib.asynccontextmanager
async def _ground(settings: Settings, stop: asyncio.Event) -> AsyncIterator[Ground]:
    with translated("maintain the databases"):
        async with (
            connected(settings.dsn("timeseries"), Database.TIMESERIES) as timeseries,
            connected(settings.dsn("metadata"), Database.METADATA) as metadata,
        ):
            await timeseries.execute(sql.SESSION)
            yield Ground(settings, timeseries, metadata, datetime.now(UTC), stop)


async def _claim(ground: Ground) -> None:
    """Be the only run, until the connection is closed."""
    if not await ground.timeseries.fetchval("select pg_try_advisory_lock($1)", LOCK_KEY):
        raise CheckFailed("another `ingest maintain` is at work in this database: wait for it or stop it")


@contextlib.contextmanager
def _timed(told: StepReport) -> Iterator[None]:
    began_s = time.monotonic()
    try:
        yield
    finally:
        told.seconds = time.monotonic() - began_s


@contextlib.contextmanager
def _faults_in(told: StepReport, step: Step, doing: str = "look") -> Iterator[None]:
    """Note what goes wrong, unless it is the connection: then nothing that follows can be done either."""
    try:
        yield
    except (IngestError, *DRIVER_ERRORS) as error:
        fault = error if isinstance(error, IngestError) else translate(error)
        if isinstance(fault, Unavailable) and not _passes(fault.sqlstate or ""):
            text = f"{doing}: {fault}; what was done stays done: run again to go on"
            raise type(fault)(text, fault.sqlstate) from error
        need = advice(fault, step.login, "")
        said = f"{doing}: {fault}"
        told.faults.append(f"{said}; {need}" if need and need not in said else said)


def _passes(sqlstate: str) -> bool:
    """Tell whether only this statement failed: a lock, a deadlock, somebody cancelled it."""
    return sqlstate[:2] in {"40", "55"} or sqlstate == _CANCELLED
