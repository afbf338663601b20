from __future__ import annotations

import hashlib
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.model import CutPayload, Delivery
from ingest.receive.packets import MalformedPacket, PacketParser
from tests.fuzzing import examples
from tests.mqtt_packets import publish, remaining_length

LIMIT = 300_000


@pytest.mark.parametrize("mqtt5", [False, True])
@settings(max_examples=examples(30))
@given(cuts=st.lists(st.integers(0, 700_000), max_size=6))
def test_a_large_payload_is_cut_and_its_neighbours_are_not(cuts: list[int], *, mqtt5: bool) -> None:
    large = bytes(range(256)) * 2400
    small = b"21.5"
    stream = b"".join(
        publish("a/b", payload, qos=1, packet_id=index, mqtt5=mqtt5)
        for index, payload in enumerate((small, large, small), start=1)
    )
    parser = PacketParser(mqtt5=mqtt5, whole_packet_bytes=LIMIT)
    deliveries: list[Delivery] = []
    most = 0
    edges = sorted({0, len(stream), *(min(cut, len(stream)) for cut in cuts)})
    # A socket gives 256 KiB at a time at most.
    edges = sorted({*edges, *range(0, len(stream), 262_144)})
    for start, end in itertools.pairwise(edges):
        found, others = parser.feed(stream[start:end])
        deliveries += found
        most = max(most, parser.buffered_bytes)
        assert others == []

    assert [delivery.packet_id for delivery in deliveries] == [1, 2, 3]
    assert [delivery.payload for delivery in deliveries[::2]] == [small, small]
    cut = deliveries[1].payload
    assert isinstance(cut, CutPayload)
    assert cut == large[:4096]
    assert (cut.total_bytes, cut.sha256) == (len(large), hashlib.sha256(large).digest())
    assert most < 2 * 262_144
    assert parser.buffered_bytes == 0


def test_another_packet_of_that_size_ends_the_connection() -> None:
    parser = PacketParser(mqtt5=False, whole_packet_bytes=LIMIT)
    parser.feed(b"\x90" + remaining_length(50_000_000) + bytes(LIMIT))
    with pytest.raises(MalformedPacket, match="no PUBLISH"):
        parser.feed(bytes(LIMIT))


def test_cutting_twice_keeps_the_first_account() -> None:
    cut = CutPayload.of(b"x" * 10_000)
    assert CutPayload.of(cut) is cut
    assert (len(cut), cut.total_bytes) == (4096, 10_000)
