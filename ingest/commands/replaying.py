"""`ingest dead-letters replay`: what was rejected once more through decode and resolve, and what came of it.

Owns the exit code: 0 everything that fits is settled, 1 something is rejected still, 130 interrupted.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ingest.commands.invocation import EXIT_INTERRUPTED
from ingest.commands.progress import first_interrupt, progress_bar
from ingest.commands.report import print_json, print_line, print_table, remark
from ingest.operate.replay_letters import replay_letters

if TYPE_CHECKING:
    from ingest.commands.invocation import Invocation
    from ingest.commands.letter_options import LetterOptions
    from ingest.operate.replay_letters import ReplayReport


def run(
    invocation: Invocation,
    options: LetterOptions,
    *,
    dry_run: bool,
    rate_rows_s: float | None,
    as_json: bool,
) -> int:
    """Replay the dead letters that fit and print the report."""
    settings = options.settings(invocation, "metadata", "timeseries")

    async def work() -> ReplayReport:
        wanted = await options.settled(settings)
        async with first_interrupt() as stop:
            with progress_bar() as on_progress:
                return await replay_letters(
                    settings,
                    wanted,
                    dry_run=dry_run,
                    rate_rows_s=rate_rows_s,
                    stop=stop,
                    on_progress=on_progress,
                )

    report = asyncio.run(work())
    if as_json:
        print_json(report.as_json())
    else:
        _print(report)
    for text in report.remarks:
        remark(text)
    if report.interrupted:
        remark("stopped at your word; everything done is committed: run it again to go on")
        return EXIT_INTERRUPTED
    return 0 if report.clean else 1


def _print(report: ReplayReport) -> None:
    replayed = report.replayed
    would = "would be " if report.dry_run else ""
    print_line(f"{replayed.letters} of {report.fitting} dead letters {would}replayed, {report.seconds:.1f} s")
    lines = (
        (replayed.settled, f"dead letters {would}settled and deleted"),
        (replayed.ignored, "of them of a topic that is ignored by now"),
        (report.cut, "dead letters left: too large to be kept whole, so that they cannot be replayed"),
        (
            report.passed_over,
            "dead letters passed over: a worker or another replay has them, or they are gone",
        ),
        (replayed.written, f"readings {would}stored"),
        (replayed.duplicate, "readings were stored already"),
        (replayed.null, "readings are null"),
        (replayed.still.total(), f"readings {would}rejected still"),
    )
    for count, text in lines:
        if count:
            print_line(f"{count:>12} {text}")
    if replayed.still:
        print_table(("reason", "readings"), replayed.still.most_common(), empty="")
    for fault, count in replayed.faults.most_common():
        remark(f"{count} dead letters are left as they are, for a bug of ours: {fault}")
    if replayed.hours_noted and not report.dry_run:
        remark(
            "readings of hours that are over were stored: the job recompute_late_buckets computes their "
            "aggregates in its next runs"
        )
