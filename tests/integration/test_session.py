"""One MQTT connection against a real Mosquitto, and against brokers that misbehave.

Over tcp, TLS, mutual TLS and WebSocket, MQTT 5 and 3.1.1: connect, subscribe, receive, acknowledge, prove,
leave, resume; and every way a broker can say no or go away.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from ingest.errors import BrokerRefused
from ingest.receive import ConnectionLost, HungUp, MqttVersion, ProtocolUnsupported
from ingest.settings import BrokerSettings
from tests.gateways import Message, publish
from tests.scripted_broker import ScriptedBroker
from tests.servers import Mosquitto, free_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.certificates import Authority

from tests.mqtt_client import VERSIONS, Client, Transport, messages

DEFAULT_PATIENCE_S = BrokerSettings().connect_timeout_s

# the ways in


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("transport", ["mqtt", "mqtts", "ws", "wss"])
async def test_receive_acknowledge_leave_resume(
    transport: Transport,
    version: MqttVersion,
    *,
    broker: Mosquitto,
    ports: dict[Transport, int],
    authority: Authority,
    client_of: Callable[..., Client],
    topic: str,
) -> None:
    url = f"{transport}://127.0.0.1:{ports.get(transport, broker.port)}"
    certificate, key = authority.issue("worker") if transport == "mqtts" else (None, None)
    tls = {"ca_file": authority.certificate} if transport in {"mqtts", "wss"} else {}
    settings = {"cert_file": certificate, "key_file": key, **tls}
    client = client_of(url, version, **settings)
    opened = await client.connect(f"{topic}/#")
    assert not opened.session_present
    await publish(broker.port, messages(f"{topic}/é", 2_000))
    received = await client.receive(2_000)
    assert [each.payload for each in received] == [b"%d" % number for number in range(2_000)]
    assert {each.topic for each in received} == {f"{topic}/é"}
    assert len({each.packet_id for each in received}) == 2_000
    client.deliveries, later = received[:1_500], received[1_500:]
    await client.acknowledge_all()
    await client.session.close(2.0)
    assert await client.session.closed is None
    await publish(broker.port, messages(f"{topic}/offline", 3))
    again = client_of(url, version, client_id=client.settings.client_id, **settings)
    assert (await again.connect()).session_present
    redelivered = await again.receive(503)
    assert [each.packet_id for each in redelivered[:500]] == [each.packet_id for each in later]
    assert all(each.flags & 0x08 for each in redelivered[:500])
    assert not any(each.flags & 0x08 for each in redelivered[500:])


@pytest.mark.parametrize(
    ("transport", "size"),
    [
        *(("mqtts", size) for size in (0, 100, 20_000, 250_000, 1_000_000)),
        *(("ws", size) for size in (0, 1, 100, 126, 4_000)),  # Mosquitto 2.0.11 sends 4 KiB in 100 ms here
        *(("wss", size) for size in (0, 1, 100, 126, 4_000)),
    ],
)
async def test_any_payload_size_arrives_whole(
    transport: Transport,
    size: int,
    *,
    broker: Mosquitto,
    ports: dict[Transport, int],
    authority: Authority,
    client_of: Callable[..., Client],
    topic: str,
) -> None:
    certificate, key = authority.issue("worker")
    client = client_of(
        f"{transport}://127.0.0.1:{ports[transport]}",
        ca_file=authority.certificate,
        cert_file=certificate,
        key_file=key,
    )
    await client.connect(topic)
    payloads = [bytes([number]) * size for number in range(5)]
    await publish(broker.port, [Message(topic, payload) for payload in payloads])
    assert [each.payload for each in await client.receive(5)] == payloads


async def test_quality_of_service_and_retain_are_told(
    broker: Mosquitto, client_of: Callable[..., Client], topic: str
) -> None:
    await publish(broker.port, [Message(topic, b"old", retain=True)])
    older = client_of(broker.url, "3.1.1")
    await older.connect(topic)
    assert (await older.receive(1))[0].flags & 0x01
    client = client_of(broker.url, "5")
    await client.connect(topic)
    await publish(broker.port, [Message(topic, b"a", 0), Message(topic, b"b", 1)])
    received = await client.receive(2)
    assert [(each.payload, each.flags & 0x06, each.packet_id > 0) for each in received] == [
        (b"a", 0, False),
        (b"b", 2, True),
    ]


async def test_deliveries_wait_for_start(
    broker: Mosquitto, client_of: Callable[..., Client], topic: str
) -> None:
    first = client_of(broker.url)
    await first.connect(topic)
    await first.session.close(1.0)
    await publish(broker.port, messages(topic, 10))
    client = client_of(broker.url, client_id=first.settings.client_id)
    await client.session.open()
    await client.session.subscribe([topic])  # a round trip: the broker has sent them by now
    assert client.deliveries == []
    client.session.start()
    assert len(await client.receive(10)) == 10


async def test_unsubscribed_filters_bring_nothing(
    broker: Mosquitto, client_of: Callable[..., Client], topic: str
) -> None:
    client = client_of(broker.url)
    await client.connect(f"{topic}/a", f"{topic}/b")
    await client.session.unsubscribe([f"{topic}/a"])
    await publish(broker.port, [Message(f"{topic}/a", b"1"), Message(f"{topic}/b", b"2")])
    assert [each.payload for each in await client.receive(1)] == [b"2"]


# the ways to be refused


async def test_login_with_name_and_password(tmp_path: Path, client_of: Callable[..., Client]) -> None:
    # mosquitto_passwd's own format is kept by Mosquitto; a plain file is what it hashes in place.
    passwords = tmp_path / "passwords"
    passwords.write_text("worker:secret\n")
    await _hash_passwords(passwords)
    with Mosquitto(settings={"allow_anonymous": "false", "password_file": str(passwords)}) as broker:
        for version in VERSIONS:
            client = client_of(broker.url, version, username="worker", password=SecretStr("secret"))
            await client.connect("a/#")
            wrong = client_of(broker.url, version, username="worker", password=SecretStr("wrong"))
            with pytest.raises(BrokerRefused, match=f"refused client '{wrong.settings.client_id}'"):
                await wrong.connect()
            nobody = client_of(broker.url, version)
            with pytest.raises(BrokerRefused, match=r"(?i)not authori"):
                await nobody.connect()


@pytest.mark.usefixtures("broker")
@pytest.mark.parametrize("transport", ["mqtts", "wss"])
async def test_a_certificate_of_a_stranger_is_refused(
    transport: Transport,
    ports: dict[Transport, int],
    stranger: Authority,
    client_of: Callable[..., Client],
) -> None:
    client = client_of(f"{transport}://127.0.0.1:{ports[transport]}", ca_file=stranger.certificate)
    with pytest.raises(ConnectionLost, match=r"certificate of 127\.0\.0\.1:\d+ does not verify .*ca_file"):
        await client.connect()


@pytest.mark.usefixtures("broker")
async def test_a_broker_that_wants_a_certificate_gets_none(
    ports: dict[Transport, int], authority: Authority, client_of: Callable[..., Client]
) -> None:
    client = client_of(f"mqtts://127.0.0.1:{ports['mqtts']}", ca_file=authority.certificate)
    with pytest.raises(ConnectionLost):
        await client.connect()


async def test_a_missing_authority_file_is_named(client_of: Callable[..., Client], tmp_path: Path) -> None:
    with pytest.raises(ConnectionLost, match="TLS files"):
        client_of("mqtts://127.0.0.1:1", ca_file=tmp_path / "missing.crt")


async def test_nobody_listens(client_of: Callable[..., Client]) -> None:
    with pytest.raises(ConnectionLost, match="cannot connect to 127"):
        await client_of(f"mqtt://127.0.0.1:{free_port()}").connect()


async def test_websocket_on_a_port_that_speaks_mqtt(
    broker: Mosquitto, client_of: Callable[..., Client]
) -> None:
    with pytest.raises(ConnectionLost):
        await client_of(f"ws://127.0.0.1:{broker.port}", connect_timeout_s=1.0).connect()


async def test_a_refused_or_lowered_subscription_is_an_error(client_of: Callable[..., Client]) -> None:
    for granted, text in ((0x80, "refused"), (0x00, "granted QoS 0")):
        async with ScriptedBroker(suback=granted) as broker:
            client = client_of(broker.url, "3.1.1")
            with pytest.raises(BrokerRefused, match=rf"QoS 1 for 'a/#' \({text}, code {granted:#04x}\)"):
                await client.connect("a/#")


async def test_a_backlog_ahead_of_the_suback_is_waited_for_and_silence_is_not(
    client_of: Callable[..., Client],
) -> None:
    message = b"\x32\x07\x00\x01t\x00%cxx"
    backlog = tuple(message % number for number in range(1, 9))  # two seconds of it
    async with ScriptedBroker(before=backlog) as broker:
        await client_of(broker.url, "3.1.1", connect_timeout_s=1.0).connect("a/#")
    async with ScriptedBroker(before=(*backlog[:1], *(b"",) * 10)) as broker:
        with pytest.raises(ConnectionLost, match="no SUBACK"):
            await client_of(broker.url, "3.1.1", connect_timeout_s=1.0).connect("a/#")


async def test_a_protocol_the_broker_does_not_speak(client_of: Callable[..., Client]) -> None:
    async with ScriptedBroker(connack=b"\x20\x03\x00\x84\x00") as broker:
        with pytest.raises(ProtocolUnsupported):
            await client_of(broker.url, "5").connect()
    async with ScriptedBroker(connack=b"\x20\x02\x00\x01") as broker:
        with pytest.raises(ProtocolUnsupported):
            await client_of(broker.url, "3.1.1").connect()
        with pytest.raises(ProtocolUnsupported):  # a 3.1.1 broker answers MQTT 5 in its own form
            await client_of(broker.url, "5").connect()
    async with ScriptedBroker(hang_up=True) as broker:
        with pytest.raises(HungUp, match="before CONNACK"):
            await client_of(broker.url, "5").connect()


async def test_a_broker_that_says_nothing(
    client_of: Callable[..., Client], caplog: pytest.LogCaptureFixture
) -> None:
    async with ScriptedBroker(connack=None) as broker:
        started_s = time.monotonic()
        with pytest.raises(ConnectionLost, match=r"no CONNACK within 0\.3 s"):
            await client_of(broker.url, connect_timeout_s=0.3).connect()
        tls = client_of(f"mqtts://127.0.0.1:{broker.port}", connect_timeout_s=0.3)
        with pytest.raises(ConnectionLost, match=r"no connection to .* within 0.3 s"):
            await tls.connect()
        assert time.monotonic() - started_s < DEFAULT_PATIENCE_S
    await asyncio.sleep(0.2)  # the thread that still waits for the handshake fails now, unheard
    assert "never retrieved" not in caplog.text


async def _hash_passwords(file: Path) -> None:
    process = await asyncio.create_subprocess_exec("mosquitto_passwd", "-U", str(file))
    assert await process.wait() == 0
