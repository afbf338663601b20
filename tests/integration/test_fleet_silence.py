"""A fleet whose broker is there and acknowledges nothing: the deadline ends it, and a stop is heard."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from ingest.addresses import broker_address
from ingest.errors import BrokerAway
from ingest.load.gateways import Fleet
from ingest.load.pace import Pace
from ingest.load.recording import Recorded, Recording
from ingest.load.replay import Outgoing, Plan, Replay
from ingest.load.resume import Position, ResumePoint
from ingest.load.survey import survey
from ingest.settings import BrokerSettings, Settings
from tests.scripted_broker import ScriptedBroker
from tests.servers import free_port
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

WINDOW = 10
SOON_S = 20.0
"""Far less than the deadline of those who are not to reach it."""


@pytest.fixture
async def silent() -> AsyncIterator[ScriptedBroker]:
    """A broker that answers CONNECT and PINGREQ, and never a PUBLISH."""
    async with ScriptedBroker(mqtt5=True) as broker:
        yield broker


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    monkeypatch.setattr("ingest.load.gateways._AFTER_STOP_S", 0.2)
    return asyncio.Event()


def fleet_to(url: str, *, deadline_s: float, stop: asyncio.Event | None = None) -> Fleet[Outgoing]:
    settings = BrokerSettings(reconnect_min_s=0.05)
    return Fleet(
        broker_address(url), settings, ["gateway-0"], window=WINDOW, deadline_s=deadline_s, stop=stop
    )


def replayed(path: Path, count: int, qos: int = 1, payload: bytes = b"1") -> Replay:
    """Prepare to replay *count* messages, five a block."""
    with Recording(path, block_messages=5) as recording:
        for number in range(count):
            recording.write(Recorded(1_000 + number, "GREENHOUSE/T1", payload, qos=qos))
    plan = Plan([path], survey([path], Position()), Pace(), ["gateway-0"], "nowhere")
    return Replay(plan, Settings(), ResumePoint())


@pytest.mark.parametrize("count", [1, WINDOW + 1])
async def test_a_broker_that_acknowledges_nothing_has_until_the_deadline(
    silent: ScriptedBroker, tmp_path: Path, count: int
) -> None:
    replay = replayed(tmp_path / "day.jsonl.gz", count)
    began_s = time.monotonic()
    with pytest.raises(BrokerAway, match=rf"has acknowledged none of {min(count, WINDOW)} messages for "):
        async with fleet_to(silent.url, deadline_s=0.5) as fleet, asyncio.timeout(SOON_S):
            await replay.run(fleet, asyncio.Event(), lambda _: None)
    assert time.monotonic() - began_s >= 0.5
    assert replay.point.position.done == 0
    assert not replay.finished


@pytest.mark.parametrize("count", [WINDOW - 1, WINDOW + 1])
async def test_a_stop_is_heard_while_a_replay_waits_for_pubacks(
    silent: ScriptedBroker, stop: asyncio.Event, tmp_path: Path, count: int
) -> None:
    replay = replayed(tmp_path / "day.jsonl.gz", count)
    async with fleet_to(silent.url, deadline_s=600, stop=stop) as fleet, asyncio.timeout(SOON_S):
        running = asyncio.create_task(replay.run(fleet, stop, lambda _: None))
        await until(lambda: replay.tally.published == min(count, WINDOW))
        await asyncio.sleep(0.05)  # it waits by now, for room or for the last PUBACKs
        assert not running.done()
        stop.set()
        await running
    assert (replay.tally.published, replay.tally.acknowledged) == (min(count, WINDOW), 0)
    assert (replay.finished, replay.point.position.done) == (False, 0)


async def test_a_stop_is_heard_while_too_much_is_in_flight_in_all(
    silent: ScriptedBroker, stop: asyncio.Event, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.load.gateways._MOST_IN_FLIGHT", 5)
    replay = replayed(tmp_path / "day.jsonl.gz", WINDOW)
    async with fleet_to(silent.url, deadline_s=600, stop=stop) as fleet, asyncio.timeout(SOON_S):
        running = asyncio.create_task(replay.run(fleet, stop, lambda _: None))
        await until(lambda: replay.tally.published == 5)
        await asyncio.sleep(0.05)  # it waits by now, for something to leave the flight
        assert not running.done()
        stop.set()
        await running
    assert (replay.tally.published, replay.point.position.done) == (5, 0)


async def test_a_stop_is_heard_while_nobody_reads_what_is_published(
    stop: asyncio.Event, tmp_path: Path
) -> None:
    replay = replayed(tmp_path / "day.jsonl.gz", 100, qos=0, payload=b"1" * 200_000)
    async with (
        ScriptedBroker(mqtt5=True, reading=False) as broker,
        asyncio.timeout(SOON_S),
        fleet_to(broker.url, deadline_s=600, stop=stop) as fleet,
    ):
        running = asyncio.create_task(replay.run(fleet, stop, lambda _: None))
        before = -1
        while before != replay.tally.published or not before:  # until the network takes no more
            before = replay.tally.published
            await asyncio.sleep(0.1)
        stop.set()
        await running
    assert 0 < replay.tally.sent == replay.tally.published < 100
    assert not replay.finished
    assert replay.tally.seconds < 5


async def test_a_stop_is_heard_while_it_connects(stop: asyncio.Event) -> None:
    asyncio.get_running_loop().call_later(0.1, stop.set)
    async with asyncio.timeout(SOON_S):
        async with fleet_to(f"mqtt://127.0.0.1:{free_port()}", deadline_s=600, stop=stop) as fleet:
            message = Outgoing(1, Position(), 1_000, "t", b"", 1, retain=False, properties=None)
            assert await fleet.publish(0, message) is False
            await fleet.drain()
    assert fleet.connections == 0
