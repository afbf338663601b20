"""The pace of `normalize` and of replayed dead letters."""

from __future__ import annotations

import asyncio
import time

from ingest.operate.normalize_chunks import Pace


async def test_a_pace_is_kept_and_its_waiting_leaves_no_task_behind() -> None:
    pace = Pace(1_000, asyncio.Event())
    before, began_s = asyncio.all_tasks(), time.monotonic()
    for _ in range(3):
        await pace.after(10)
    assert time.monotonic() - began_s > 0.025
    assert asyncio.all_tasks() == before


async def test_a_wait_ends_when_it_is_to_stop() -> None:
    pace = Pace(1, asyncio.Event())
    waiting = asyncio.create_task(pace.after(1_000))
    await asyncio.sleep(0)
    pace.stop.set()
    async with asyncio.timeout(10):
        await waiting
