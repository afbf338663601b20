"""`ingest dead-letters purge`: counts, asks where somebody can answer, deletes.

Owns the refusals: without an age, numbers or --all, and where nobody can be asked without --yes. Exit code:
0 done, 2 refused, 130 interrupted.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ingest.commands.consent import require_consent
from ingest.commands.ending import carried_out
from ingest.commands.invocation import EXIT_INTERRUPTED
from ingest.commands.report import print_json, print_line, print_table, remark
from ingest.errors import ConfigurationError
from ingest.operate.purge_letters import count_letters, purge_letters

if TYPE_CHECKING:
    from ingest.commands.invocation import Invocation
    from ingest.commands.letter_options import LetterOptions
    from ingest.operate.purge_letters import PurgeReport


def run(
    invocation: Invocation,
    options: LetterOptions,
    *,
    everything: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> int:
    """Delete the dead letters that fit, after saying how many they are."""
    if not (everything or options.older_than or options.until or options.letters):
        raise ConfigurationError(
            ["say how old with --older-than 90d, or which with --id, or --all of any age"]
        )
    settings = options.settings(invocation, "timeseries", *(() if dry_run else ("metadata",)))
    wanted = asyncio.run(options.settled(settings))
    report = asyncio.run(count_letters(settings, wanted))
    report.dry_run = dry_run
    if not as_json:
        _print(report)
    deleting = not dry_run and report.found.letters > 0
    if deleting:
        count = report.found.letters
        question, what = f"Delete these {count} dead letters for good?", f"{count} dead letters fit"
        require_consent(question, what, "deleted", yes=yes, may_ask=not as_json)
        carried_out(
            lambda stop, on_progress: purge_letters(
                settings, wanted, report, stop=stop, on_progress=on_progress
            )
        )
    if as_json:
        print_json(report.as_json())
    elif deleting:
        print_line(f"{report.deleted} deleted, {report.seconds:.1f} s")
    for text in report.remarks:
        remark(text)
    if report.interrupted:
        remark("stopped at your word: what is deleted stays deleted")
        return EXIT_INTERRUPTED
    return 0


def _print(report: PurgeReport) -> None:
    found = report.found
    if not found.letters:
        print_line("no dead letters fit")
        return
    print_line(
        f"{found.letters} dead letters fit, with {found.readings} rejected readings, received "
        f"{found.first_received_at:%Y-%m-%d %H:%M} to {found.last_received_at:%Y-%m-%d %H:%M} UTC"
    )
    print_table(("reason", "dead letters"), list(report.reasons.items()), empty="")
