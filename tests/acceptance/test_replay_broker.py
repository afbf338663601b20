"""`ingest replay` and its broker: outages, damaged recordings, what it leaves out, and wrong calls."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ingest.load.recording import Recorded, Recording, read
from tests.acceptance.command_line import CommandLine, report
from tests.mqtt_client import Client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.servers import Mosquitto

PAGE = (Path(__file__).parents[2] / "docs" / "replay.md").read_text("utf-8")
RECORDED_US = 1_764_147_600_000_000
RETAINED = 5


@pytest.fixture
def ingest(tmp_path: Path, broker: Mosquitto) -> CommandLine:
    made = CommandLine(tmp_path)
    made.environment |= {"INGEST_BROKER_URL": broker.url, "INGEST_BROKER__RECONNECT_MIN_S": "0.05"}
    return made


@pytest.fixture
async def subscriber(broker: Mosquitto) -> AsyncIterator[Client]:
    client = Client(broker.url, "5", {})
    await client.connect("GREENHOUSE/#")
    yield client
    client.session.abort()


def numbers(client: Client) -> list[int]:
    return [json.loads(delivery.payload)["SENSOR_01"] for delivery in client.deliveries]


async def retained_by(broker: Mosquitto) -> list[int]:
    late = Client(broker.url, "3.1.1", {})  # at its subscription it is sent what is retained
    await late.connect("GREENHOUSE/#")
    await late.acknowledge_all()
    late.session.abort()
    return numbers(late)


def recorded(path: Path, count: int, *, named: bool = False) -> Path:
    """Record *count* messages of ten gateways, twenty a block; with one retained, and one at QoS 0."""
    with Recording(path, block_messages=20) as recording:
        for number in range(count):
            recording.write(
                Recorded(
                    RECORDED_US + number * 1_000,
                    f"GREENHOUSE/T{number % 10}",
                    json.dumps({"SENSOR_01": number}).encode(),
                    qos=0 if number == 1 else 1,
                    retain=number == RETAINED,
                    client_id=f"gateway-{number % 10}" if named else None,
                )
            )
    return path


async def test_a_broker_that_goes_away_is_named_with_the_resume_point(
    broker: Mosquitto, ingest: CommandLine, tmp_path: Path
) -> None:
    path = recorded(tmp_path / "day.jsonl.gz", 400)
    subscriber = Client(broker.url, "5", {})
    await subscriber.connect("GREENHOUSE/#")
    replaying = ingest.start("replay", str(path), "--rate", "100", "--deadline", "0.5")
    await subscriber.receive(100)
    broker.stop()
    _, err = await asyncio.to_thread(replaying.communicate)
    said = err.decode()
    assert replaying.returncode == 1, said
    assert "trying again" in said
    assert "had no connection to 127.0.0.1" in said
    assert f"run it again with --resume to go on at {path}, block at " in said
    broker.start()
    subscriber = Client(broker.url, "5", {})
    await subscriber.connect("GREENHOUSE/#")
    done = await asyncio.to_thread(lambda: ingest("replay", str(path), "--resume", "--fast", "--json"))
    second = report(done)
    assert (done.returncode, second["finished"]) == (0, True)
    # Nothing that was acknowledged is published again, and nothing that was not is left out.
    assert second["done_before"] >= 100
    await subscriber.receive(400 - second["done_before"])
    assert sorted(numbers(subscriber)) == list(range(second["done_before"], 400))
    subscriber.session.abort()


async def test_what_is_damaged_is_left_out_and_named(
    broker: Mosquitto, subscriber: Client, ingest: CommandLine, tmp_path: Path
) -> None:
    path = recorded(tmp_path / "day.jsonl.gz", 100, named=True)
    blocks = [block for block in read(path) if hasattr(block, "messages")]
    data = bytearray(path.read_bytes())
    data[blocks[2].offset + 30] ^= 0xFF
    path.write_bytes(data[: blocks[-1].offset + 10])
    done = await asyncio.to_thread(lambda: ingest("replay", str(path), "--fast"))
    assert done.returncode == 1
    assert f"{path}: {blocks[2].length} bytes at offset {blocks[2].offset}: " in done.stderr
    assert f"{path}: 10 bytes at offset {blocks[-1].offset}: " in done.stderr
    assert "58 messages acknowledged\n" in done.stdout
    assert re.search(r"^from PUBLISH to PUBACK: p50 [0-9.]+ ms, p99 [0-9.]+ ms$", done.stdout, re.MULTILINE)
    assert "1 messages sent at QoS 0" in done.stdout
    assert "by 10 gateways" in done.stdout
    assert "2 damaged places" in done.stdout
    assert "1 messages left out, for they were recorded as retained" in done.stdout
    await subscriber.receive(59)
    left = [*range(20), *range(40, 80)]
    assert sorted(numbers(subscriber)) == [number for number in left if number != RETAINED]
    assert await retained_by(broker) == []


async def test_retained_messages_are_published_as_such_when_asked_for(
    broker: Mosquitto, ingest: CommandLine, tmp_path: Path
) -> None:
    path = recorded(tmp_path / "day.jsonl.gz", 10)
    assert ingest("replay", str(path), "--fast", "--retained").returncode == 0
    assert await retained_by(broker) == [RETAINED]


async def test_again_and_again_until_ctrl_c(subscriber: Client, ingest: CommandLine, tmp_path: Path) -> None:
    path = recorded(tmp_path / "day.jsonl.gz", 50)
    replaying = ingest.start("replay", str(path), "--loop", "--rate", "500", "--json", stdout=-1)
    await subscriber.receive(150)
    replaying.send_signal(signal.SIGINT)
    out, err = await asyncio.to_thread(replaying.communicate)
    assert replaying.returncode == 0, err
    said = json.loads(out)
    (names,) = re.findall(r"(?m)^`--json` prints one object: (.+)$", PAGE)
    assert {*re.findall(r"`(\w+)`", names)} == {*said} | {"null"}
    assert said["round"] >= 4
    assert numbers(subscriber)[49:98] == numbers(subscriber)[:49]


async def test_stopped_by_ctrl_c_it_goes_on_where_it_was(
    subscriber: Client, ingest: CommandLine, tmp_path: Path
) -> None:
    path = recorded(tmp_path / "day.jsonl.gz", 200)
    replaying = ingest.start("replay", str(path), "--rate", "200", stdout=-1)
    await subscriber.receive(60)
    replaying.send_signal(signal.SIGTERM)
    _, err = await asyncio.to_thread(replaying.communicate)
    assert replaying.returncode == 130
    assert b"run it again with --resume to go on at" in err
    done = await asyncio.to_thread(lambda: ingest("replay", str(path), "--resume", "--fast"))
    assert done.returncode == 0
    await subscriber.receive(199)
    assert sorted(numbers(subscriber)) == [number for number in range(200) if number != RETAINED]
    assert len(subscriber.deliveries) == 199
