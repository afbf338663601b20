"""The few MQTT packets that the benchmark sends itself, as bytes. Pure.

The layout is MQTT 3.1.1 section 3, of PUBLISH also MQTT 5 section 3.3.
"""

from __future__ import annotations

import struct
from typing import Final

_PUBLISH: Final = 0x30
PACKET_IDS: Final = 65_535


def publish(topic: str, payload: bytes, *, qos: int, packet_id: int = 0, mqtt5: bool = False) -> bytes:
    """Give one PUBLISH, without properties when *mqtt5*; *packet_id* counts at QoS 1 only."""
    name = topic.encode()
    body = b"".join(
        (
            struct.pack(">H", len(name)),
            name,
            struct.pack(">H", packet_id) if qos else b"",
            b"\x00" if mqtt5 else b"",
            payload,
        )
    )
    return bytes([_PUBLISH | qos << 1]) + remaining_length(len(body)) + body


def connect(client_id: str, *, clean: bool) -> bytes:
    """Give a CONNECT of MQTT 3.1.1; its session is kept unless *clean*."""
    name = client_id.encode()
    flags = b"\x02" if clean else b"\x00"
    keep_alive_s = struct.pack(">H", 600)
    body = b"\x00\x04MQTT\x04" + flags + keep_alive_s + struct.pack(">H", len(name)) + name
    return b"\x10" + remaining_length(len(body)) + body


def subscribe(topic_filter: str) -> bytes:
    """Give a SUBSCRIBE at QoS 1."""
    name = topic_filter.encode()
    body = b"\x00\x01" + struct.pack(">H", len(name)) + name + b"\x01"
    return b"\x82" + remaining_length(len(body)) + body


def remaining_length(value: int) -> bytes:
    """Write a variable byte integer (MQTT 5 section 1.5.5)."""
    encoded = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits a byte
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def packet_id(index: int) -> int:
    """Give the packet id of message number *index*: 1 to 65 535, and again."""
    return index % PACKET_IDS + 1
