"""`ingest replay --direct`: recordings into the database without a broker, and the account of every message.

Owns the exit code: 0 all of it is in the table, 1 something was rejected, damaged or not reached, 130
interrupted.
"""

from __future__ import annotations

import contextlib
import os
from functools import partial
from typing import TYPE_CHECKING, Final

from ingest.commands.ending import carried_out, tell_hours_noted, tell_retry
from ingest.commands.invocation import EXIT_INTERRUPTED
from ingest.commands.report import print_counts, print_json, print_line, print_table, remark
from ingest.errors import ConfigurationError
from ingest.load import direct_point
from ingest.load.direct import backfill
from ingest.load.direct_point import DirectPoint
from ingest.load.direct_rejects import rejects_from
from ingest.load.recording import SUFFIX
from ingest.load.recording import files as files_of
from ingest.operate.bulk_operations import Stopped, recorded_apart

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ingest.commands.invocation import Invocation
    from ingest.load.backfill import Account
    from ingest.load.direct import DirectReport
    from ingest.load.direct_rejects import Rejects
    from ingest.operate.bulk_operations import Tally
    from ingest.operate.progress import Progress
    from ingest.settings import Settings

TARGET: Final = "iot.sensor_readings"
"""What metadata.bulk_operation_log calls it."""
MOST_BY_ITSELF: Final = 4
"""Connections unless more are asked for: the database has others to serve."""


def run(
    invocation: Invocation,
    paths: Sequence[Path],
    *,
    connections: int | None,
    resume: bool,
    rejected: Path | None,
    as_json: bool,
) -> int:
    """Backfill *paths*, recordings or folders of them, and print the account."""
    settings = invocation.settings("metadata", "timeseries")
    files = files_of(paths)
    if rejected is not None and any(rejected.exists() and rejected.samefile(file) for file in files):
        raise ConfigurationError([f"--rejected: {rejected} is to be replayed; give it another name"])
    if rejected is not None and _is_in_one_of(paths, rejected):
        raise ConfigurationError(
            [f"--rejected: {rejected} would be replayed with its folder the next time; take another folder"]
        )
    target = direct_point.target_of(settings.dsn("timeseries"))
    path = direct_point.point_file(files)
    began_us = direct_point.began_of(files)
    point = direct_point.read(path, files, target, began_us) if resume else DirectPoint(began_us=began_us)
    if point.finished:
        remark(f"everything is in the table already, says {path}: without --resume it is looked at again")
    rejects, point = rejects_from(rejected, point)
    try:
        report = carried_out(
            partial(
                _logged,
                settings,
                files,
                connections or min(os.cpu_count() or 1, MOST_BY_ITSELF),
                point,
                rejects,
                partial(direct_point.write, path, files=files, target=target),
            )
        )
    finally:
        if rejects is not None:
            rejects.close()
    if as_json:
        print_json(report.as_json())
    else:
        _print(report)
    return _ended(report)


def _is_in_one_of(paths: Sequence[Path], rejected: Path) -> bool:
    """Tell whether *rejected* is, or is to be, among the recordings of a folder of *paths*."""
    if not rejected.name.endswith(SUFFIX):
        return False
    folder = rejected.parent.resolve()
    return any(path.is_dir() and path.resolve() == folder for path in paths)


async def _logged(  # noqa: PLR0917 (private, called once above)
    settings: Settings,
    files: Sequence[Path],
    connections: int,
    point: DirectPoint,
    rejects: Rejects | None,
    keep_point: Callable[[DirectPoint], None],
    stop: asyncio.Event,
    on_progress: Callable[[Progress], None],
) -> DirectReport:
    """Run it, with its row in metadata.bulk_operation_log; a killed run's row stays RUNNING."""
    names = ", ".join(path.name for path in files)[:500]
    reports: list[DirectReport] = []
    with contextlib.suppress(Stopped):
        async with recorded_apart(
            settings.dsn("metadata"), "BACKFILL", TARGET, remark, source_file=names
        ) as tally:
            report = await backfill(
                settings,
                files,
                connections=connections,
                point=point,
                keep_point=keep_point,
                rejects=rejects,
                stop=stop,
                on_progress=on_progress,
                on_retry=tell_retry,
            )
            reports.append(report)
            _count(tally, report, point.account)
            if report.interrupted:
                raise Stopped
    return reports[0]


def _count(tally: Tally, report: DirectReport, before: Account) -> None:
    """Count what this run did; runs that it goes on from have rows of their own."""
    account = report.account
    tally.successful = account.written - before.written
    tally.failed = account.rejected.total() - before.rejected.total()
    tally.skipped = account.duplicate + account.null - before.duplicate - before.null
    tally.faults += [f"{reason}: {count}" for reason, count in account.rejected.most_common()]
    tally.faults += [str(damage) for damage in report.damages]
    tally.faults += [] if report.failure is None else [report.failure]


def _print(report: DirectReport) -> None:
    account = report.account
    per_s = f", {account.messages / report.seconds:,.0f}/s" if report.seconds else ""
    print_line(f"{account.messages} messages, {report.seconds:.1f} s{per_s}")
    lines = (
        (account.ignored, "messages are none of ours by rule"),
        (account.incomplete, "messages with something rejected"),
        (account.written, "readings stored"),
        (account.duplicate, "readings were stored already"),
        (account.null, "readings are null"),
        (account.rejected.total(), "readings rejected"),
    )
    print_counts(lines)
    if account.rejected:
        rows = [(reason, count, account.examples[reason]) for reason, count in account.rejected.most_common()]
        print_table(("reason", "readings", "the first of them"), rows, empty="")
    for damage in report.damages:
        remark(str(damage))
    if report.damaged_before:
        remark(f"{report.damaged_before} more damaged places were named before the point it went on from")
    if account.hours_noted:
        tell_hours_noted()


def _ended(report: DirectReport) -> int:
    if report.failure is not None:
        remark(report.failure)
    if not report.point.finished:
        remark(f"stopped at {report.where()}; everything done is committed: --resume goes on from there")
    if report.interrupted and report.failure is None:
        return EXIT_INTERRUPTED
    return 0 if report.clean else 1
