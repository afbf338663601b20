"""What long commands have in common: a progress bar, and a first Ctrl-C that finishes the batch.

The bar is on stderr, on a terminal only; elsewhere some commands tell by a line now and then.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar
from rich.text import Text

from ingest.commands.report import remark

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from ingest.operate.progress import Progress

LINES_EVERY_S: Final = 10.0
"""Of a quick run nothing is told; of a long one enough to see that it goes on."""


@contextlib.asynccontextmanager
async def first_interrupt(
    remarked: str = "stopping after this batch; once more ends it at once (nothing committed is lost)",
) -> AsyncIterator[asyncio.Event]:
    """Give an event that the first SIGINT or SIGTERM sets; the second ends the process as usual.

    *remarked* says so to whoever pressed Ctrl-C.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        stop.set()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        remark(remarked)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    try:
        yield stop
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


class _Speed(ProgressColumn):
    """How fast it goes at the moment."""

    def render(self, task: Task) -> Text:
        """Show rows a second, nothing before the first batch."""
        return Text(f"{task.speed:,.0f}/s" if task.speed else "")


def progress_lines(now_s: Callable[[], float] = time.monotonic) -> Callable[[Progress], None]:
    """Give what says on stderr how far it is, a line in LINES_EVERY_S at most, the first after that long."""
    told_s = now_s()

    def tell(step: Progress) -> None:
        nonlocal told_s
        if now_s() - told_s >= LINES_EVERY_S:
            told_s = now_s()
            remark(f"{step.doing}: {step.done} of {step.total} done")

    return tell


@contextlib.contextmanager
def progress_bar(*, else_lines: bool = False) -> Iterator[Callable[[Progress], None]]:
    """Show a bar on stderr where that is a terminal, *else_lines* if wanted; give what moves it."""
    if not sys.stderr.isatty():
        yield progress_lines() if else_lines else lambda _: None
        return
    with Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Speed(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as bar:
        rows = bar.add_task("looking", total=None)

        def show(step: Progress) -> None:
            bar.update(rows, description=step.doing, completed=step.done, total=step.total or None)

        yield show
