"""The recorder's session at a real Mosquitto: lost PUBACKs, both protocols, what is granted and what not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from ingest.errors import BrokerRefused
from ingest.load.record import WHOLE_PACKET_BYTES, Recorder, Report
from ingest.load.rotation import Output
from ingest.settings import BrokerSettings, Settings
from tests.gateways import Message, publish
from tests.mqtt_client import messages
from tests.proxy import Proxy
from tests.servers import Mosquitto
from tests.unit.test_recording import read_all
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping
    from pathlib import Path

    from ingest.receive import MqttVersion

PATIENCE_S = 30.0


@pytest.fixture
def logged() -> Iterator[list[MutableMapping[str, Any]]]:
    with capture_logs() as lines:
        yield lines


class Recording:
    """A recorder in this process and its file."""

    def __init__(
        self,
        path: Path,
        url: str,
        topic: str,
        logged: list[MutableMapping[str, Any]],
        *,
        most_messages: int,
        version: MqttVersion = "5",
    ) -> None:
        broker = BrokerSettings(
            protocol=version, reconnect_min_s=0.05, reconnect_max_s=0.1, connect_timeout_s=5
        )
        self._path = path
        self._logged = logged
        self._recorder = Recorder(
            Settings(broker_url=url, broker=broker),
            Output(path, folder=False, about={}),
            client_id=f"recorder-{topic[-12:]}",
            topics=(topic,),
            most_messages=most_messages,
        )
        self._running = asyncio.create_task(self._recorder.run())

    async def connected(self, times: int = 1) -> None:
        """Wait until it has connected *times* times."""
        await until(lambda: len(self.connections()) >= times, f"{times} connections")

    def connections(self) -> list[MutableMapping[str, Any]]:
        return [each for each in self._logged if each["event"] == "broker_connected"]

    async def ended(self) -> Report:
        async with asyncio.timeout(PATIENCE_S):
            return await self._running

    def payloads(self) -> list[bytes]:
        return [each.payload for each in read_all(self._path)[0]]


async def test_what_the_broker_sends_again_is_recorded_once(
    broker: Mosquitto, topic: str, tmp_path: Path, logged: list[MutableMapping[str, Any]]
) -> None:
    async with Proxy(broker.port) as proxy:
        recording = Recording(
            tmp_path / "a.jsonl.gz", proxy.url(broker.url), topic, logged, most_messages=301
        )
        await recording.connected()
        proxy.set_trap(b"\x40\x02", "cut", forward=False)  # its first PUBACK
        await publish(broker.port, messages(topic, 300))
        await recording.connected(2)
        assert recording.connections()[1]["session_present"]
        await publish(broker.port, [Message(topic, b"300")])
        report = await recording.ended()
    assert recording.payloads() == [b"%d" % number for number in range(301)]
    assert 0 < report.skipped <= recording.connections()[1]["unproven"]


@pytest.mark.parametrize(("version", "before"), [("5", 3), ("3.1.1", 0)])
async def test_a_lost_connection_is_made_again(
    version: MqttVersion,
    before: int,
    *,
    broker: Mosquitto,
    topic: str,
    tmp_path: Path,
    logged: list[MutableMapping[str, Any]],
) -> None:
    async with Proxy(broker.port) as proxy:
        recording = Recording(
            tmp_path / "a.jsonl.gz",
            proxy.url(broker.url),
            topic,
            logged,
            most_messages=before + 3,
            version=version,
        )
        await recording.connected()
        await publish(broker.port, messages(topic, before))  # those on their way come again, with MQTT 5
        proxy.cut()
        await recording.connected(2)
        assert [each["session_present"] for each in recording.connections()] == [False, version == "5"]
        await publish(broker.port, messages(topic, 3))
        await recording.ended()
    assert recording.payloads() == [b"0", b"1", b"2"] * (2 if before else 1)


async def test_a_message_too_large_is_named_and_left_out(
    broker: Mosquitto, topic: str, tmp_path: Path, logged: list[MutableMapping[str, Any]]
) -> None:
    recording = Recording(tmp_path / "a.jsonl.gz", broker.url, topic, logged, most_messages=2)
    await recording.connected()
    large = Message(topic, b"x" * (WHOLE_PACKET_BYTES + 1))
    await publish(broker.port, [Message(topic, b"1"), large, Message(topic, b"2")])
    report = await recording.ended()
    assert (report.messages, report.too_large) == (2, 1)
    assert recording.payloads() == [b"1", b"2"]
    (told,) = [each for each in logged if each["event"] == "message_not_recorded"]
    assert (told["topic"], told["bytes"]) == (topic, len(large.payload))


async def test_a_weaker_subscription_is_named(
    topic: str, tmp_path: Path, logged: list[MutableMapping[str, Any]]
) -> None:
    with Mosquitto(settings={"max_qos": 0}) as weak:
        recording = Recording(
            tmp_path / "a.jsonl.gz", weak.url, topic, logged, most_messages=1, version="3.1.1"
        )
        await recording.connected()
        await publish(weak.port, [Message(topic, b"1", 0)])
        await recording.ended()
    assert [each["filters"] for each in logged if each["event"] == "subscription_weak"] == [[topic]]


async def test_a_refusal_at_the_beginning_ends_it(
    topic: str, tmp_path: Path, logged: list[MutableMapping[str, Any]]
) -> None:
    with Mosquitto(settings={"allow_anonymous": "false"}) as strict:
        recording = Recording(tmp_path / "a.jsonl.gz", strict.url, topic, logged, most_messages=1)
        with pytest.raises(BrokerRefused, match=r"refused client 'recorder-\w+': Not authorized"):
            await recording.ended()
