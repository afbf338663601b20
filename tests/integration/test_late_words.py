"""A word to stop that comes while dead letters are replayed or purged, or when the last of them is done."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg
import pytest

from ingest.operate import purge_letters as purging
from ingest.operate.letter_filter import LetterFilter
from ingest.operate.purge_letters import count_letters, purge_letters
from ingest.operate.replay_letters import replay_letters
from tests.batches import NOW_US
from tests.histories import fetch, register, settings_for
from tests.letters import letter, store
from tests.recordings import MAP_TOPIC

if TYPE_CHECKING:
    from collections.abc import Callable

    from ingest.operate.progress import Progress

LETTERS = 4


@pytest.fixture
async def dsn(plain_dsn: str) -> str:
    """A database with dead letters that a mended catalog has a place for."""
    await register(plain_dsn)
    connection = await asyncpg.connect(plain_dsn)
    try:
        left = [
            letter(
                {"SENSOR_01": 1},
                ("SENSOR_01", "unknown_sensor_type"),
                topic=MAP_TOPIC,
                receipt_us=NOW_US + number,
            )
            for number in range(LETTERS)
        ]
        await store(connection, *left)
    finally:
        await connection.close()
    return plain_dsn


def _after(count: int, stop: asyncio.Event) -> Callable[[Progress], None]:
    def on_progress(step: Progress) -> None:
        if step.done == count:
            stop.set()

    return on_progress


async def _status(dsn: str) -> str:
    (row,) = await fetch(dsn, "select status from metadata.bulk_operation_log")
    return str(row["status"])


@pytest.mark.parametrize("done", [2, LETTERS])
async def test_a_replay(dsn: str, done: int) -> None:
    stop = asyncio.Event()
    settings = settings_for(dsn, write={"max_batch_rows": 2})
    for dry_run in (True, False):
        stop.clear()
        report = await replay_letters(
            settings, LetterFilter(), dry_run=dry_run, stop=stop, on_progress=_after(done, stop)
        )
        assert (stop.is_set(), report.replayed.settled) == (True, done)
        assert (report.interrupted, report.clean) == (done < LETTERS, done == LETTERS)
    assert await _status(dsn) == ("CANCELLED" if done < LETTERS else "COMPLETED")


@pytest.mark.parametrize("done", [2, LETTERS])
async def test_a_purge(dsn: str, monkeypatch: pytest.MonkeyPatch, done: int) -> None:
    monkeypatch.setattr(purging, "BATCH_LETTERS", 2)
    stop = asyncio.Event()
    settings = settings_for(dsn)
    report = await count_letters(settings, LetterFilter())
    await purge_letters(settings, LetterFilter(), report, stop=stop, on_progress=_after(done, stop))
    assert (stop.is_set(), report.deleted, report.interrupted) == (True, done, done < LETTERS)
    assert await _status(dsn) == ("CANCELLED" if done < LETTERS else "COMPLETED")
