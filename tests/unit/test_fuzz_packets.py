"""The packet parser under hostile streams: where the network cuts them must not matter, right or wrong.

Streams are made of whole packets, then damaged: bytes changed, taken out, put in, repeated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingest.receive.packets import MalformedPacket, PacketParser
from tests.fuzzing import examples
from tests.unit.test_packets import others, packet_of, publishes

if TYPE_CHECKING:
    from ingest.model import Delivery


class Parsed(NamedTuple):
    """What a parser made of a stream; *malformed* at the packet after the last."""

    deliveries: list[Delivery]
    others: list[bytes]
    malformed: bool


def parse(pieces: list[bytes], *, mqtt5: bool) -> Parsed:
    parser = PacketParser(mqtt5=mqtt5)
    deliveries: list[Delivery] = []
    rest: list[bytes] = []
    for piece in pieces:
        try:
            got, got_others = parser.feed(piece)
        except MalformedPacket:
            return Parsed(deliveries, rest, malformed=True)
        deliveries += got
        rest += got_others
        assert parser.buffered_bytes <= len(b"".join(pieces))
    return Parsed(deliveries, rest, malformed=False)


@st.composite
def damaged_streams(draw: st.DrawFn) -> tuple[bytes, bool]:
    mqtt5 = draw(st.booleans())
    packets = draw(st.lists(st.one_of(publishes(), others()), min_size=1, max_size=5))
    stream = bytearray(
        b"".join(each if isinstance(each, bytes) else packet_of(each, mqtt5=mqtt5) for each in packets)[
            :2_000
        ]
    )
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, max(len(stream) - 1, 0)))
        match draw(st.sampled_from(["change", "remove", "insert", "repeat"])):
            case "change" if stream:
                stream[at] = draw(st.integers(0, 255))
            case "remove":
                del stream[at : at + draw(st.integers(1, 8))]
            case "insert":
                stream[at:at] = draw(st.binary(min_size=1, max_size=8))
            case _:
                stream[at:at] = stream[at : at + 20]
    return bytes(stream), mqtt5


@settings(max_examples=examples(60))
@given(damaged_streams())
@example((b"\x30\x04\x00\x01tx\x30\xff\xff\xff\xff\x01", False))
@example((b"\x32\x07\x00\x01t\x00\x07\x80\x80", True))
def test_every_split_gives_the_same(sent: tuple[bytes, bool]) -> None:
    stream, mqtt5 = sent
    whole = parse([stream], mqtt5=mqtt5)
    bytewise = parse([stream[at : at + 1] for at in range(len(stream))], mqtt5=mqtt5)
    assert bytewise.malformed == whole.malformed
    if not whole.malformed:  # else the packets ahead of the bad one are given up with the connection
        assert bytewise == whole
    for cut in range(0, len(stream), max(1, len(stream) // 100)):
        halves = parse([stream[:cut], stream[cut:]], mqtt5=mqtt5)
        assert halves.malformed == whole.malformed, cut
        assert halves == whole or halves.malformed, cut
        assert halves.deliveries == bytewise.deliveries[: len(halves.deliveries)], cut
        assert halves.others == bytewise.others[: len(halves.others)], cut


@settings(max_examples=examples(100))
@given(st.lists(st.binary(max_size=60), max_size=20), st.booleans())
def test_no_bytes_do_more_than_end_the_connection(pieces: list[bytes], mqtt5: bool) -> None:  # noqa: FBT001 (drawn)
    parsed = parse(pieces, mqtt5=mqtt5)
    for delivery in parsed.deliveries:
        topic, payload, flags, packet_id = delivery
        topic.encode()
        assert isinstance(payload, bytes)
        assert flags & 0x06 != 0x06
        assert (packet_id > 0) == bool(flags & 0x06)
