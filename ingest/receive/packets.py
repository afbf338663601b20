"""MQTT packets on the hot path, as bytes in and values out: PUBLISH is cut out, its answer is built.

Pure: no socket, no clock. Every other packet type is handed over untouched, for paho to handle.
The layout is MQTT 3.1.1 section 3.3 and MQTT 5 section 3.3; only PUBLISH differs between them
(MQTT 5 puts a property length and properties between packet id and payload).
"""

from __future__ import annotations

import hashlib
import struct
import sys
from array import array
from typing import TYPE_CHECKING, Final

from ingest.errors import IngestError
from ingest.model import CutPayload, Delivery, DescribedPayload

if TYPE_CHECKING:
    from collections.abc import Iterable

PINGREQ: Final = b"\xc0\x00"
PINGRESP: Final = b"\xd0\x00"
PUBACK: Final = 0x40
_PUBLISH: Final = 0x30
_QOS_BITS: Final = 0x06
_QOS_1: Final = 0x02
_CONTINUES: Final = 0x80
_PUBACK: Final = 0x4002_0000
_PUBREC: Final = 0x5002_0000
_TOPICS_REMEMBERED: Final = 100_000
_TOPIC_REMEMBERED_BYTES: Final = 256
WHOLE_PACKET_BYTES: Final = 1_048_576
"""Larger packets are not kept whole, unless configured: MQTT allows 256 MiB."""
_HEAD_BYTES: Final = 262_144
"""Enough of a large packet to find its payload: a topic has 64 KiB at most, properties hardly more."""


_PADDING: Final = b"\xff\xff\xff"
"""Behind what arrived, so that a packet of two bytes at its end is read like the others; ends no length."""
_head = struct.Struct(">BBBH").unpack_from
"""First byte, two bytes of the remaining length, topic length: where that length has two bytes."""
_id_and_properties = struct.Struct(">HB").unpack_from


class MalformedPacket(IngestError):
    """The broker's byte stream is not MQTT; the connection has to be closed (MQTT 5 4.13)."""


class PacketParser:
    """Cuts a byte stream into PUBLISH deliveries and everything else.

    One parser serves one network connection: it keeps the bytes of a packet that has not arrived
    whole, and remembers decoded topics so that each is decoded once.
    """

    def __init__(
        self, *, mqtt5: bool, whole_packet_bytes: int = WHOLE_PACKET_BYTES, keep_properties: bool = False
    ) -> None:
        """Parse PUBLISH as MQTT 5 does when *mqtt5*, else as 3.1.1; cut those over *whole_packet_bytes*.

        With *keep_properties*, the payload of one that has some is a DescribedPayload.
        """
        self._mqtt5 = mqtt5
        self._keep_properties = mqtt5 and keep_properties
        self._whole_packet_bytes = whole_packet_bytes
        self._rest = bytearray()
        self._wanted = 0
        self._large: _LargePublish | None = None
        self._topics = _Topics()

    @property
    def buffered_bytes(self) -> int:
        """Bytes kept of a packet that is still arriving."""
        return len(self._rest)

    def feed(self, data: bytes) -> tuple[list[Delivery], list[bytes]]:
        """Take *data* as read from the socket; give (deliveries, other packets), each in order.

        The payload of a PUBLISH that is too large arrives as a CutPayload. Raises MalformedPacket on a
        remaining length over four bytes, on a PUBLISH that ends before its topic, packet id or
        properties do, on QoS 3, on packet id 0, and on another packet of that size.
        """
        deliveries: list[Delivery] = []
        others: list[bytes] = []
        if self._large is not None:
            data = self._large.feed(data)
            if self._large.wanted:
                return [], []
            deliveries.append(self._large.delivery())
            self._large = None
        if self._rest:
            self._rest += data
            if len(self._rest) < self._wanted:
                if self._wanted > self._whole_packet_bytes and len(self._rest) >= _HEAD_BYTES:
                    self._begin_large()
                return [], []
            data = bytes(self._rest)
            self._rest.clear()
        try:
            position = self._cut(data, deliveries, others)
        except (IndexError, struct.error) as error:
            raise MalformedPacket("the broker sent a PUBLISH shorter than its own fields") from error
        if position < len(data):
            self._rest += data[position:]
        return deliveries, others

    def _begin_large(self) -> None:
        """Go on with the packet in the buffer without keeping it."""
        head = bytes(self._rest)
        missing = self._wanted - len(head)
        self._rest.clear()
        if head[0] & 0xF0 != _PUBLISH:
            raise MalformedPacket(f"the broker sent a packet of {self._wanted} bytes that is no PUBLISH")
        # The head alone, as a whole PUBLISH of that length: its delivery has the payload's beginning.
        body = head[_long_length(head, 1, len(head))[1] :]
        shortened = head[:1] + as_length(len(body)) + body
        heads: list[Delivery] = []
        try:
            self._cut(shortened, heads, [])
        except (IndexError, struct.error) as error:
            raise MalformedPacket("the broker sent a PUBLISH whose head is over 256 KiB") from error
        self._large = _LargePublish(heads[0], missing)

    def _cut(  # noqa: C901, PLR0912, PLR0915 - one loop with few calls: it runs once a message
        self, data: bytes, deliveries: list[Delivery], others: list[bytes]
    ) -> int:
        """Append what is whole; give the position of the first byte that is not."""
        topics = self._topics
        mqtt5 = self._mqtt5
        append = deliveries.append
        new = tuple.__new__  # a third of the cost of Delivery(...), once a message
        size = len(data)
        data += _PADDING
        position = 0
        while position + 2 <= size:
            # One call for what a PUBLISH of 128 to 16 383 bytes begins with; of a shorter one the fields
            # lie a byte earlier. 0.8 µs a message in all, against 1.5 with an index for each byte.
            first, length, more, topic_bytes = _head(data, position)
            if length < _CONTINUES:
                at = position + 2
                topic_bytes = more << 8 | topic_bytes >> 8
            elif more < _CONTINUES:
                length += (more << 7) - _CONTINUES
                at = position + 3
            else:
                length, at = _long_length(data, position + 1, size)
                if at == 0:
                    self._wanted = 0
                    return position
                topic_bytes = data[at] << 8 | data[at + 1]
            end = at + length
            if end > size:
                self._wanted = end - position
                return position
            if first & 0xF0 != _PUBLISH:
                others.append(data[position:end])
                position = end
                continue
            at += 2 + topic_bytes
            topic = topics[data[at - topic_bytes : at]]
            packet_id = properties = 0
            if first & _QOS_BITS:
                packet_id, properties = _id_and_properties(data, at)
                at += 2
            elif mqtt5:
                properties = data[at]
            if mqtt5:
                at += 1
                if properties & _CONTINUES:
                    properties, at = _long_length(data, at - 1, size)
                    if at == 0:
                        raise IndexError
                at += properties
            if at > end:
                raise IndexError
            if first & _QOS_BITS and (packet_id == 0 or first & _QOS_BITS == _QOS_BITS):
                raise MalformedPacket(f"the broker sent a PUBLISH with flags {first:#x} and id {packet_id}")
            append(new(Delivery, (topic, data[at:end], first & 0x0F, packet_id)))
            if properties and self._keep_properties:
                payload = DescribedPayload(data[at:end], data[at - properties : at])
                deliveries[-1] = deliveries[-1]._replace(payload=payload)
            position = end
        self._wanted = 0
        return position


class _Topics(dict[bytes, str]):
    """Topics by their bytes, each decoded once; looked up without a call of ours."""

    def __missing__(self, raw_topic: bytes) -> str:
        # MQTT 1.5.4 wants UTF-8; a broker that lets other bytes through costs no message here.
        topic = raw_topic.decode("utf-8", "backslashreplace")
        if len(raw_topic) <= _TOPIC_REMEMBERED_BYTES:
            if len(self) >= _TOPICS_REMEMBERED:
                self.clear()
            self[raw_topic] = topic
        return topic


class _LargePublish:
    """A PUBLISH that is read to its end, and of which only the beginning, length and hash are kept."""

    def __init__(self, head: Delivery, wanted: int) -> None:
        """Start from the *head* that has arrived, its payload included; *wanted* bytes are to come."""
        self._head = head
        self._hash = hashlib.sha256(head.payload)
        self._payload_bytes = len(head.payload)
        self.wanted = wanted

    def feed(self, data: bytes) -> bytes:
        """Take what belongs to the packet; give the rest of *data*."""
        own = data[: self.wanted]
        self._hash.update(own)
        self._payload_bytes += len(own)
        self.wanted -= len(own)
        return data[len(own) :]

    def delivery(self) -> Delivery:
        """Give the delivery, once nothing is wanted."""
        payload = CutPayload(self._head.payload, self._payload_bytes, self._hash.digest())
        return self._head._replace(payload=payload)


def as_length(value: int) -> bytes:
    """Write a variable byte integer (MQTT 5 1.5.5)."""
    encoded = bytearray()
    while value >= _CONTINUES:
        encoded.append(value & 0x7F | _CONTINUES)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _long_length(data: bytes, at: int, size: int) -> tuple[int, int]:
    """Read a variable byte integer (MQTT 5 1.5.5) at *at*: (value, position after).

    (0, 0) if the first *size* bytes of *data* do not hold all of it.
    """
    value = 0
    for index in range(4):
        if at + index >= size:
            return 0, 0
        byte = data[at + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < _CONTINUES:
            return value, at + index + 1
    raise MalformedPacket("the broker sent a remaining length of more than four bytes")


def answers_to(deliveries: Iterable[Delivery]) -> list[int]:
    """Give the answer to each delivery that wants one, as `answer_blob` takes it: its four bytes as a number.

    A PUBACK or PUBREC with reason code 0 (short form in MQTT 5 too: 3.4.2.1). We subscribe at QoS 1; QoS 2
    comes from a session that an earlier consumer subscribed so. A broker that gets a PUBACK for it ends the
    connection, and sends it again on the next.
    """
    return [
        (_PUBACK if flags & _QOS_BITS == _QOS_1 else _PUBREC) | packet_id
        for _, _, flags, packet_id in deliveries
        if flags & _QOS_BITS
    ]


def answer_blob(answers: list[int]) -> bytes:
    """Give *answers* as the bytes to write, in order."""
    words = array("I", answers)
    if sys.byteorder == "little":
        words.byteswap()
    return words.tobytes()
