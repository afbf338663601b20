"""`ingest import`: files of readings through decode, resolve and write, and what came of them.

Owns the exit code: 0 every record is stored, 1 some were rejected, 2 nothing was written because the files
do not fit the options or the catalog, 130 interrupted.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from ingest.commands.ending import carried_out, ended, tell_hours_noted, tell_retry
from ingest.commands.moments import moment
from ingest.commands.report import print_counts, print_line, print_table, remark
from ingest.errors import ConfigurationError
from ingest.load.columns import read_mapping
from ingest.load.importing import ImportPlan, import_files
from ingest.load.moments import zone_named

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from ingest.commands.invocation import Invocation
    from ingest.load.importing import ImportReport
    from ingest.load.tables import FileFormat
    from ingest.operate.progress import Progress

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class ImportOptions(NamedTuple):
    """As the operator writes them."""

    columns: Sequence[str]
    constants: Mapping[str, str | None]
    timezone: str | None
    accepted: str | None
    file_format: FileFormat | None
    delimiter: str | None

    def plan(self, files: Sequence[Path]) -> ImportPlan:
        """Give what they mean for *files*. ConfigurationError lists every fault."""
        faults: list[str] = []
        mapped: dict[str, str] = {}
        zone = accepted_us = None
        try:
            mapped = read_mapping(self.columns)
        except ConfigurationError as error:
            faults += error.faults
        try:
            zone = zone_named(self.timezone)
        except ConfigurationError as error:
            faults += error.faults
        try:
            accepted_us = None if self.accepted is None else _range_us(self.accepted)
        except ConfigurationError as error:
            faults += error.faults
        delimiter = {"tab": "\t", "\\t": "\t"}.get(self.delimiter or "", self.delimiter)
        if delimiter is not None and len(delimiter) != 1:
            faults.append(f"--delimiter: {delimiter!r} is not one character (or tab)")
        if faults:
            raise ConfigurationError(faults)
        constants = {field: text for field, text in self.constants.items() if text is not None}
        return ImportPlan(files, self.file_format, delimiter, mapped, constants, zone, accepted_us)


def run(
    invocation: Invocation,
    options: ImportOptions,
    *,
    files: Sequence[Path],
    dry_run: bool,
    reject_names: bool,
    rejected: Path | None,
    as_json: bool,
) -> int:
    """Import *files* and print the report."""
    plan = options.plan(files)
    settings = invocation.settings("metadata", "timeseries")

    async def work(stop: asyncio.Event, on_progress: Callable[[Progress], None]) -> ImportReport:
        return await import_files(
            settings,
            plan,
            dry_run=dry_run,
            reject_names=reject_names,
            rejected=rejected,
            stop=stop,
            on_progress=on_progress,
            on_retry=tell_retry,
        )

    return ended(carried_out(work), show, as_json=as_json)


def show(report: ImportReport) -> None:
    """Print *report* for people."""
    if not report.survey.whole:
        print_line(
            f"stopped after a look at {report.survey.records} records, before all were looked at: "
            f"nothing was written, {report.seconds:.1f} s"
        )
        return
    would = "would be " if report.dry_run else ""
    print_line(f"{report.read} of {report.survey.records} records read, {report.seconds:.1f} s")
    lines = (
        (report.written, f"readings {would}stored"),
        (report.duplicate, "readings were stored already"),
        (report.null, "readings are null"),
        (report.rejected.total(), f"readings {would}rejected"),
    )
    print_counts(lines)
    if report.survey.first_us is not None and report.survey.last_us is not None:
        first, last = (
            _EPOCH + at_us * _MICROSECOND for at_us in (report.survey.first_us, report.survey.last_us)
        )
        print_line(f"from {first.isoformat()} to {last.isoformat()}")
    if report.rejected:
        rows = [(reason, count, report.examples[reason]) for reason, count in report.rejected.most_common()]
        print_table(("reason", "readings", "the first of them"), rows, empty="")
        if report.rejected_file is None:
            remark("--rejected FILE keeps the rejected records, to be mended and imported again")
        else:
            remark(f"the rejected records are in {report.rejected_file}: mend them and import that file")
    if report.hours_noted and not report.dry_run:
        tell_hours_noted()


def _range_us(text: str) -> tuple[int, int]:
    since, dots, until = text.partition("..")
    if not dots:
        raise ConfigurationError([f"--range: {text!r} is not like 2024-01-01..2025-01-01"])
    now = datetime.now(UTC)
    first, last = (moment(each, now, "--range") for each in (since, until))
    if last <= first:
        raise ConfigurationError([f"--range: {until} is not after {since}"])
    return (first - _EPOCH) // _MICROSECOND, (last - _EPOCH) // _MICROSECOND - 1
