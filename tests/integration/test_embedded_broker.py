"""The embedded broker seen through paho: what the delivery contract needs of a broker, and its limits."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import signal
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from paho.mqtt.client import Client, ConnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from ingest.embedded import EmbeddedBroker
from ingest.errors import EmbeddedError
from tests.servers import listening_addresses

if TYPE_CHECKING:
    from collections.abc import Iterator

    from paho.mqtt.reasoncodes import ReasonCode

PATIENCE_S = 20.0


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        yield running


@pytest.fixture(params=["3.1.1", "5"])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Peer:
    """A paho client that acknowledges only when told to."""

    def __init__(self, broker: EmbeddedBroker, version: str, client_id: str) -> None:
        five = version == "5"
        self.messages: queue.Queue[MQTTMessage] = queue.Queue()
        self._connected: queue.Queue[bool] = queue.Queue()
        self._granted: queue.Queue[list[ReasonCode]] = queue.Queue()
        self.client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=None if five else False,
            protocol=MQTTProtocolVersion.MQTTv5 if five else MQTTProtocolVersion.MQTTv311,
            manual_ack=True,
        )
        self.client.max_queued_messages_set(0)
        self.client.on_message = lambda _, __, message: self.messages.put(message)
        self.client.on_connect = self._on_connect
        self.client.on_subscribe = lambda _, __, ___, codes, ____: self._granted.put(codes)
        port = urlsplit(broker.url_v5 if five else broker.url).port
        assert port is not None
        if five:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = 3600
            properties.ReceiveMaximum = 1000
            self.client.connect("127.0.0.1", port, clean_start=False, properties=properties)
        else:
            self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        self.session_present = self._connected.get(timeout=PATIENCE_S)

    def _on_connect(self, _: Client, __: object, flags: ConnectFlags, ___: ReasonCode, ____: object) -> None:
        self._connected.put(flags.session_present)

    def subscribe(self, topic_filter: str) -> list[int]:
        for _ in range(4):  # rumqttd on busy cores now and then overlooks the packet behind CONNECT
            self.client.subscribe(topic_filter, qos=1)
            with contextlib.suppress(queue.Empty):
                return [code.value for code in self._granted.get(timeout=PATIENCE_S / 4)]
        raise AssertionError(f"no SUBACK for {topic_filter}")

    def publish(self, topic: str, payloads: list[bytes]) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not self.client.is_connected():  # rumqttd now and then drops one as another comes; paho returns
            assert time.monotonic() < deadline_s, "the connection did not come back"
            time.sleep(0.01)
        sent = [self.client.publish(topic, payload, qos=1) for payload in payloads]
        for one in sent:
            one.wait_for_publish(PATIENCE_S)
            assert one.is_published(), f"no PUBACK for a message on {topic}"

    def take(self, count: int) -> list[MQTTMessage]:
        return [self.messages.get(timeout=PATIENCE_S) for _ in range(count)]

    def acknowledge(self, messages: list[MQTTMessage]) -> None:
        for message in messages:
            self.client.ack(message.mid, message.qos)

    def cut(self) -> None:
        """Lose the connection as a network does: no DISCONNECT."""
        self.client.loop_stop()
        connection = self.client.socket()
        assert connection is not None
        connection.close()


@contextmanager
def connected(broker: EmbeddedBroker, version: str, client_id: str | None = None) -> Iterator[Peer]:
    peer = Peer(broker, version, client_id or uuid4().hex)
    try:
        yield peer
    finally:
        peer.client.disconnect()
        peer.client.loop_stop()


def payloads_of(messages: list[MQTTMessage]) -> list[bytes]:
    return [bytes(message.payload) for message in messages]


def numbered(first: int, end: int) -> list[bytes]:
    return [b"%d" % number for number in range(first, end)]


def test_quality_of_service_1_with_wildcards_in_order(broker: EmbeddedBroker, version: str) -> None:
    root = uuid4().hex
    with connected(broker, version) as subscriber, connected(broker, version) as publisher:
        assert subscriber.subscribe(f"{root}/+/data") == [1]
        assert subscriber.subscribe(f"{root}/all/#") == [1]
        publisher.publish(f"{root}/one/data", numbered(0, 50))
        messages = subscriber.take(50)
        assert payloads_of(messages) == numbered(0, 50)
        assert {message.qos for message in messages} == {1}
        subscriber.acknowledge(messages)
        publisher.publish(f"{root}/all/a/b", [b"deep"])
        assert payloads_of(subscriber.take(1)) == [b"deep"]


def test_messages_cross_from_one_protocol_version_to_the_other(broker: EmbeddedBroker) -> None:
    topic = uuid4().hex
    with connected(broker, "5") as subscriber, connected(broker, "3.1.1") as publisher:
        subscriber.subscribe(topic)
        publisher.publish(topic, [b"over"])
        assert payloads_of(subscriber.take(1)) == [b"over"]


def test_a_session_gets_again_what_it_did_not_acknowledge_and_what_it_missed(
    broker: EmbeddedBroker, version: str
) -> None:
    topic, client_id = uuid4().hex, uuid4().hex
    with connected(broker, version) as publisher:
        first = Peer(broker, version, client_id)
        assert not first.session_present
        first.subscribe(topic)
        publisher.publish(topic, numbered(0, 10))
        first.acknowledge(first.take(10)[:4])
        publisher.publish(
            topic, [b"settled"]
        )  # a message later, the broker has read the PUBACKs before the cut
        first.take(1)
        first.cut()
        publisher.publish(topic, numbered(10, 15))
        with connected(broker, version, client_id) as second:
            assert second.session_present
            messages = second.take(12)
            assert payloads_of(messages) == [*numbered(4, 10), b"settled", *numbered(10, 15)]
            assert not any(message.dup for message in messages)  # redelivered as new: said in the README
            second.acknowledge(messages)
        with connected(broker, version, client_id) as third:
            publisher.publish(topic, [b"next"])
            assert payloads_of(third.take(1)) == [b"next"]


def test_a_subscriber_that_withholds_acknowledgements_stops_the_flow_and_loses_nothing(
    broker: EmbeddedBroker, version: str
) -> None:
    topic = uuid4().hex
    with connected(broker, version) as subscriber, connected(broker, version) as publisher:
        subscriber.subscribe(topic)
        publisher.publish(topic, numbered(0, 5000))
        window = subscriber.take(100)
        with pytest.raises(queue.Empty):
            subscriber.messages.get(timeout=0.3)
        received = payloads_of(window)
        while len(received) < 5000:
            subscriber.acknowledge(window)
            window = subscriber.take(1)
            received += payloads_of(window)
        assert received == numbered(0, 5000)


def test_a_payload_of_a_mebibyte_arrives_whole(broker: EmbeddedBroker, version: str) -> None:
    topic, payload = uuid4().hex, os.urandom(1024 * 1024)
    with connected(broker, version) as subscriber, connected(broker, version) as publisher:
        subscriber.subscribe(topic)
        publisher.publish(topic, [payload])
        assert payloads_of(subscriber.take(1)) == [payload]


def test_it_listens_on_the_loopback_interface_only(broker: EmbeddedBroker) -> None:
    ports = [urlsplit(url).port or 0 for url in (broker.url, broker.url_v5)]
    assert listening_addresses(broker.pid) == {f"0100007F:{port:04X}" for port in ports}


async def test_without_its_wheel_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "iotcore", None)  # as where the extra is not installed
    with pytest.raises(EmbeddedError, match=r"iotcore, .*: pip install 'greenhouse-ingest\[embedded\]'$"):
        await EmbeddedBroker().start()


async def test_a_port_in_use_is_named(broker: EmbeddedBroker) -> None:
    port = urlsplit(broker.url).port or 0
    with pytest.raises(EmbeddedError, match=f"cannot listen on 127.0.0.1:{port}"):
        await EmbeddedBroker(port=port).start()


async def test_its_end_is_noticed_and_stopping_is_no_error() -> None:
    async with EmbeddedBroker() as killed:
        os.kill(killed.pid, signal.SIGKILL)
        with pytest.raises(EmbeddedError, match="the embedded broker ended by itself with exit code -9"):
            await killed.wait_closed()
    async with EmbeddedBroker() as stopped:
        closed = asyncio.create_task(stopped.wait_closed())
        await asyncio.sleep(0)
        began = time.monotonic()
        await stopped.stop()
        await closed
        assert time.monotonic() - began < 5
    with pytest.raises(EmbeddedError, match="not running"):
        _ = stopped.url
