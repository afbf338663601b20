"""A backfill over several connections: each is served at once, however few threads the event loop has."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from tests.histories import register, rows
from tests.recordings import Backfills, numbered, write

if TYPE_CHECKING:
    from pathlib import Path


async def test_no_connection_waits_for_a_thread_of_the_loop(plain_dsn: str, tmp_path: Path) -> None:
    """A machine with fewer cores than connections, as hard as can be: the loop's one thread is taken."""
    await register(plain_dsn)
    path = write(tmp_path / "a.jsonl.gz", numbered(400), block=50)
    loop = asyncio.get_running_loop()
    ended = threading.Event()
    with ThreadPoolExecutor(1) as only:
        loop.set_default_executor(only)
        loop.run_in_executor(None, ended.wait)
        backfilling = asyncio.create_task(Backfills(plain_dsn)(path, batch=50, connections=2))
        done, _ = await asyncio.wait([backfilling], timeout=60)
        ended.set()
        report = await backfilling
    assert done, "it waited for that thread"
    assert (report.failure, report.account.written) == (None, 400)
    assert len(await rows(plain_dsn)) == 400
