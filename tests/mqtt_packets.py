"""The few MQTT packets that gateways and benchmarks send themselves, as bytes. Pure.

The layout is MQTT 3.1.1 section 3, of PUBLISH also MQTT 5 section 3.3.
"""

from __future__ import annotations

import struct
from typing import Final

_PUBLISH: Final = 0x30
PACKET_IDS: Final = 65_535
DISCONNECT: Final = b"\xe0\x00"


def publish(
    topic: str, payload: bytes, *, qos: int, packet_id: int = 0, retain: bool = False, mqtt5: bool = False
) -> bytes:
    """Give one PUBLISH, without properties when *mqtt5*; *packet_id* counts from QoS 1 on only."""
    body = b"".join(
        (
            text(topic),
            struct.pack(">H", packet_id) if qos else b"",
            b"\x00" if mqtt5 else b"",
            payload,
        )
    )
    return bytes([_PUBLISH | qos << 1 | retain]) + remaining_length(len(body)) + body


def connect(client_id: str, *, clean: bool, keepalive_s: int = 600) -> bytes:
    """Give a CONNECT of MQTT 3.1.1; its session is kept unless *clean*."""
    flags = b"\x02" if clean else b"\x00"
    body = b"\x00\x04MQTT\x04" + flags + struct.pack(">H", keepalive_s) + text(client_id)
    return b"\x10" + remaining_length(len(body)) + body


def subscribe(topic_filter: str) -> bytes:
    """Give a SUBSCRIBE at QoS 1."""
    body = b"\x00\x01" + text(topic_filter) + b"\x01"
    return b"\x82" + remaining_length(len(body)) + body


def text(value: str) -> bytes:
    """Write a string behind its length."""
    encoded = value.encode()
    return struct.pack(">H", len(encoded)) + encoded


def remaining_length(value: int) -> bytes:
    """Write a variable byte integer (MQTT 5 section 1.5.5)."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def packet_id(index: int) -> int:
    """Give the packet id of message number *index*: 1 to 65 535, and again."""
    return index % PACKET_IDS + 1
