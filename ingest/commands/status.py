"""`ingest status`: looks at both databases, prints what it found, and what mends each breach.

Owns the exit code (0 nothing is beyond its threshold, 1 something is or could not be looked at) and the
loop of --watch, which ends with the code of its last look.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NoReturn

from ingest.commands.report import print_json, print_line
from ingest.commands.status_report import as_json as report_of
from ingest.commands.status_tables import print_status
from ingest.operate.names import Names, read_names
from ingest.operate.status import look
from ingest.operate.status_judge import judge, remarks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingest.commands.invocation import Invocation
    from ingest.operate.status_facts import Findings
    from ingest.settings import Settings

_HOME_AND_CLEAR = "\x1b[H\x1b[2J"
"""ECMA-48: cursor to the first place, then erase the whole page."""


def run(invocation: Invocation, *, as_json: bool, count_all: bool, watch: bool, every_s: float) -> int:
    """Look once, or again and again until Ctrl-C; print what was found."""
    settings = invocation.settings("metadata", "timeseries")
    if not watch:
        return _once(settings, as_json=as_json, count_all=count_all, clear=False)
    code = 0
    with contextlib.suppress(KeyboardInterrupt), _ended_by_sigterm_too():
        while True:
            code = _once(settings, as_json=False, count_all=count_all, clear=sys.stdout.isatty())
            print_line(f"\nevery {every_s:g} s; Ctrl-C ends it")
            sys.stdout.flush()
            time.sleep(every_s)
    return code


def _once(settings: Settings, *, as_json: bool, count_all: bool, clear: bool) -> int:
    found, names = asyncio.run(_look(settings, count_all=count_all))
    breaches = judge(found, settings.status)
    remarked = list(remarks(found))
    if clear:
        sys.stdout.write(_HOME_AND_CLEAR)
    if as_json:
        print_json(report_of(found, breaches, remarked, names))
    else:
        print_status(found, breaches, remarked, names)
    return 1 if breaches or found.faults else 0


async def _look(settings: Settings, *, count_all: bool) -> tuple[Findings, Names]:
    found = await look(settings, datetime.now(UTC), count_all=count_all)
    return found, await read_names(settings.dsn("metadata")) if found.silent else Names()


@contextlib.contextmanager
def _ended_by_sigterm_too() -> Iterator[None]:
    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
