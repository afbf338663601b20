"""Ends a process whose event loop stands still, so that its supervisor starts it again.

A message that keeps the decoder in a loop lets nothing else run, no signal handler and no /healthz either.
faulthandler's own thread waits beside the interpreter, in C, and needs none of its locks. Runs as a task of
the worker for as long as the worker works.
"""

from __future__ import annotations

import asyncio
import faulthandler
from typing import Final

_STDERR: Final = 2
_TURNS: Final = 4
"""How often in the time allowed a loop that runs says so."""


async def watch(hang_s: float) -> None:
    """Until cancelled: exit 1, the stack of each thread on stderr, once the loop stood still for *hang_s*."""
    try:
        while True:
            faulthandler.dump_traceback_later(hang_s, exit=True, file=_STDERR)
            await asyncio.sleep(hang_s / _TURNS)
    finally:
        faulthandler.cancel_dump_traceback_later()
