"""The brokers of docs/scaling.md: a bridge between two real Mosquittos; EMQX options beside the worker's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from ingest.model import MOST_UNPROVEN
from ingest.settings import Settings
from ingest.topics import match
from tests.gateways import Message, publish
from tests.servers import Mosquitto

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.mqtt_client import Client

DEPLOY = Path(__file__).parents[2] / "deploy"
BRIDGE = (DEPLOY / "mosquitto-cluster" / "bridge.conf").read_text()
SETTINGS = Settings()


def options_of(text: str) -> dict[str, str]:
    """Give the `name = value` lines of a flat HOCON file, quotes gone."""
    found = re.findall(r"(?m)^([\w.]+) = (.+)$", text)
    return {name: value.strip('"') for name, value in found}


EMQX = options_of((DEPLOY / "emqx" / "cluster.hocon").read_text())


def bridge_lines(port: int) -> dict[str, str]:
    """Give the bridge as shipped, as one setting, to a broker on the loopback: without TLS and login."""
    lines = [line for line in BRIDGE.splitlines() if line and not line.startswith("#")]
    for name in ("bridge_cafile", "remote_username", "remote_password"):
        lines = [line for line in lines if not line.startswith(f"{name} ")]
    [first, *rest] = [f"address 127.0.0.1:{port}" if line.startswith("address ") else line for line in lines]
    name, _, value = first.partition(" ")
    return {name: "\n".join([value, *rest])}


def messages(numbers: range) -> list[Message]:
    return [Message("GREENHOUSE/SARA/01", b"%d" % number) for number in numbers]


async def test_a_site_hands_on_what_comes_and_keeps_it_while_the_central_broker_is_away(
    client_of: Callable[..., Client],
) -> None:
    with Mosquitto() as central, Mosquitto(settings=bridge_lines(central.port)) as site:
        before = client_of(central.url, client_id="worker")
        await before.connect(*SETTINGS.broker.filters)
        await publish(site.port, messages(range(50)))
        await before.receive(50)
        await before.acknowledge_all()
        central.stop()
        await before.closed()
        await publish(site.port, messages(range(50, 100)))
        central.start()
        after = client_of(central.url, client_id="worker")
        assert (await after.connect()).session_present
        await after.receive(50)
    assert [int(each.payload) for each in before.deliveries] == list(range(50))
    assert {int(each.payload) for each in after.deliveries} == set(range(50, 100))


def test_a_bridge_hands_on_what_the_worker_reads_and_fetches_nothing() -> None:
    topics = [line.split() for line in BRIDGE.splitlines() if line.startswith("topic ")]
    assert [topic[1] for topic in topics] == list(SETTINGS.broker.filters)
    assert all(topic[2:] == ["out", "1"] for topic in topics)
    assert match(topics[-1][1], "GREENHOUSE")


def test_emqx_keeps_and_sends_what_the_worker_counts_on() -> None:
    assert SETTINGS.broker.receive_maximum <= int(EMQX["mqtt.max_inflight"]) <= MOST_UNPROVEN
    assert EMQX["mqtt.max_mqueue_len"] == "infinity"
    assert EMQX["mqtt.mqueue_store_qos0"] == "true"
    days = int(EMQX["mqtt.session_expiry_interval"].removesuffix("d"))
    assert days * 86_400 >= SETTINGS.broker.session_expiry_s
    size = int(EMQX["mqtt.max_packet_size"].removesuffix("MB"))
    assert size * 2**20 > SETTINGS.decode.max_payload_bytes
    assert EMQX["mqtt.shared_subscription_strategy"] == "round_robin"
    assert not any(word in name for name in EMQX for word in ("password", "cookie", "secret"))
