"""How a long command runs and ends: a bar, a first Ctrl-C that finishes the batch, a report, an exit code.

Owns the order: the report on stdout, remarks on stderr, then the exit code: 0 clean, 1 not, 130 interrupted.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ingest.commands.invocation import EXIT_INTERRUPTED
from ingest.commands.progress import first_interrupt, progress_bar
from ingest.commands.report import print_json, remark

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ingest.errors import DatabaseFault
    from ingest.operate.progress import Progress


class Ended(Protocol):
    """What work that is over says of itself."""

    interrupted: bool
    remarks: list[str]

    @property
    def clean(self) -> bool:
        """Whether nothing is left that somebody has to look at."""

    def as_json(self) -> dict[str, Any]:
        """Give the report as JSON values."""


EndedT = TypeVar("EndedT", bound=Ended)
T = TypeVar("T")


def carried_out(work: Callable[[asyncio.Event, Callable[[Progress], None]], Coroutine[Any, Any, T]]) -> T:
    """Run *work* with an event that the first SIGINT or SIGTERM sets, and with what moves the bar."""

    async def interruptible() -> T:
        async with first_interrupt() as stop:
            with progress_bar() as on_progress:
                return await work(stop, on_progress)

    return asyncio.run(interruptible())


def ended(
    report: EndedT, show: Callable[[EndedT], None], *, as_json: bool, again: str = "run it again"
) -> int:
    """Print *report*, as JSON or by *show*, and what is to be told besides; return the exit code.

    *again* is how to go on with what was interrupted.
    """
    if as_json:
        print_json(report.as_json())
    else:
        show(report)
    for text in report.remarks:
        remark(text)
    if report.interrupted:
        remark(f"stopped at your word; everything done is committed: {again} to go on")
        return EXIT_INTERRUPTED
    return 0 if report.clean else 1


def tell_retry(fault: DatabaseFault, wait_s: float) -> None:
    """Say that a batch is tried again, and when."""
    remark(f"{fault}; trying again in {wait_s:.1f} s")


def tell_hours_noted() -> None:
    """Say what becomes of the aggregates of hours that are over."""
    remark(
        "readings of hours that are over were stored: the job recompute_late_buckets computes their "
        "aggregates in its next runs"
    )
