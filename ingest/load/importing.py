"""`ingest import`: readings out of CSV and JSON Lines files, by the path that a gateway's readings go.

Owns the run: two passes over the files. The first writes nothing and looks at every record, so that what is
wrong with a column, a zone or a name is told before the first row; the second writes batch by batch, each
committed. Every row is by key: what was interrupted or killed is run again, and what is there is met as a
duplicate.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ingest.errors import CheckFailed, ConfigurationError, DatabaseFault
from ingest.labels import LabelRules
from ingest.load.columns import Columns
from ingest.load.garbage import seldom_collected
from ingest.load.history import TOLD_FIRST, Historian
from ingest.load.moments import EARLIEST_US, NAIVE, Times
from ingest.load.tables import Rejects, Table
from ingest.model import Rejection, Row
from ingest.operate.bulk_operations import Stopped, recorded_apart
from ingest.operate.progress import Progress
from ingest.resolve import Resolver
from ingest.resolve.loader import read_catalog
from ingest.write.backfiller import Backfiller

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
    from datetime import tzinfo
    from pathlib import Path

    from ingest.load.tables import FileFormat, Record
    from ingest.model import Reason
    from ingest.settings import Settings

TARGET: Final = "iot.sensor_readings"
"""What metadata.bulk_operation_log calls it."""
NAMES_KEPT: Final = 100
"""Of the names that are wrong; the others are counted."""
MOST_BYTES: Final = 8_388_608
"""Of a batch's records as they were read: long ones make a batch of fewer. 10 000 plain ones are 1 MB."""
_LOOK_UP: Final = 2_000
"""Records after which others may run, 20 ms: signals, and the bar."""
_STILL_TEXT: Final = "rejected before, and not mended: its text stands in rejected_text, and it has no value"


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """What is to be imported, and how its files are to be read."""

    files: Sequence[Path]
    file_format: FileFormat | None = None
    """None: by the name of each."""
    delimiter: str | None = None
    """Of CSV; None: by the header."""
    mapped: Mapping[str, str] = field(default_factory=dict)
    """Field -> column."""
    constants: Mapping[str, str] = field(default_factory=dict)
    """Field -> what a record means that says nothing."""
    zone: tzinfo | None = None
    """Of naive times; None: there may be none."""
    accepted_us: tuple[int, int] | None = None
    """The times to be believed; None: from 1971 until `decode.max_future_s` ahead."""


@dataclass(slots=True)
class Survey:
    """What a look at every record found. Nothing is written yet."""

    records: int = 0
    whole: bool = False
    """Whether that is all of them: a word to stop may come before."""
    first_us: int | None = None
    last_us: int | None = None
    """The span of those that have a row."""
    wrong_names: dict[str, tuple[str, int]] = field(default_factory=dict)
    """What is wrong -> where it is met first, and in how many records."""
    unlisted: int = 0
    """Records whose names are wrong in another way than those listed."""
    naive_at: str | None = None
    """The first time that wants a zone."""

    def note_time(self, at_us: int) -> None:
        """Note the time of one that has a row."""
        if self.first_us is None or at_us < self.first_us:
            self.first_us = at_us
        if self.last_us is None or at_us > self.last_us:
            self.last_us = at_us

    def note_refusal(self, at: str, rejection: Rejection) -> None:
        """Note what the record *at* a place has no row for."""
        if rejection.reason == "bad_timestamp" and rejection.detail == NAIVE:
            self.naive_at = self.naive_at or at
        elif rejection.reason in TOLD_FIRST:
            first, count = self.wrong_names.get(rejection.detail, (at, 0))
            if count or len(self.wrong_names) < NAMES_KEPT:
                self.wrong_names[rejection.detail] = (first, count + 1)
            else:
                self.unlisted += 1

    def faults(self, *, reject_names: bool) -> list[str]:
        """List what is to be mended before anything is written."""
        faults = [] if self.naive_at is None else [f"{self.naive_at}: {NAIVE}"]
        if reject_names or not self.wrong_names:
            return faults
        faults += [f"{at}: {detail} ({count} records)" for detail, (at, count) in self.wrong_names.items()]
        if self.unlisted:
            faults.append(f"and {self.unlisted} records more")
        return faults


@dataclass(slots=True)
class ImportReport:
    """What an import did, or in a dry run would do: read = written + duplicate + null + rejected."""

    dry_run: bool
    read: int = 0
    written: int = 0
    duplicate: int = 0
    null: int = 0
    rejected: Counter[Reason] = field(default_factory=Counter)
    examples: dict[Reason, str] = field(default_factory=dict)
    """The first of each."""
    hours_noted: int = 0
    survey: Survey = field(default_factory=Survey)
    rejected_file: Path | None = None
    interrupted: bool = False
    remarks: list[str] = field(default_factory=list)
    """What the operator has to know besides."""
    seconds: float = 0.0

    @property
    def clean(self) -> bool:
        """Whether every record is a row by now, or null."""
        return not (self.rejected or self.interrupted)

    def as_json(self) -> dict[str, Any]:
        """Give the report as JSON values."""
        return {
            "dry_run": self.dry_run,
            "interrupted": self.interrupted,
            "seconds": round(self.seconds, 3),
            "records": self.survey.records if self.survey.whole else None,
            "readings": {
                "read": self.read,
                "written": self.written,
                "duplicate": self.duplicate,
                "null": self.null,
                "rejected": self.rejected.total(),
            },
            "rejected": dict(self.rejected.most_common()),
            "examples": self.examples,
            "rejected_file": None if self.rejected_file is None else str(self.rejected_file),
            "first_us": self.survey.first_us,
            "last_us": self.survey.last_us,
            "hours_noted": self.hours_noted,
        }


async def import_files(
    settings: Settings,
    plan: ImportPlan,
    *,
    dry_run: bool = False,
    reject_names: bool = False,
    rejected: Path | None = None,
    stop: asyncio.Event | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_retry: Callable[[DatabaseFault, float], None] = lambda _fault, _wait_s: None,
) -> ImportReport:
    """Import what *plan* says; what cannot be is counted, and written down in the file *rejected*.

    With *dry_run* each batch is tried and rolled back. Names that the catalog refuses end it before anything
    is written, unless *reject_names*. Raises ConfigurationError with every fault, CheckFailed for a file that
    cannot be read to its end, or *rejected* not written, a DatabaseFault for a database: what was committed
    stays.
    """
    began_s = time.monotonic()
    work = await _Import.prepared(settings, plan, stop or asyncio.Event(), on_progress)
    report = ImportReport(dry_run, survey=work.survey, rejected_file=rejected, interrupted=True)
    with contextlib.suppress(Stopped), seldom_collected():
        await work.look_through(reject_names=reject_names)
        async with _going_on(report), contextlib.AsyncExitStack() as stack:
            rejects = None if rejected is None else stack.enter_context(Rejects(rejected, work.tables))
            if not dry_run:
                await stack.enter_async_context(_logged(settings, plan, report))
            backfiller = Backfiller(settings.dsn("timeseries"), settings.write, "(import)", on_retry=on_retry)
            stack.push_async_callback(backfiller.close)
            await work.write(backfiller, report, rejects)
            report.interrupted = False
    report.seconds = time.monotonic() - began_s
    return report


class _Import:
    """One run: what both passes need."""

    def __init__(
        self,
        settings: Settings,
        plan: ImportPlan,
        resolver: Resolver,
        stop: asyncio.Event,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self.stop = stop
        self.survey = Survey()
        self.columns = Columns(plan.mapped, plan.constants)
        self._batch_rows = settings.write.max_batch_rows
        self._on_progress = on_progress
        now_us = time.time_ns() // 1000
        latest_us = now_us + round(settings.decode.max_future_s * 1_000_000)
        times = Times(plan.zone, plan.accepted_us or (EARLIEST_US, latest_us))
        self._historian = Historian(resolver, times, max_depth=settings.decode.max_depth)
        self.tables, self._places, faults = [], [], list[str]()
        for path in plan.files:
            try:
                table = Table(
                    path,
                    file_format=plan.file_format,
                    delimiter=plan.delimiter,
                    max_depth=settings.decode.max_depth,
                )
                places = self.columns.places(table.header, str(path)) if table.format == "csv" else []
            except ConfigurationError as error:
                faults += error.faults
            else:
                self.tables.append(table)
                self._places.append(places)
        if faults:
            raise ConfigurationError(faults)

    @classmethod
    async def prepared(
        cls,
        settings: Settings,
        plan: ImportPlan,
        stop: asyncio.Event,
        on_progress: Callable[[Progress], None],
    ) -> _Import:
        catalog = await read_catalog(settings.dsn("metadata"), settings.resolve)
        rules = LabelRules(settings.label_rule)
        resolver = Resolver(catalog, rules, out_of_range=settings.resolve.out_of_range)
        return cls(settings, plan, resolver, stop, on_progress)

    def _looked_at(self, table: Table, places: Sequence[int | None]) -> Iterator[tuple[Record, Any]]:
        """Give each record of *table* and the Row, Rejection or None that it is."""
        is_csv = table.format == "csv"
        columns, look = self.columns, self._historian.look
        for record in table.records():
            if record.fault is not None:
                yield record, Rejection("", "bad_payload", record.fault)
                continue
            text = table.rejected_text(record)
            if is_csv:
                outcome = look(columns.of_row(record.content, places))
            else:
                if not text:
                    columns.note(record.content)
                outcome = look(columns.of_object(record.content))
            if outcome is None and text:
                outcome = Rejection("", "bad_payload", _STILL_TEXT)
            yield record, outcome

    async def look_through(self, *, reject_names: bool) -> None:
        """Look at every record. Raises ConfigurationError with what is to be mended first, or Stopped."""
        survey, done_bytes, faults = self.survey, 0, list[str]()
        total_bytes = sum(table.bytes for table in self.tables)
        for table, places in zip(self.tables, self._places, strict=True):
            for record, outcome in self._looked_at(table, places):
                survey.records += 1
                if isinstance(outcome, Row):
                    survey.note_time(outcome.time_us)
                elif outcome is not None:
                    survey.note_refusal(f"{table.path}:{record.line}", outcome)
                if survey.records % _LOOK_UP == 0:
                    self._on_progress(Progress("looking", done_bytes + table.bytes_read, total_bytes))
                    await self._breathe()
            done_bytes += table.bytes
            faults += self.columns.unseen(str(table.path))
        survey.whole = True
        faults += survey.faults(reject_names=reject_names)
        if faults:
            advice = "nothing was written"
            if self.survey.wrong_names and not reject_names:
                advice += "; --reject-names imports the records that have no such name"
            raise ConfigurationError(faults, advice)

    async def write(self, backfiller: Backfiller, report: ImportReport, rejects: Rejects | None) -> None:
        """Write every record's row, batch by batch. Raises Stopped after the batch under way."""
        batch = _Batch(backfiller, report, rejects)
        self._on_progress(Progress("importing", 0, self.survey.records))
        for table, places in zip(self.tables, self._places, strict=True):
            for record, outcome in self._looked_at(table, places):
                batch.add(table, record, outcome)
                if batch.is_full(self._batch_rows):
                    await batch.commit()
                    self._on_progress(Progress("importing", report.read, self.survey.records))
                    if report.read < self.survey.records:  # else all is done, whatever is said now
                        await self._breathe()
        await batch.commit()

    async def _breathe(self) -> None:
        await asyncio.sleep(0)
        if self.stop.is_set():
            raise Stopped


class _Batch:
    """The rows of one transaction, with the records they are of."""

    def __init__(self, backfiller: Backfiller, report: ImportReport, rejects: Rejects | None) -> None:
        self.rows: list[Row] = []
        self._bytes = 0
        self._origins: list[tuple[Table, Record]] = []
        self._settled: list[tuple[Table, Record, Rejection | None]] = []
        self._backfiller = backfiller
        self._report = report
        self._rejects = rejects

    def add(self, table: Table, record: Record, outcome: Row | Rejection | None) -> None:
        if isinstance(outcome, Row):
            self.rows.append(outcome)
            self._origins.append((table, record))
        else:
            self._settled.append((table, record, outcome))
        self._bytes += record.size

    def is_full(self, most_rows: int) -> bool:
        return (
            len(self.rows) >= most_rows or len(self._settled) >= 10 * most_rows or self._bytes >= MOST_BYTES
        )

    async def commit(self) -> None:
        """Commit the rows; only then is anything of the batch counted or written down."""
        report = self._report
        landed = await self._backfiller.store(self.rows, keep=not report.dry_run)
        refused = [(*self._origins[number], rejection) for number, rejection in landed.refused.items()]
        report.read += len(self.rows) + len(self._settled)
        report.written += landed.written
        report.duplicate += landed.duplicate
        report.hours_noted += landed.hours_noted
        for table, record, rejection in sorted(
            [*self._settled, *refused], key=lambda each: (str(each[0].path), each[1].line)
        ):
            if rejection is None:
                report.null += 1
                continue
            report.rejected[rejection.reason] += 1
            report.examples.setdefault(rejection.reason, f"{table.path}:{record.line}: {rejection.detail}")
            if self._rejects is not None:
                self._rejects.write(table, record, rejection)
        self.rows, self._origins, self._settled, self._bytes = [], [], [], 0


@contextlib.asynccontextmanager
async def _going_on(report: ImportReport) -> AsyncIterator[None]:
    """Tell with what ends a run early that it can be gone on with."""
    try:
        yield
    except (CheckFailed, DatabaseFault) as fault:
        text = f"{fault}; {report.read} records are done, and stay: run it again to go on"
        if isinstance(fault, DatabaseFault):
            raise type(fault)(text, fault.sqlstate) from fault
        raise CheckFailed(text) from fault


@contextlib.asynccontextmanager
async def _logged(settings: Settings, plan: ImportPlan, report: ImportReport) -> AsyncIterator[None]:
    """Keep the run's row in metadata.bulk_operation_log; a killed run's row stays RUNNING."""
    files = ", ".join(path.name for path in plan.files)
    async with recorded_apart(
        settings.dsn("metadata"), "IMPORT", TARGET, report.remarks.append, source_file=files[:500]
    ) as tally:
        try:
            yield
        finally:
            tally.successful = report.written
            tally.failed = report.rejected.total()
            tally.skipped = report.duplicate + report.null
            tally.faults += [f"{reason}: {count} records" for reason, count in report.rejected.most_common()]
