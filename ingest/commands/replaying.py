"""`ingest dead-letters replay`: what was rejected once more through decode and resolve, and what came of it.

Owns the exit code: 0 everything that fits is settled, 1 something is rejected still, 130 interrupted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ingest.commands.ending import carried_out, ended, tell_hours_noted
from ingest.commands.report import print_counts, print_line, print_table, remark
from ingest.operate.replay_letters import replay_letters

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from ingest.commands.invocation import Invocation
    from ingest.commands.letter_options import LetterOptions
    from ingest.operate.progress import Progress
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

    async def work(stop: asyncio.Event, on_progress: Callable[[Progress], None]) -> ReplayReport:
        return await replay_letters(
            settings,
            await options.settled(settings),
            dry_run=dry_run,
            rate_rows_s=rate_rows_s,
            stop=stop,
            on_progress=on_progress,
        )

    return ended(carried_out(work), _print, as_json=as_json)


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
    print_counts(lines)
    if replayed.still:
        print_table(("reason", "readings"), replayed.still.most_common(), empty="")
    for fault, count in replayed.faults.most_common():
        remark(f"{count} dead letters are left as they are, for a bug of ours: {fault}")
    if replayed.hours_noted and not report.dry_run:
        tell_hours_noted()
