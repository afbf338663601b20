"""MQTT packets on the hot path, as bytes in and values out: PUBLISH is cut out, PUBACK is built.

Pure: no socket, no clock. Every other packet type is handed over untouched, for paho to handle.
The layout is MQTT 3.1.1 section 3.3 and MQTT 5 section 3.3; only PUBLISH differs between them
(MQTT 5 puts a property length and properties between packet id and payload).
"""

from __future__ import annotations

import struct
from typing import Final

from ingest.errors import IngestError
from ingest.model import Delivery

PINGREQ: Final = b"\xc0\x00"
PINGRESP: Final = b"\xd0\x00"
_PUBLISH: Final = 0x30
_QOS_BITS: Final = 0x06
_CONTINUES: Final = 0x80
_PUBACK_HEADER: Final = 0x4002_0000
_TOPICS_REMEMBERED: Final = 100_000


class MalformedPacket(IngestError):
    """The broker's byte stream is not MQTT; the connection has to be closed (MQTT 5 4.13)."""


class PacketParser:
    """Cuts a byte stream into PUBLISH deliveries and everything else.

    One parser serves one network connection: it keeps the bytes of a packet that has not arrived
    whole, and remembers decoded topics so that each is decoded once.
    """

    def __init__(self, *, mqtt5: bool) -> None:
        """Parse PUBLISH as MQTT 5 does when *mqtt5*, else as 3.1.1."""
        self._mqtt5 = mqtt5
        self._rest = bytearray()
        self._wanted = 0
        self._topics: dict[bytes, str] = {}

    @property
    def buffered_bytes(self) -> int:
        """Bytes kept of a packet that is still arriving."""
        return len(self._rest)

    def feed(self, data: bytes) -> tuple[list[Delivery], list[bytes]]:
        """Take *data* as read from the socket; give (deliveries, other packets), each in order.

        Raises MalformedPacket on a remaining length over four bytes, on a PUBLISH that ends before
        its topic, packet id or properties do, on QoS 3, and on packet id 0.
        """
        if self._rest:
            self._rest += data
            if len(self._rest) < self._wanted:
                return [], []
            data = bytes(self._rest)
            self._rest.clear()
        deliveries: list[Delivery] = []
        others: list[bytes] = []
        try:
            position = self._cut(data, deliveries, others)
        except IndexError as error:
            raise MalformedPacket("the broker sent a PUBLISH shorter than its own fields") from error
        if position < len(data):
            self._rest += data[position:]
        return deliveries, others

    def _cut(  # noqa: C901 - one loop without calls: it runs once a message
        self, data: bytes, deliveries: list[Delivery], others: list[bytes]
    ) -> int:
        """Append what is whole; give the position of the first byte that is not."""
        topics = self._topics
        mqtt5 = self._mqtt5
        new = tuple.__new__  # a third of the cost of Delivery(...), once a message
        size = len(data)
        position = 0
        while position + 2 <= size:
            first = data[position]
            length = data[position + 1]
            at = position + 2
            if length & 0x80:
                length, at = _long_length(data, position + 1)
                if at == 0:
                    self._wanted = 0
                    return position
            end = at + length
            if end > size:
                self._wanted = end - position
                return position
            if first & 0xF0 != _PUBLISH:
                others.append(data[position:end])
                position = end
                continue
            topic_end = at + 2 + (data[at] << 8 | data[at + 1])
            raw_topic = data[at + 2 : topic_end]
            topic = topics.get(raw_topic)
            if topic is None:
                topic = self._remember(raw_topic)
            at = topic_end
            packet_id = 0
            if first & 0x06:
                packet_id = data[at] << 8 | data[at + 1]
                at += 2
                if packet_id == 0 or first & _QOS_BITS == _QOS_BITS:
                    raise MalformedPacket(
                        f"the broker sent a PUBLISH with flags {first:#x} and id {packet_id}"
                    )
            if mqtt5:
                properties = data[at]
                at += 1
                if properties & 0x80:
                    properties, at = _long_length(data, at - 1)
                    if at == 0:
                        raise IndexError
                at += properties
            if at > end:
                raise IndexError
            deliveries.append(new(Delivery, (topic, data[at:end], first & 0x0F, packet_id)))
            position = end
        self._wanted = 0
        return position

    def _remember(self, raw_topic: bytes) -> str:
        if len(self._topics) >= _TOPICS_REMEMBERED:
            self._topics.clear()
        # MQTT 1.5.4 wants UTF-8; a broker that lets other bytes through costs no message here.
        topic = self._topics[raw_topic] = raw_topic.decode("utf-8", "backslashreplace")
        return topic


def _long_length(data: bytes, at: int) -> tuple[int, int]:
    """Read a variable byte integer (MQTT 5 1.5.5) at *at*: (value, position after), or (0, 0) if cut."""
    value = 0
    for index in range(4):
        if at + index >= len(data):
            return 0, 0
        byte = data[at + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < _CONTINUES:
            return value, at + index + 1
    raise MalformedPacket("the broker sent a remaining length of more than four bytes")


def puback_blob(packet_ids: list[int]) -> bytes:
    """Build one PUBACK (reason code 0, short form in MQTT 5 too: 3.4.2.1) for each id, in order."""
    return struct.pack(f">{len(packet_ids)}I", *[_PUBACK_HEADER | packet_id for packet_id in packet_ids])
