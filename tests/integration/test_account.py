"""The account of a replay, as far as it can be told without one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ingest.load import account
from ingest.load.account import Accountant
from ingest.load.pace import Pace
from ingest.load.recording import Recorded, Recording
from ingest.load.replay import Outgoing, Plan, Replay
from ingest.load.resume import Position, ResumePoint
from ingest.load.survey import survey
from tests.histories import register, settings_for
from tests.recordings import MAP_TOPIC

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


async def test_a_message_that_the_broker_refuses_is_watched_no_more(
    plain_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account, "_PROBES", 1)
    monkeypatch.setattr(account, "_PROBE_EVERY_S", 0)
    await register(plain_dsn)
    settings = settings_for(plain_dsn)
    path = tmp_path / "day.jsonl.gz"
    with Recording(path) as recording:
        recording.write(Recorded(1_000, MAP_TOPIC, b"{}"))
    plan = Plan([path], survey([path], Position()), Pace(), ["gateway-0"], "nowhere")
    async with Accountant(settings, patience_s=1) as accountant:
        replay = Replay(plan, settings, ResumePoint(), accountant)
        for number in range(3):
            payload = b'{"SENSOR_01": %d}' % number
            message = Outgoing(
                number, Position(), 1_000, MAP_TOPIC, payload, 1, retain=False, properties=None
            )
            await accountant.before(message)
            replay.on_refused(0, message, "not authorized")
        told = await accountant.settle(asyncio.Event(), lambda *_: None)
    assert (told.looked_for, told.messages, replay.tally.refused) == (3, 0, 3)
