"""What a resumed session brings again is told from what is new by its order, and nothing dies unheard."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from ingest.load import record
from ingest.load.record import Recorder, Report
from ingest.load.rotation import Output
from ingest.settings import BrokerSettings, Settings
from tests import mqtt_packets
from tests.gateways import Message, publish
from tests.scripted_broker import ScriptedBroker
from tests.unit.test_recording import read_all
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from pathlib import Path

    from tests.servers import Mosquitto

TOPIC = "greenhouse/A1/sensors/temperature"
RESUMED = b"\x20\x03\x01\x00\x00"
DUP = 0x08


def sent(packet_id: int, payload: bytes, *, again: bool = False) -> bytes:
    packet = mqtt_packets.publish(TOPIC, payload, qos=1, packet_id=packet_id, mqtt5=True)
    return bytes([packet[0] | (DUP if again else 0)]) + packet[1:]


def recorder(url: str, path: Path, *, most_messages: int | None = None) -> Recorder:
    broker = BrokerSettings(protocol="5", reconnect_min_s=0.05, reconnect_max_s=0.1, connect_timeout_s=5)
    return Recorder(
        Settings(broker_url=url, broker=broker),
        Output(path, folder=False, about={}),
        client_id="recorder-of-redelivery",
        topics=(TOPIC,),
        most_messages=most_messages,
    )


async def recorded(path: Path, resumed: list[bytes], *, most_messages: int) -> tuple[list[bytes], Report]:
    """Give what is recorded when three messages came, unproven, and on the next connection *resumed*."""
    before = b"".join(sent(number, b"%d" % number) for number in (1, 2, 3))
    async with ScriptedBroker(
        mqtt5=True, after=before, reading=False, resumed=RESUMED + b"".join(resumed)
    ) as broker:
        recording = recorder(broker.url, path, most_messages=most_messages)
        running = asyncio.create_task(recording.run())
        await until(lambda: recording.taken == 3, "three messages")
        broker.cut()
        async with asyncio.timeout(20):
            report = await running
    return [each.payload for each in read_all(path)[0]], report


async def test_the_last_of_what_is_recorded_is_recorded_once(tmp_path: Path) -> None:
    resumed = [sent(2, b"2", again=True), sent(3, b"3", again=True), sent(4, b"4", again=True)]
    payloads, report = await recorded(tmp_path / "a.jsonl.gz", resumed, most_messages=4)
    assert payloads == [b"1", b"2", b"3", b"4"]
    assert report.skipped == 2


@pytest.mark.parametrize("behind", [[sent(9, b"9", again=True)], [sent(9, b"9")], []])
async def test_a_packet_id_used_again_for_an_equal_payload_is_a_message(
    tmp_path: Path, behind: list[bytes]
) -> None:
    """What follows is not what followed the one that is recorded, and no more comes in place of that."""
    resumed = [sent(2, b"2", again=True), *behind]
    payloads, report = await recorded(tmp_path / "a.jsonl.gz", resumed, most_messages=4 + len(behind))
    assert payloads == [b"1", b"2", b"3", b"2", *[b"9"] * len(behind)]
    assert report.skipped == 0


async def test_what_dies_of_a_fault_is_no_signal(
    broker: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here what tells how far it is: the log fails."""

    def failing(_: object, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if line["event"] == "recording_progress":
            raise ValueError("the log is full")
        raise structlog.DropEvent

    monkeypatch.setattr(record, "_PROGRESS_S", 0.05)
    before = structlog.get_config()["processors"]
    structlog.configure(processors=[failing])
    path = tmp_path / "a.jsonl.gz"
    try:
        recording = recorder(broker.url, path)
        running = asyncio.create_task(recording.run())
        while not running.done():  # until it is subscribed, and one gets there
            await publish(broker.port, [Message(TOPIC, b"1")])
            await asyncio.sleep(0.05)
        with pytest.raises(ValueError, match="the log is full"):
            await running
    finally:
        structlog.configure(processors=before)
    assert read_all(path)[0], "what came until then is in the file"
