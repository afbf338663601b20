"""`ingest dead-letters replay`: what was rejected, decoded and resolved again, batch by batch.

Owns the run: the catalog, which letters there are to do, its row in metadata.bulk_operation_log, the report.
Keeps no state but the letters: what was interrupted or killed is taken up by the next run, and two runs at
once share the work. What happens to a batch is in write/letters.py, to a letter in replaying.py. The
counters of the worker stay as they are: they tell what it did at receipt.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ingest.decode import Decoder, Routes
from ingest.labels import LabelRules
from ingest.operate.bulk_operations import Stopped, recorded_apart
from ingest.operate.letter_connection import TARGET, connected
from ingest.operate.letter_filter import pages, summary
from ingest.operate.normalize_chunks import Pace
from ingest.operate.progress import Progress
from ingest.replaying import look_again
from ingest.resolve import Resolver
from ingest.resolve.loader import read_catalog
from ingest.write.replay import Replayed, replay

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import asyncpg

    from ingest.operate.letter_filter import LetterFilter, Summary
    from ingest.settings import Settings
    from ingest.write.replay import LookAgain

PAGE_LETTERS: Final = 1_000
"""Of one transaction, at most: of one reading each they take 0.1 s, for which they are locked."""


@dataclass(slots=True)
class ReplayReport:
    """What a replay did, or in a dry run would do."""

    dry_run: bool
    fitting: int = 0
    """Letters that fit."""
    cut: int = 0
    """Of them those kept in part only, which cannot be replayed."""
    passed_over: int = 0
    """Of them those that a worker or another replay has taken up, or somebody purged, meanwhile."""
    replayed: Replayed = field(default_factory=Replayed)
    interrupted: bool = False
    remarks: list[str] = field(default_factory=list)
    """What the operator has to know besides."""
    seconds: float = 0.0

    @property
    def clean(self) -> bool:
        """Whether everything that fits was replayed and nothing of it was rejected again."""
        return not (self.replayed.still or self.cut or self.interrupted)

    def as_json(self) -> dict[str, Any]:
        """Give the report as JSON values."""
        replayed = self.replayed
        return {
            "dry_run": self.dry_run,
            "interrupted": self.interrupted,
            "seconds": round(self.seconds, 3),
            "letters": {
                "fitting": self.fitting,
                "replayed": replayed.letters,
                "settled": replayed.settled,
                "ignored": replayed.ignored,
                "left": replayed.letters - replayed.settled,
                "cut": self.cut,
                "passed_over": self.passed_over,
            },
            "readings": {
                "replayed": replayed.readings,
                "written": replayed.written,
                "duplicate": replayed.duplicate,
                "null": replayed.null,
                "rejected": replayed.still.total(),
            },
            "rejected": dict(replayed.still.most_common()),
            "faults": dict(replayed.faults.most_common()),
            "hours_noted": replayed.hours_noted,
        }


async def replay_letters(
    settings: Settings,
    wanted: LetterFilter,
    *,
    dry_run: bool = False,
    rate_rows_s: float | None = None,
    stop: asyncio.Event | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> ReplayReport:
    """Replay what fits *wanted* and is there now, at most *rate_rows_s* readings a second.

    With *dry_run* each batch is tried and rolled back. After *stop* is set the batch is finished, and the
    report says ``interrupted`` if that was not the last. Raises Unavailable or Misconfigured for a database;
    what was committed stays.
    """
    began_s = time.monotonic()
    pace = Pace(rate_rows_s, stop or asyncio.Event())
    report = ReplayReport(dry_run)
    catalog = await read_catalog(settings.dsn("metadata"), settings.resolve)
    judge = partial(
        look_again,
        Decoder(Routes(settings.route, settings.decode.ignore), settings.decode),
        Resolver(catalog, LabelRules(settings.label_rule), out_of_range=settings.resolve.out_of_range),
    )
    async with connected(settings, "replay dead letters") as connection:
        found = await summary(connection, wanted)
        report.fitting, report.cut = found.letters, found.cut
        work = partial(_each_page, settings, connection, wanted, found, judge, report, pace, on_progress)
        report.interrupted = True
        with contextlib.suppress(Stopped):
            async with contextlib.nullcontext() if dry_run else _logged(settings, report):
                await work()
                report.interrupted = False
    report.seconds = time.monotonic() - began_s
    return report


async def _each_page(  # noqa: PLR0917 (private, called once above)
    settings: Settings,
    connection: asyncpg.Connection,
    wanted: LetterFilter,
    found: Summary,
    judge: LookAgain,
    report: ReplayReport,
    pace: Pace,
    on_progress: Callable[[Progress], None],
) -> None:
    done = 0
    on_progress(Progress("dead letters", 0, found.letters))
    async for page in pages(connection, wanted, last_id=found.last_id, size=PAGE_LETTERS):
        left = page
        while left:
            if pace.stop.is_set():  # with more to do: said after the last batch it is too late
                raise Stopped
            replayed, left = await replay(
                connection,
                left,
                judge,
                policy=settings.write.conflicting_value,
                max_rows=min(settings.write.max_batch_rows, pace.batch_rows),
                now_us=time.time_ns() // 1000,
                keep=not report.dry_run,
            )
            report.replayed.add(replayed)
            await pace.after(replayed.readings)
            done += replayed.letters
            on_progress(Progress("dead letters", done, found.letters))
    report.passed_over = max(0, found.letters - found.cut - report.replayed.letters)


@contextlib.asynccontextmanager
async def _logged(settings: Settings, report: ReplayReport) -> AsyncIterator[None]:
    """Keep the run's row in metadata.bulk_operation_log, in readings; a killed run's row stays RUNNING."""
    async with recorded_apart(settings.dsn("metadata"), "REPLAY", TARGET, report.remarks.append) as tally:
        try:
            yield
        finally:
            replayed = report.replayed
            tally.successful = replayed.written
            tally.failed = replayed.still.total()
            tally.skipped = replayed.duplicate + replayed.null
            tally.faults += [f"{reason}: {count} readings" for reason, count in replayed.still.most_common()]
            tally.faults += [f"{fault}: {count} messages" for fault, count in replayed.faults.most_common()]
            if report.cut:
                tally.faults.append(f"{report.cut} messages were cut at receipt")
