"""PUBLISH packets cut out of any byte stream, however it is split, and their answers built."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.model import Delivery
from ingest.receive.packets import MalformedPacket, PacketParser, answer_blob, answers_to
from tests.mqtt_packets import remaining_length, text


class Publish(NamedTuple):
    """A PUBLISH as it should be delivered, and the MQTT 5 properties it is sent with."""

    delivery: Delivery
    properties: bytes


def packet_of(publish: Publish, *, mqtt5: bool) -> bytes:
    topic, payload, flags, packet_id = publish.delivery
    body = text(topic)
    if flags & 0x06:
        body += struct.pack(">H", packet_id)
    if mqtt5:
        body += remaining_length(len(publish.properties)) + publish.properties
    body += payload
    return bytes([0x30 | flags]) + remaining_length(len(body)) + body


@st.composite
def publishes(draw: st.DrawFn) -> Publish:
    qos = draw(st.sampled_from([0, 1, 2]))
    flags = qos << 1 | draw(st.booleans()) | (draw(st.booleans()) << 3 if qos else 0)
    packet_id = draw(st.integers(1, 65_535)) if qos else 0
    topic = draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
    payload = draw(st.binary(max_size=40)) * draw(st.sampled_from([1, 1, 1, 5, 600]))
    properties = draw(st.binary(max_size=10)) * draw(st.sampled_from([0, 1, 1, 30, 2_000]))
    return Publish(Delivery(topic, payload, flags, packet_id), properties)


@st.composite
def others(draw: st.DrawFn) -> bytes:
    """Any packet that is no PUBLISH."""
    kind = draw(st.sampled_from([0x20, 0x40, 0x90, 0xB0, 0xD0, 0xE0, 0xF0]))
    body = draw(st.binary(max_size=200))
    return bytes([kind]) + remaining_length(len(body)) + body


@given(
    packets=st.lists(st.one_of(publishes(), others()), max_size=12),
    mqtt5=st.booleans(),
    cuts=st.lists(st.integers(0, 10_000), max_size=12),
)
def test_any_split_of_a_stream_gives_the_same(
    *, packets: list[Publish | bytes], mqtt5: bool, cuts: list[int]
) -> None:
    stream = b"".join(each if isinstance(each, bytes) else packet_of(each, mqtt5=mqtt5) for each in packets)
    parser = PacketParser(mqtt5=mqtt5)
    edges = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    deliveries: list[Delivery] = []
    rest: list[bytes] = []
    for start, end in pairwise(edges):
        got, got_others = parser.feed(stream[start:end])
        deliveries += got
        rest += got_others
    assert deliveries == [each.delivery for each in packets if isinstance(each, Publish)]
    assert rest == [each for each in packets if isinstance(each, bytes)]
    assert parser.buffered_bytes == 0


@given(packet=publishes(), mqtt5=st.booleans())
def test_byte_by_byte_nothing_comes_before_the_last(*, packet: Publish, mqtt5: bool) -> None:
    parser = PacketParser(mqtt5=mqtt5)
    data = packet_of(packet, mqtt5=mqtt5)
    head, last = data[:-1], data[-1:]
    for at in range(0, len(head), max(1, len(head) // 50)):
        assert parser.feed(head[at : at + max(1, len(head) // 50)]) == ([], [])
    assert parser.feed(last) == ([packet.delivery], [])


@given(data=st.binary(max_size=300), mqtt5=st.booleans())
def test_any_bytes_are_parsed_or_malformed(*, data: bytes, mqtt5: bool) -> None:
    parser = PacketParser(mqtt5=mqtt5)
    try:
        deliveries, rest = parser.feed(data)
    except MalformedPacket:
        return
    consumed = len(data) - parser.buffered_bytes
    assert 0 <= consumed <= len(data)
    assert sum(len(each) for each in rest) <= consumed
    assert all(isinstance(each, Delivery) for each in deliveries)


@pytest.mark.parametrize(
    ("data", "mqtt5", "text"),
    [
        (b"\x30\x80\x80\x80\x80\x01", False, "more than four bytes"),
        (b"\xd0\xff\xff\xff\xff\x7f", False, "more than four bytes"),
        (b"\x30\x00", False, "shorter than its own fields"),
        (b"\x30\x01\x00", False, "shorter than its own fields"),
        (b"\x30\x03\x00\x02a", False, "shorter than its own fields"),
        (b"\x30\x03\x00\x02a" + b"\xd0\x00" * 5, False, "shorter than its own fields"),
        (b"\x32\x03\x00\x01a", False, "shorter than its own fields"),
        (b"\x32\x04\x00\x01a\x00" + b"\xd0\x00" * 5, False, "shorter than its own fields"),
        (b"\x30\x03\x00\x01a", True, "shorter than its own fields"),
        (b"\x30\x04\x00\x01a\x01", True, "shorter than its own fields"),
        (b"\x30\x05\x00\x01a\x80\x80", True, "shorter than its own fields"),
        (b"\x30\x08\x00\x01a\xff\xff\xff\xff\x01", True, "more than four bytes"),
        (b"\x36\x06\x00\x01a\x00\x07x", False, "flags 0x36 and id 7"),
        (b"\x32\x06\x00\x01a\x00\x00x", False, "flags 0x32 and id 0"),
    ],
)
def test_what_is_no_mqtt_is_said_to_be(data: bytes, mqtt5: bool, text: str) -> None:  # noqa: FBT001 (a column)
    with pytest.raises(MalformedPacket, match=text):
        PacketParser(mqtt5=mqtt5).feed(data)


def test_a_topic_that_is_no_utf8_costs_no_message() -> None:
    deliveries, _ = PacketParser(mqtt5=False).feed(b"\x30\x05\x00\x02\xffax")
    assert deliveries == [Delivery("\\xffa", b"x", 0, 0)]


def test_a_topic_is_decoded_once() -> None:
    parser = PacketParser(mqtt5=False)
    first, second = parser.feed(b"\x30\x04\x00\x01tx" * 2)[0]
    assert first.topic is second.topic


@given(sent=st.lists(publishes(), max_size=50))
def test_answers_are_four_bytes_each_in_order(sent: list[Publish]) -> None:
    deliveries = [each.delivery for each in sent]
    kinds = {0x02: b"\x40", 0x04: b"\x50"}
    assert answer_blob(answers_to(deliveries)) == b"".join(
        kinds[each.flags & 0x06] + b"\x02" + struct.pack(">H", each.packet_id)
        for each in deliveries
        if each.flags & 0x06
    )
