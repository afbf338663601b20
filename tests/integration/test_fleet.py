"""A fleet of publishing gateways against a real Mosquitto: in order, through outages, within its limits."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from ingest.addresses import broker_address
from ingest.errors import BrokerAway, BrokerRefused
from ingest.load.gateways import Fleet, gateway_of
from ingest.settings import BrokerSettings
from tests.mqtt_client import PATIENCE_S, VERSIONS, Client, Transport
from tests.proxy import Proxy
from tests.scripted_broker import ScriptedBroker
from tests.servers import Mosquitto, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from ingest.receive import MqttVersion
    from tests.certificates import Authority


class Published(NamedTuple):
    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    properties: Mapping[str, Any] | None = None


class Outcome:
    """What the fleet told."""

    def __init__(self) -> None:
        self.acknowledged: list[Published] = []
        self.gateways: set[int] = set()
        self.refused: list[tuple[Published, str]] = []
        self.troubles: list[str] = []
        self._moved = asyncio.Event()

    def fleet(
        self, url: str, gateways: int, *, window: int = 100, deadline_s: float = 20, **settings: object
    ) -> Fleet[Published]:
        given = {"reconnect_min_s": 0.05, "reconnect_max_s": 0.2, "connect_timeout_s": 5.0, **settings}
        return Fleet(
            broker_address(url),
            BrokerSettings.model_validate(given),
            [f"gateway-{number}" for number in range(gateways)],
            window=window,
            deadline_s=deadline_s,
            on_acknowledged=self._on_acknowledged,
            on_refused=lambda _, message, why: self.refused.append((message, why)),
            on_trouble=lambda _, error: self.troubles.append(str(error)),
        )

    def _on_acknowledged(self, gateway: int, message: Published, sent_us: int, acked_us: int) -> None:
        assert 0 <= acked_us - sent_us < 60_000_000
        self.gateways.add(gateway)
        self.acknowledged.append(message)
        self._moved.set()

    async def reaches(self, goal: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while len(self.acknowledged) < goal:
                self._moved.clear()
                await self._moved.wait()


def numbered(topic: str, topics: int, each: int, *, qos: int = 1) -> list[Published]:
    return [
        Published(f"{topic}/{place}", b"%d" % number, qos)
        for number in range(each)
        for place in range(topics)
    ]


async def publish_all(fleet: Fleet[Published], messages: Sequence[Published], gateways: int) -> None:
    for message in messages:
        await fleet.publish(gateway_of(message.topic, gateways), message)
    await fleet.drain()


def firsts(client: Client) -> dict[str, list[int]]:
    """What came by topic, each message where it came first."""
    found: dict[str, dict[int, None]] = defaultdict(dict)
    for delivery in client.deliveries:
        found[delivery.topic].setdefault(int(delivery.payload))
    return {topic: list(numbers) for topic, numbers in found.items()}


@pytest.mark.parametrize(
    ("transport", "version"), [("mqtt", "5"), ("mqtt", "3.1.1"), ("mqtts", "5"), ("wss", "5")]
)
async def test_each_topic_in_its_order_and_all_acknowledged(
    transport: Transport,
    version: MqttVersion,
    *,
    broker: Mosquitto,
    ports: dict[Transport, int],
    authority: Authority,
    client_of: Callable[..., Client],
    topic: str,
) -> None:
    certificate, key = authority.issue("gateway") if transport == "mqtts" else (None, None)
    tls: dict[str, Any] = {"ca_file": authority.certificate} if transport != "mqtt" else {}
    subscriber = client_of(broker.url)
    await subscriber.connect(f"{topic}/#")
    outcome, messages = Outcome(), numbered(topic, 30, 20)
    fleet = outcome.fleet(
        f"{transport}://127.0.0.1:{ports.get(transport, broker.port)}",
        10,
        protocol=version,
        cert_file=certificate,
        key_file=key,
        **tls,
    )
    async with fleet:
        assert fleet.connected == 10
        await publish_all(fleet, messages, 10)
    await subscriber.receive(len(messages))
    assert firsts(subscriber) == {f"{topic}/{place}": list(range(20)) for place in range(30)}
    assert len(subscriber.deliveries) == len(messages)
    assert not any(delivery.flags & 0x08 for delivery in subscriber.deliveries)
    assert Counter(outcome.acknowledged) == Counter(messages)
    assert outcome.gateways == {gateway_of(message.topic, 10) for message in messages}
    assert len(outcome.gateways) > 5
    assert (outcome.troubles, fleet.connections, fleet.in_flight) == ([], 10, 0)


@pytest.mark.parametrize("version", VERSIONS)
async def test_what_a_lost_connection_left_unacknowledged_is_published_again(
    version: MqttVersion, broker: Mosquitto, client_of: Callable[..., Client], topic: str
) -> None:
    subscriber = client_of(broker.url)
    await subscriber.connect(f"{topic}/#")
    outcome, messages = Outcome(), numbered(topic, 8, 400)
    async with Proxy(broker.port) as proxy:
        async with outcome.fleet(proxy.url(broker.url), 4, protocol=version) as fleet:
            publishing = asyncio.create_task(publish_all(fleet, messages, 4))
            for goal in (300, 1_500, 2_500):
                await outcome.reaches(goal)
                proxy.cut()
            await publishing
        assert fleet.connections > 4
    expected = {f"{topic}/{place}": list(range(400)) for place in range(8)}
    await subscriber.until(lambda: firsts(subscriber) == expected)
    assert Counter(outcome.acknowledged) == Counter(messages)
    assert outcome.refused == []


async def test_a_frozen_broker_holds_up_who_publishes(topic: str) -> None:
    outcome = Outcome()
    with Mosquitto(settings={"max_inflight_messages": 20}) as broker:
        async with outcome.fleet(broker.url, 2, window=50) as fleet:
            # The broker takes 20 at a time on a connection (its Receive Maximum), less than the window.
            await publish_all(fleet, numbered(topic, 2, 500), 2)
            assert (fleet.connections, outcome.troubles) == (2, [])
            assert fleet.unheard == 1_000
            broker.freeze()
            held = asyncio.create_task(publish_all(fleet, numbered(topic, 1, 100), 2))
            _, waiting = await asyncio.wait([held], timeout=0.3)
            assert (waiting, fleet.in_flight) == ({held}, 20)
            broker.thaw()
            await held
            assert len(outcome.acknowledged) == 1_100


async def test_a_broker_that_stays_away_ends_the_fleet(broker: Mosquitto, topic: str) -> None:
    outcome = Outcome()
    started_s = time.monotonic()
    with pytest.raises(BrokerAway, match="gateway 'gateway-0' had no connection to"):
        async with outcome.fleet(f"mqtt://127.0.0.1:{free_port()}", 1, deadline_s=0.5):
            raise AssertionError
    assert 0.5 <= time.monotonic() - started_s < 10
    assert len(outcome.troubles) > 1
    assert all("cannot connect to 127.0.0.1" in text for text in outcome.troubles)
    async with (
        Proxy(broker.port) as proxy,
        outcome.fleet(proxy.url(broker.url), 3, deadline_s=0.5) as fleet,
    ):
        await publish_all(fleet, numbered(topic, 6, 10), 3)
        proxy.refuse(refusing=True)
        with pytest.raises(BrokerAway):
            await publish_all(fleet, numbered(topic, 6, 1_000), 3)
    assert len(outcome.acknowledged) >= 60


async def test_a_refused_login_is_not_tried_for_long() -> None:
    async with ScriptedBroker(connack=b"\x20\x03\x00\x87\x00", mqtt5=True) as broker:
        started_s = time.monotonic()
        outcome = Outcome()
        with pytest.raises(BrokerRefused, match=r"Not authorized; see broker\.username"):
            async with outcome.fleet(broker.url, 3):
                raise AssertionError
        assert outcome.troubles == []  # nobody says that it is tried again
        assert time.monotonic() - started_s < 10


async def test_both_versions_are_tried_where_none_is_configured() -> None:
    outcome = Outcome()
    async with ScriptedBroker(connack=b"\x20\x02\x00\x01") as broker:  # 3.1.1: unacceptable version
        with pytest.raises(BrokerAway):
            async with outcome.fleet(broker.url, 2, deadline_s=0.5):
                raise AssertionError
    assert any("hung up before CONNACK" in text for text in outcome.troubles)
    assert any(  # the first that is refused has the other not try it any more
        "refused client 'gateway-" in text and ": Unsupported protocol version" in text
        for text in outcome.troubles
    )


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_message_that_the_broker_never_takes_is_named_and_passed_over(
    version: MqttVersion, topic: str, client_of: Callable[..., Client]
) -> None:
    outcome = Outcome()
    with Mosquitto(settings={"max_packet_size": 2_000}) as broker:
        subscriber = client_of(broker.url)
        await subscriber.connect(f"{topic}/#")
        async with outcome.fleet(broker.url, 1, protocol=version, deadline_s=20) as fleet:
            before, after = numbered(topic, 1, 30), numbered(f"{topic}/after", 1, 30)
            large = Published(f"{topic}/large", b"x" * 3_000)
            await publish_all(fleet, [*before, large, *after], 1)
        expected = {f"{topic}/0": list(range(30)), f"{topic}/after/0": list(range(30))}
        await subscriber.until(lambda: firsts(subscriber) == expected)
    ((refused, why),) = outcome.refused
    assert refused == large
    assert ("longer than the 2000 the broker takes" if version == "5" else "each of the 5 times") in why
    assert Counter(outcome.acknowledged) == Counter([*before, *after])


async def test_what_the_acl_refuses_is_told(tmp_path: Path, topic: str) -> None:
    rights = tmp_path / "rights.acl"
    rights.write_text(f"topic write {topic}/mine\n")
    outcome = Outcome()
    with Mosquitto(settings={"acl_file": str(rights)}) as broker:
        async with outcome.fleet(broker.url, 1) as fleet:
            await publish_all(
                fleet, [Published(f"{topic}/theirs", b"1"), Published(f"{topic}/mine", b"2")], 1
            )
    assert [(message.payload, why) for message, why in outcome.refused] == [
        (b"1", "the broker answered with reason code 0x87")
    ]
    assert [message.payload for message in outcome.acknowledged] == [b"2"]


async def test_at_qos_0_nothing_is_awaited(
    broker: Mosquitto, client_of: Callable[..., Client], topic: str
) -> None:
    subscriber = client_of(broker.url)
    await subscriber.connect(f"{topic}/#")
    outcome, messages = Outcome(), numbered(topic, 3, 300, qos=0)
    async with outcome.fleet(broker.url, 3) as fleet:
        await publish_all(fleet, messages, 3)
    await subscriber.receive(len(messages))
    assert firsts(subscriber) == {f"{topic}/{place}": list(range(300)) for place in range(3)}
    assert outcome.acknowledged == []
