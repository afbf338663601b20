"""What long commands have in common: a progress bar, and a first Ctrl-C that finishes the batch.

The bar is on stderr, on a terminal only.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from typing import TYPE_CHECKING

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


@contextlib.contextmanager
def progress_bar() -> Iterator[Callable[[Progress], None]]:
    """Show a bar on stderr where that is a terminal; give what moves it."""
    if not sys.stderr.isatty():
        yield lambda _: None
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
