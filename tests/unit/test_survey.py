"""Recordings read through before a replay: what is noted, where it stops; a round that publishes nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from ingest.addresses import broker_address
from ingest.errors import RecordingError
from ingest.load.gateways import Fleet
from ingest.load.pace import Pace
from ingest.load.recording import Recorded, Recording
from ingest.load.replay import Outgoing, Plan, Replay
from ingest.load.resume import Position, ResumePoint
from ingest.load.survey import survey
from ingest.settings import BrokerSettings, Settings

if TYPE_CHECKING:
    from pathlib import Path


def recorded(path: Path, count: int, *, named: bool = False, retain: bool = False) -> Path:
    with Recording(path, block_messages=100) as recording:
        for number in range(count):
            client_id = f"gateway-{number}" if named else None
            recording.write(Recorded(1_000 + number, "t", b"", retain=retain, client_id=client_id))
    return path


def test_it_notes_when_each_file_began_and_stops_when_told(tmp_path: Path) -> None:
    files = [
        recorded(tmp_path / "a", 500),
        recorded(tmp_path / "b", 0),
        recorded(tmp_path / "c", 500),
    ]
    heard: list[int] = []

    def on_block(messages: int) -> None:
        heard.append(messages)
        if messages == 300:
            raise InterruptedError

    assert survey(files, Position()).began_us == [1_000, 0, 1_000]
    with pytest.raises(InterruptedError):
        survey(files, Position(), on_block)
    assert heard == [0, 0, 100, 200, 300]


def test_a_recording_may_not_name_a_client_a_line(tmp_path: Path) -> None:
    files = [recorded(tmp_path / "a", 10_100, named=True)]
    with pytest.raises(RecordingError, match="names more than 10000 clients"):
        survey(files, Position())


async def test_rounds_that_publish_nothing_hear_a_stop(tmp_path: Path) -> None:
    files = [recorded(tmp_path / "a", 300, retain=True)]
    stop = asyncio.Event()
    plan = Plan(files, survey(files, Position()), Pace(), [], "nowhere", loop=True)
    replay = Replay(plan, Settings(), ResumePoint())
    fleet: Fleet[Outgoing] = Fleet(broker_address("mqtt://127.0.0.1:9"), BrokerSettings(), [], stop=stop)
    async with fleet:
        asyncio.get_running_loop().call_later(0.05, stop.set)
        async with asyncio.timeout(20):
            await replay.run(fleet, stop, lambda _: None)
    assert replay.tally.passed_over > 300
    assert replay.tally.published == 0
