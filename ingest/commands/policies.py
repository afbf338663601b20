"""`ingest schema plan` and `ingest schema apply`: what the database does on its own, as the settings say."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ingest.commands.report import print_json, print_line, print_table
from ingest.operate import policies

if TYPE_CHECKING:
    from ingest.commands.invocation import Invocation
    from ingest.operate.policy_plan import Difference, Job, Plan


def plan(invocation: Invocation, *, enable: bool, as_json: bool) -> int:
    """Print what differs, item by item, and how `apply` would change it. Returns 1 when anything does."""
    settings = invocation.settings("timeseries")
    found = asyncio.run(policies.plan(settings.dsn("timeseries"), settings, enable=enable))
    if as_json:
        print_json(_report(found, "differences"))
    else:
        rows = [(each.option, each.live, each.wanted, each.how) for each in found.differences]
        columns = ("setting", "database", "wanted", "change")
        print_table(columns, rows, empty="nothing differs: the database does what the settings say")
        _print_disabled(found)
    return 1 if found.differences else 0


def apply(invocation: Invocation, *, enable: bool, as_json: bool) -> int:
    """Change what differs, one line a setting as it is done."""
    settings = invocation.settings("timeseries")

    def report(done: Difference) -> None:
        if not as_json:
            print_line(f"{done.option}: {done.live} -> {done.wanted} ({done.how})")

    done = asyncio.run(policies.apply(settings.dsn("timeseries"), settings, enable=enable, on_applied=report))
    if as_json:
        print_json(_report(done, "applied"))
    else:
        if not done.differences:
            print_line("nothing to do: the database does what the settings say")
        _print_disabled(done)
    return 0


def _print_disabled(found: Plan) -> None:
    for job in found.disabled:
        print_line(f"{job.label} is disabled, and stays so: --enable has it scheduled again")


def _report(found: Plan, name: str) -> dict[str, Any]:
    return {
        name: [
            {"setting": each.option, "live": each.live, "wanted": each.wanted, "change": each.how}
            for each in found.differences
        ],
        "disabled": [_job_report(job) for job in found.disabled],
    }


def _job_report(job: Job) -> dict[str, Any]:
    return {"job_id": job.job_id, "procedure": job.proc_name, "of": job.subject}
