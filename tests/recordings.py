"""Recordings for the tests of a backfill: messages of the tenant in tests/histories.py."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ingest.load.direct import DirectReport, backfill
from ingest.load.direct_point import DirectPoint
from ingest.load.direct_rejects import rejects_from
from ingest.load.recording import Block, Recorded, Recording, read
from tests.histories import settings_for

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from ingest.operate.progress import Progress

START_US = 1_720_000_800_000_000
"""2024-07-03T10:00:00Z, longer ago than decode.max_age_s."""
MAP_TOPIC = "GREENHOUSE/HISTORY/01"
READING_TOPIC = "greenhouse/11111111-1111-4111-8111-111111111111/sensors/sensor"


def recorded(payload: object, at: int = 0, topic: str = MAP_TOPIC, *, retain: bool = False) -> Recorded:
    """Make a message that came *at* so many µs after the start."""
    text = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return Recorded(START_US + at, topic, text, retain=retain)


def numbered(count: int) -> list[Recorded]:
    """Make flat maps and readings without a time, each of its own value."""
    return [
        recorded({"SENSOR_01": number}, number) if number % 2 else recorded(number, number, READING_TOPIC)
        for number in range(count)
    ]


def write(path: Path, messages: Iterable[Recorded], *, block: int = 1000) -> Path:
    with Recording(path, block_messages=block) as recording:
        for message in messages:
            recording.write(message)
    return path


def messages_in(path: Path) -> list[Recorded]:
    found: list[Recorded] = []
    for block in read(path):
        assert isinstance(block, Block), block
        found += block.messages
    return found


class Backfills:
    """Backfills into one database, each going on at the point of the one before if it is asked to."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.point = DirectPoint()
        self.points: list[DirectPoint] = []
        self.retried: list[str] = []

    async def __call__(
        self,
        *files: Path,
        connections: int = 1,
        resume: bool = False,
        rejected: Path | None = None,
        batch: int = 20_000,
        stop: asyncio.Event | None = None,
        on_progress: Callable[[Progress], None] = lambda _: None,
    ) -> DirectReport:
        point = self.point if resume else DirectPoint()
        rejects, point = rejects_from(rejected, point)
        report = await backfill(
            settings_for(self.dsn, write={"max_batch_rows": batch}),
            files,
            connections=connections,
            point=point,
            keep_point=self.keep,
            rejects=rejects,
            stop=stop,
            on_progress=on_progress,
            on_retry=lambda fault, _: self.retried.append(str(fault)),
        )
        if rejects is not None:
            rejects.close()
        return report

    def keep(self, point: DirectPoint) -> None:
        self.point = point
        self.points.append(point)
