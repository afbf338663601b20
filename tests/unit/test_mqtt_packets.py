"""What gateways and benchmarks send is what the worker parses."""

from __future__ import annotations

import pytest

from ingest.model import Delivery
from ingest.receive.packets import PacketParser
from tests.mqtt_packets import connect, packet_id, publish, remaining_length, subscribe


@pytest.mark.parametrize("mqtt5", [True, False])
@pytest.mark.parametrize("flags", [0, 1, 2, 3])
@pytest.mark.parametrize("payload", [b"", b"x" * 200, b"x" * 20_000])
def test_a_packet_is_what_the_worker_parses(payload: bytes, flags: int, *, mqtt5: bool) -> None:
    qos, retain = divmod(flags, 2)
    packet = publish("a/b", payload, qos=qos, packet_id=7, retain=bool(retain), mqtt5=mqtt5)
    deliveries, others = PacketParser(mqtt5=mqtt5).feed(packet)
    assert others == []
    assert deliveries == [Delivery("a/b", payload, flags, 7 if qos else 0)]


def test_lengths_and_packet_ids_stay_within_mqtt() -> None:
    assert [remaining_length(value) for value in (0, 127, 128, 16_384)] == [
        b"\x00", b"\x7f", b"\x80\x01", b"\x80\x80\x01",
    ]  # fmt: skip
    assert [packet_id(index) for index in (0, 65_534, 65_535)] == [1, 65_535, 1]
    assert connect("id", clean=False) == b"\x10\x0e\x00\x04MQTT\x04\x00\x02\x58\x00\x02id"
    assert subscribe("#") == b"\x82\x06\x00\x01\x00\x01#\x01"
