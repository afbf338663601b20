"""`ingest dead-letters purge`: deletes dead letters for good, batch by batch.

Owns the run and its row in metadata.bulk_operation_log. What was deleted stays deleted when a run is
interrupted; the next goes on. Letters that arrive while it runs are left.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ingest.operate.bulk_operations import Stopped, recorded_apart
from ingest.operate.letter_connection import TARGET, connected
from ingest.operate.letter_filter import CONDITIONS, by_reason, pages, summary
from ingest.operate.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from ingest.operate.letter_filter import LetterFilter, Summary
    from ingest.settings import Settings

BATCH_LETTERS: Final = 1_000
"""Deleted in one transaction: it is short whatever their payloads weigh."""

_DELETE: Final = "delete from iot.ingest_dead_letters"
_DELETE_SQL: Final = _DELETE + CONDITIONS
"""The conditions once more: a letter replayed meanwhile may no longer fit them."""


@dataclass(slots=True)
class PurgeReport:
    """What a purge deleted, or in a dry run would delete."""

    found: Summary
    reasons: dict[str, int]
    """Letters by reason; one counts for each of its reasons."""
    dry_run: bool = False
    deleted: int = 0
    interrupted: bool = False
    remarks: list[str] = field(default_factory=list)
    """What the operator has to know besides."""
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Give the report as JSON values."""
        first, last = self.found.first_received_at, self.found.last_received_at
        return {
            "dry_run": self.dry_run,
            "interrupted": self.interrupted,
            "seconds": round(self.seconds, 3),
            "fitting": self.found.letters,
            "readings": self.found.readings,
            "reasons": self.reasons,
            "first_received_at": None if first is None else first.isoformat(),
            "last_received_at": None if last is None else last.isoformat(),
            "deleted": self.deleted,
        }


async def count_letters(settings: Settings, wanted: LetterFilter) -> PurgeReport:
    """Count what a purge of *wanted* would delete. Raises Unavailable or Misconfigured."""
    async with connected(settings, "count dead letters") as connection:
        return PurgeReport(await summary(connection, wanted), await by_reason(connection, wanted))


async def purge_letters(
    settings: Settings,
    wanted: LetterFilter,
    report: PurgeReport,
    *,
    stop: asyncio.Event | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> None:
    """Delete what *report* counted and still fits *wanted*; *report* tells how many.

    After *stop* is set the batch is finished, and *report* says ``interrupted`` if that was not the last.
    Raises Unavailable or Misconfigured; what was deleted stays so.
    """
    began_s = time.monotonic()
    stop = stop or asyncio.Event()
    report.interrupted = True
    with contextlib.suppress(Stopped):
        async with (
            connected(settings, "purge dead letters") as connection,
            recorded_apart(settings.dsn("metadata"), "PURGE", TARGET, report.remarks.append) as tally,
        ):
            last_id = report.found.last_id
            async for page in pages(connection, wanted, last_id=last_id, size=BATCH_LETTERS):
                if stop.is_set():  # with more to do: said after the last batch it is too late
                    raise Stopped
                tag = await connection.execute(_DELETE_SQL, *wanted.only(page).arguments())
                report.deleted += int(tag.rpartition(" ")[2])
                tally.successful = report.deleted
                on_progress(Progress("dead letters", report.deleted, report.found.letters))
            report.interrupted = False
    report.seconds = time.monotonic() - began_s
