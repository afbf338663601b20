"""Waiting for what comes about on a server or in another process, and tells nobody."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PATIENCE_S = 60.0
POLL_S = 0.02


async def until(
    holds: Callable[[], bool | Awaitable[bool]],
    what: str = "what the test waits for",
    *,
    patience_s: float = PATIENCE_S,
) -> None:
    """Return once *holds* gives True; fail saying *what* did not come about."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + patience_s
    while True:
        held = holds()
        if held if isinstance(held, bool) else await held:
            return
        assert loop.time() < deadline_s, f"not within {patience_s:g} s: {what}"
        await asyncio.sleep(POLL_S)
