"""`ingest maintain`: shows what there is to do, asks where somebody can answer, does it, step by step.

Owns the refusals: a step that the period has not, and no --yes where nobody can be asked. Exit code: 0 done,
1 something failed, 2 refused, 130 interrupted.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ingest.commands.consent import require_consent
from ingest.commands.invocation import EXIT_INTERRUPTED
from ingest.commands.progress import first_interrupt, progress_bar
from ingest.commands.report import print_at_once, print_json, print_line, remark
from ingest.errors import ConfigurationError
from ingest.operate.maintain import STEPS, maintain, survey

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingest.commands.invocation import Invocation
    from ingest.operate.maintain_steps import MaintenanceReport, Period, StepName, StepReport
    from ingest.settings import Settings

_SHOWN = 10
"""Tasks of a step; --json has all of them."""


def run(
    invocation: Invocation,
    *,
    period: Period,
    only: Sequence[str],
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> int:
    """Show the plan; with consent carry it out."""
    known = [step.name for step in STEPS[period]]
    wanted = [name for name in known if name in only]
    if len(wanted) < len(set(only)):
        raise ConfigurationError([f"--only: maintain {period} has these steps: {', '.join(known)}"])
    settings = invocation.settings("metadata", "timeseries")
    if dry_run:
        report = _look(settings, period, wanted, quiet=as_json)
    else:
        if not (yes and as_json):  # with both nobody sees the plan, or is asked about it
            plan = _look(settings, period, wanted, quiet=as_json)
            if plan.tasks:
                question, what = f"Do these {plan.tasks} tasks?", f"{plan.tasks} tasks"
                require_consent(question, what, "done", yes=yes, may_ask=not as_json)
        if not as_json:
            print_line("")
        report = asyncio.run(_carry_out(settings, period, wanted, quiet=as_json))
    if as_json:
        print_json(report.as_json())
    if report.interrupted:
        remark(
            f"stopped at your word; what was done stays done: run `ingest maintain {period}` again to go on"
        )
        return EXIT_INTERRUPTED
    return 1 if report.faults else 0


def _look(settings: Settings, period: Period, only: Sequence[StepName], *, quiet: bool) -> MaintenanceReport:
    report = asyncio.run(survey(settings, period, only))
    if not quiet:
        for step in report.steps:
            _print_plan(step)
    return report


async def _carry_out(
    settings: Settings, period: Period, only: Sequence[StepName], *, quiet: bool
) -> MaintenanceReport:
    async with first_interrupt() as stop:
        with progress_bar(else_lines=True) as on_progress:
            return await maintain(
                settings,
                period,
                only,
                stop=stop,
                on_progress=on_progress,
                on_step=(lambda _: None) if quiet else _print_done,
            )


def _print_plan(step: StepReport) -> None:
    print_line(f"{step.name}: {step.title}, {_to_do(step)} ({step.seconds:.1f} s)")
    for finding in step.findings:
        print_line(f"    {finding}")
    for task in step.tasks[:_SHOWN]:
        print_line(f"  - {task}")
    if len(step.tasks) > _SHOWN:
        print_line(f"  - and {len(step.tasks) - _SHOWN} more")
    for fault in step.faults:
        print_line(f"    FAILED: {fault}")


def _to_do(step: StepReport) -> str:
    return f"{len(step.tasks)} to do" if step.tasks else "nothing to do"


def _print_done(step: StepReport) -> None:
    left = f", {step.left} left" if step.left else ""
    print_at_once(f"{step.name}: {step.done} of {len(step.tasks)} done{left} ({step.seconds:.1f} s)")
    for told in step.told:
        print_line(f"    {told}")
    for fault in step.faults:
        print_line(f"    FAILED: {fault}")
