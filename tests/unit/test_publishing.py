"""PUBLISH as it is built is PUBLISH as the worker reads it, and PUBACK is read as brokers write it."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from ingest.load.publishing import puback_of, publish_packet
from ingest.receive.packets import MalformedPacket, PacketParser
from tests.fuzzing import examples

if TYPE_CHECKING:
    from collections.abc import Mapping


class Published(NamedTuple):
    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    properties: Mapping[str, Any] | None = None


NAMED = {
    "payload_format_indicator": 1,
    "message_expiry_interval": 86_400,
    "content_type": "application/json",
    "response_topic": "GREENHOUSE/RESPONSE",
    "correlation_data_base64": base64.b64encode(b"\0\xff").decode(),
    "user_properties": [["site", "Níjar"], ["site", "A1"]],
}


@settings(max_examples=examples(100))
@given(
    data=st.data(), mqtt5=st.booleans(), payload=st.binary(max_size=20_000), packet_id=st.integers(0, 65_535)
)
def test_what_is_built_is_what_the_worker_reads(
    data: st.DataObject, *, mqtt5: bool, payload: bytes, packet_id: int
) -> None:
    letters = st.characters(exclude_categories=["C", "Z"], exclude_characters="#+")
    topic = data.draw(st.text(letters, min_size=1, max_size=300))
    dup, retain = data.draw(st.booleans()), data.draw(st.booleans())
    message = Published(topic, payload, retain=retain, properties=data.draw(st.sampled_from([NAMED, None])))
    packet = publish_packet(message, packet_id, mqtt5=mqtt5, dup=dup)
    (delivery,), others = PacketParser(mqtt5=mqtt5).feed(packet)
    flags = retain | (0x02 | dup << 3 if packet_id else 0)
    assert others == []
    assert delivery == (topic, payload, flags, packet_id)


def test_properties_are_what_paho_reads() -> None:
    packet = publish_packet(Published("t", b"p", properties=NAMED), 1, mqtt5=True)
    read = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    read.unpack(packet[2 + 2 + 1 + 2 :])  # type: ignore[no-untyped-call]
    assert read.json() == {  # type: ignore[no-untyped-call]
        "PayloadFormatIndicator": 1,
        "MessageExpiryInterval": 86_400,
        "ContentType": "application/json",
        "ResponseTopic": "GREENHOUSE/RESPONSE",
        "CorrelationData": "00ff",
        "UserProperty": [("site", "Níjar"), ("site", "A1")],
    }


@pytest.mark.parametrize(
    "message",
    [
        Published("t" * 65_536, b""),
        *(Published(topic, b"") for topic in ("", "a/#", "+/a", "a\0b")),
        Published("t", b"", properties={"content_type": "c" * 65_536}),
        Published("t", b"", properties={"message_expiry_interval": -1}),
        *(
            Published("t", b"", properties={name: value})
            for name, value in [
                ("payload_format_indicator", "1"),
                ("payload_format_indicator", 256),
                ("message_expiry_interval", 1.5),
                ("content_type", 5),
                ("response_topic", ["t"]),
                ("correlation_data_base64", 5),
                ("correlation_data_base64", "é"),
                ("user_properties", 5),
                ("user_properties", [["site"]]),
                ("user_properties", [["site", 1]]),
            ]
        ),
    ],
)
def test_what_fits_into_no_publish_is_refused(message: Published) -> None:
    with pytest.raises(ValueError, match="does not fit into a PUBLISH"):
        publish_packet(message, 1, mqtt5=True)


def test_puback() -> None:
    assert puback_of(b"\x40\x02\x12\x34") == (0x1234, 0)
    assert puback_of(b"\x40\x03\x12\x34\x87") == (0x1234, 0x87)
    assert puback_of(b"\x40\x04\x12\x34\x10\x00") == (0x1234, 0x10)
    with pytest.raises(MalformedPacket, match="without a packet id"):
        puback_of(b"\x40\x00")
