"""MQTT 5 properties of a PUBLISH: kept where they are asked for, wherever the network cuts, and read."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from ingest.model import Delivery, DescribedPayload
from ingest.receive import publish_properties
from ingest.receive.packets import PacketParser
from tests.fuzzing import examples
from tests.unit.test_packets import Publish, packet_of, publishes


def raw(**named: object) -> bytes:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    for name, value in named.items():
        for each in value if isinstance(value, list) else [value]:
            setattr(properties, name, each)
    packed: bytes = properties.pack()  # type: ignore[no-untyped-call]
    return packed[1:] if packed[0] < 0x80 else packed[2:]


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        (b"", {}),
        (
            raw(
                PayloadFormatIndicator=1,
                MessageExpiryInterval=60,
                ContentType="application/json",
                ResponseTopic="a/b",
                CorrelationData=b"\xff\x00",
                UserProperty=[("site", "north"), ("site", "é")],
                SubscriptionIdentifier=7,
            ),
            {
                "payload_format_indicator": 1,
                "message_expiry_interval": 60,
                "content_type": "application/json",
                "response_topic": "a/b",
                "correlation_data_base64": "/wA=",
                "user_properties": [["site", "north"], ["site", "é"]],
            },
        ),
        (raw(UserProperty=[("n" * 100, "v" * 100)]), {"user_properties": [["n" * 100, "v" * 100]]}),
        (b"\x7f\x00", {"unreadable_base64": "fwA="}),
        (b"\x03\x00", {"unreadable_base64": "AwA="}),
    ],
)
def test_they_are_read_by_name(properties: bytes, expected: dict[str, object]) -> None:
    assert publish_properties(properties) == expected


@settings(max_examples=examples(100))
@given(st.lists(publishes(), max_size=5), st.integers(1, 300), st.booleans(), st.booleans())
def test_they_come_with_the_payload(
    written: list[Publish],
    cut: int,
    keep: bool,  # noqa: FBT001 (hypothesis gives it)
    mqtt5: bool,  # noqa: FBT001 (as above)
) -> None:
    stream = b"".join(packet_of(publish, mqtt5=mqtt5) for publish in written)
    parser = PacketParser(mqtt5=mqtt5, keep_properties=keep)
    found: list[Delivery] = []
    for at in range(0, len(stream), cut):
        found += parser.feed(stream[at : at + cut])[0]
    assert found == [publish.delivery for publish in written]
    described = [each.payload.properties for each in found if isinstance(each.payload, DescribedPayload)]
    sent = [publish.properties for publish in written if publish.properties]
    assert described == (sent if keep and mqtt5 else [])
