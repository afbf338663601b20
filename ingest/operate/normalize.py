"""`ingest normalize`: gives legacy rows (names in place of ids) the ids of type, unit and tenant.

Owns the run: the catalog, what there is to do, chunk after chunk, its row in metadata.bulk_operation_log,
and having the aggregates computed again. Keeps no state but the data: what was interrupted or killed is
taken up by the next run. Sensor ids that are NULL stay so: the id the worker derives says "the unnamed
sensor of this type here", and several sensors that legacy rows do not tell apart would become one, their
readings duplicates of each other. Runs in the operator's command, as the owner of the tables.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ingest.errors import CheckFailed
from ingest.migrate import Database
from ingest.migration_connection import connected
from ingest.operate import normalize_sql as sql
from ingest.operate.bulk_operations import recorded_apart
from ingest.operate.normalize_chunks import ChunkNormalizer, Pace, list_chunks, take_census
from ingest.operate.normalize_report import Report
from ingest.operate.normalize_run import claim, translated
from ingest.operate.progress import Progress
from ingest.resolve.loader import read_catalog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from ingest.migration_connection import Connection
    from ingest.operate.normalize_chunks import Chunk
    from ingest.operate.normalize_names import Counted
    from ingest.settings import Settings

TARGET = "iot.sensor_readings"


@dataclass(slots=True)
class _Teller:
    on_progress: Callable[[Progress], None]
    total: int
    doing: str = ""
    done: int = 0

    def rows(self, rows: int) -> None:
        """Tell that *rows* more are done; an old writer may have added to the total."""
        self.done += rows
        self.on_progress(Progress(self.doing, self.done, max(self.done, self.total)))


class _Stopped(asyncio.CancelledError):
    """Ends the log's entry as CANCELLED; never leaves this module."""


async def normalize(
    settings: Settings,
    *,
    dry_run: bool = False,
    rate_rows_s: float | None = None,
    stop: asyncio.Event | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Report:
    """Map what the catalog knows, at most *rate_rows_s* rows a second; with *dry_run* only count.

    After *stop* is set the batch is finished, and the report says ``interrupted`` if rows were left. Raises
    CheckFailed when another run is at work, Unavailable or Misconfigured for a database; what was committed
    stays.
    """
    began_s = time.monotonic()
    report = Report(dry_run=dry_run)
    pace = Pace(rate_rows_s, stop or asyncio.Event())
    with translated("normalize iot.sensor_readings"):
        catalog = await read_catalog(settings.dsn("metadata"), settings.resolve)
        async with connected(settings.dsn("timeseries"), Database.TIMESERIES) as connection:
            await claim(connection)
            survey, whole = await _survey(connection, pace, on_progress)
            report.chunks = len(survey)
            teller = _Teller(on_progress, sum(one.rows for _, census in survey for one in census))
            chunks = ChunkNormalizer(connection, catalog, report, pace, teller.rows)
            if dry_run:
                await _each(chunks, chunks.rehearse, pace, survey, teller)
            else:
                with contextlib.suppress(_Stopped):
                    async with _logged(settings, report):
                        await _each(chunks, chunks.move, pace, survey, teller)
                        if report.pending or not whole:
                            raise _Stopped
            report.hours_noted = await connection.fetchval(sql.NOTES_SQL)
    report.interrupted = report.pending > 0 or not whole
    report.seconds = time.monotonic() - began_s
    return report


class Recomputed(NamedTuple):
    """Noted hours, each of a greenhouse and type: computed again, and noted still."""

    hours: int
    left: int


async def recompute_noted_hours(
    settings: Settings, *, stop: asyncio.Event, on_progress: Callable[[Progress], None] = lambda _: None
) -> Recomputed:
    """Run the job that computes the noted hours again until none is left.

    What is left are hours not over yet, which the refresh policies do, or those noted again meanwhile.
    """
    with translated("compute the noted hours again"):
        async with connected(settings.dsn("timeseries"), Database.TIMESERIES) as connection:
            job_id = await connection.fetchval(sql.LATE_JOB_SQL)
            if job_id is None:
                raise CheckFailed("there is no job recompute_late_buckets: run `ingest schema verify`")
            total = left = int(await connection.fetchval(sql.NOTES_SQL))
            hours = 0
            while left and not stop.is_set():
                on_progress(Progress("aggregates", total - left, total))
                await connection.execute(sql.RUN_JOB_SQL, job_id)
                before, left = left, int(await connection.fetchval(sql.NOTES_SQL))
                if left >= before:
                    break
                hours += before - left
            return Recomputed(hours, left)


async def _survey(
    connection: Connection, pace: Pace, on_progress: Callable[[Progress], None]
) -> tuple[list[tuple[Chunk, list[Counted]]], bool]:
    """Look at every chunk once: how many rows there are to do, what they are called; and whether it could."""
    if not await connection.fetchval(sql.LEGACY_COLUMNS_SQL):
        return [], True  # dropped, and every row has had its ids since
    chunks = await list_chunks(connection)
    survey = []
    for number, chunk in enumerate(chunks):
        if pace.stop.is_set():
            break
        on_progress(Progress("survey", number, len(chunks)))
        survey.append((chunk, await take_census(connection, chunk)))
    return survey, len(survey) == len(chunks)


async def _each(
    chunks: ChunkNormalizer,
    work: Callable[[Chunk, list[Counted]], Awaitable[None]],
    pace: Pace,
    survey: list[tuple[Chunk, list[Counted]]],
    teller: _Teller,
) -> None:
    for chunk, census in survey:
        if pace.stop.is_set():
            chunks.count_left(census)
        elif census:
            teller.doing = f"{chunk.first:%Y-%m-%d}"
            teller.rows(0)
            await work(chunk, census)


@contextlib.asynccontextmanager
async def _logged(settings: Settings, report: Report) -> AsyncIterator[None]:
    """Keep the run's row in metadata.bulk_operation_log; one that a killed run left RUNNING is ended."""
    async with recorded_apart(
        settings.dsn("metadata"), "NORMALIZE", TARGET, report.remarks.append, alone=True
    ) as tally:
        try:
            yield
        finally:
            tally.successful = report.mapped + report.merged
            tally.failed = report.unmapped + report.differing
            tally.skipped = report.pending + report.arrived
            tally.faults += [
                f"{one.reason} {one.name!r}: {one.rows} rows" for one in report.most_rows_first()
            ]
