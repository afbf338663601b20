"""`ingest export`: which readings, into which file, and how it went.

Owns the exit code: 0 the file is there, 130 interrupted and there is none.
"""

from __future__ import annotations

import contextlib
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from ingest.commands.ending import carried_out
from ingest.commands.invocation import EXIT_INTERRUPTED
from ingest.commands.moments import moment
from ingest.commands.report import print_json, print_line, remark
from ingest.errors import ConfigurationError
from ingest.load.choosing import choose
from ingest.load.exporting import Wanted, export, instant
from ingest.load.whole_file import WholeFile
from ingest.resolve.catalog import EMPTY
from ingest.resolve.loader import read_catalog

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from ingest.commands.invocation import Invocation
    from ingest.load.exporting import ExportFormat, ExportReport
    from ingest.operate.progress import Progress
    from ingest.resolve import Catalog
    from ingest.settings import Settings


_STDOUT: Final = Path("/dev/stdout")


class ExportOptions(NamedTuple):
    """As the operator writes them."""

    since: str
    until: str | None
    tenant: str | None
    greenhouse: str | None
    sensor: str | None
    sensor_type: str | None

    def span(self) -> tuple[datetime, datetime]:
        """Give the range of times. Raises ConfigurationError."""
        now = datetime.now(UTC)
        since = moment(self.since, now, "--since")
        until = now if self.until is None else moment(self.until, now, "--until")
        if until <= since:
            raise ConfigurationError([f"--until: {instant(until)} is not after --since"])
        return since, until

    @property
    def names(self) -> dict[str, str | None]:
        """Give what the catalog has to know."""
        return {
            "tenant": self.tenant,
            "greenhouse": self.greenhouse,
            "sensor": self.sensor,
            "sensor_type": self.sensor_type,
        }


def run(
    invocation: Invocation,
    options: ExportOptions,
    *,
    output: Path,
    file_format: ExportFormat | None,
    as_json: bool,
) -> int:
    """Export, and print the report; on stderr where the readings go to stdout."""
    chosen_format = file_format or _format_of(output)
    since, until = options.span()
    wants_catalog = any(options.names.values())
    settings = (
        invocation.settings("metadata", "timeseries") if wants_catalog else invocation.settings("timeseries")
    )

    # Before anything listens to signals: a pipe is not open before somebody reads it.
    file = WholeFile(_STDOUT if str(output) == "-" else output)

    async def work(stop: asyncio.Event, on_progress: Callable[[Progress], None]) -> ExportReport:
        wanted = Wanted(since, until, *choose(await _catalog(settings, wants=wants_catalog), **options.names))
        return await export(settings, wanted, file, chosen_format, stop=stop, on_progress=on_progress)

    with file:
        report = carried_out(work)
    with contextlib.redirect_stdout(sys.stderr) if file.is_stdout else contextlib.nullcontext():
        _print(report, as_json=as_json)
    if report.interrupted:
        remark(f"stopped at your word; {report.path} is {'not written' if file.replaces else 'cut off'}")
        return EXIT_INTERRUPTED
    return 0


def _print(report: ExportReport, *, as_json: bool) -> None:
    if as_json:
        print_json(report.as_json())
    elif not report.interrupted:
        print_line(f"{report.rows} readings in {report.path}, {report.seconds:.1f} s")
        if report.first is not None and report.last is not None:
            print_line(f"from {instant(report.first)} to {instant(report.last)}")


async def _catalog(settings: Settings, *, wants: bool) -> Catalog:
    return await read_catalog(settings.dsn("metadata"), settings.resolve) if wants else EMPTY


def _format_of(path: Path) -> ExportFormat:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    found: dict[str, ExportFormat] = {
        ".csv": "csv",
        ".jsonl": "jsonl",
        ".ndjson": "jsonl",
        ".parquet": "parquet",
    }
    if not suffixes or suffixes[-1] not in found:
        raise ConfigurationError([f"--output: {path} does not tell the format: give --format too"])
    return found[suffixes[-1]]
