"""Whatever arrives, from packet to batch: nothing raises, and both ledgers account for every message.

Traffic is made of real topics and shapes with anything in their places, damaged text and plain noise.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.decode import IGNORED
from ingest.intake import Intake
from ingest.model import REASONS, Decoded, Delivery
from ingest.receive import entry_of, packet_id_of
from ingest.resolve import Resolver
from ingest.resolve.rows import Greenhouse
from ingest.storable import storable
from ingest.write.copy import COLUMNS, pack
from tests.batches import NOW_US
from tests.fuzzing import examples
from tests.unit.catalog_examples import SARA, SARA_01, default_rules, example_catalog
from tests.unit.examples import default_decoder

if TYPE_CHECKING:
    from ingest.resolve import Catalog
    from ingest.write import Batch

DECODER = default_decoder()
NEWER = example_catalog(greenhouses=(Greenhouse(UUID(int=0xBF), SARA, "NEW", is_active=True),))
MAX_AGE_US = 30 * 86_400 * 1_000_000
MAX_FUTURE_US = 300 * 1_000_000

texts = st.text(st.characters(), max_size=12)
names = st.sampled_from(
    ["SARA", "HORTAMED", "CLOSED", "DEFAULT", "01", "A1", "NEW", str(SARA_01), "", "+", "#"]
)
types = st.sampled_from(["temperature", "Humedad", "soil-moisture", "sensor", "EXTRACTOR", "nobody_knows"])
topics = st.one_of(
    st.builds("greenhouse/{}/sensors/{}".format, names | texts, types | texts),
    st.builds("greenhouse/{}/readings".format, names | texts),
    st.builds("GREENHOUSE/{}".format, names | texts),
    st.builds("GREENHOUSE/{}/{}".format, names | texts, names | texts),
    st.sampled_from(
        ["GREENHOUSE", "GREENHOUSE/RESPONSE", "GREENHOUSE/STATUS/a", "SYSTEM/x", "", "/", "$SYS/a"]
    ),
    texts,
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**30), 10**30)
    | st.floats()
    | texts
    | st.sampled_from(
        ["24,5", "ON", "2025-11-17T10:15:00Z", "1763374500", "1e999", "NaN", "°C", "%", "DHT22-SARA01-TEMP"]
    )
    | st.sampled_from([NOW_US // 10**6, NOW_US // 10**3, NOW_US, 1e12, 2**63, -1])
)
keys = (
    st.sampled_from(
        ["value", "timestamp", "sensor_id", "unit", "metadata", "readings", "sensor_type", "tenantId"]
    )
    | st.sampled_from(
        ["SENSOR_01", "sensor-01", "TEMPERATURA INVERNADERO 01", "INVERNADERO_09_EXTRACTOR", "CO₂"]
    )
    | texts
)
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=15,
)


@st.composite
def payloads(draw: st.DrawFn) -> bytes:
    kind = draw(st.sampled_from(["tree", "tree", "tree", "damaged", "noise", "deep"]))
    if kind == "noise":
        return draw(st.binary(max_size=40))
    if kind == "deep":
        depth = draw(st.sampled_from([15, 16, 17, 200, 5_000]))
        return draw(st.sampled_from([b"[", b'{"a":'])) * depth + b"1" + b"]" * depth
    text = json.dumps(draw(trees), ensure_ascii=draw(st.booleans()))
    payload = bytearray(text.encode("utf-8", "surrogatepass"))
    if kind == "damaged" and payload:
        at = draw(st.integers(0, len(payload) - 1))
        payload[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(payload)


deliveries = st.builds(
    lambda topic, payload, flags, packet_id: Delivery(
        topic, payload, flags, packet_id if flags & 0x06 else 0
    ),
    topics,
    payloads(),
    st.sampled_from([0, 1, 2, 3, 4, 10, 11]),
    st.integers(1, 65_535),
)


def resolver_of(catalog: Catalog) -> Resolver:
    return Resolver(catalog, default_rules(), out_of_range="quarantine")


@settings(max_examples=examples(60))
@given(topics, payloads())
def test_decode_and_resolve_lose_no_reading(topic: str, payload: bytes) -> None:
    decoded = DECODER.decode(topic, payload, NOW_US)
    if decoded is IGNORED:
        return
    assert isinstance(decoded, Decoded)
    resolved = resolver_of(example_catalog()).resolve(decoded)
    assert len(resolved.rows) + len(resolved.rejections) == len(decoded.readings)
    for row in resolved.rows:
        assert math.isfinite(row.value)
        assert NOW_US - MAX_AGE_US <= row.time_us <= NOW_US + MAX_FUTURE_US
    for rejection in (*decoded.rejections, *resolved.rejections):
        assert rejection.reason in REASONS
        assert storable(rejection.detail) == rejection.detail


@settings(max_examples=examples(60))
@given(st.lists(st.lists(deliveries, max_size=6), max_size=4), st.integers(1, 8))
def test_every_message_is_in_one_batch_and_in_both_ledgers(
    turns: list[list[Delivery]], max_batch_rows: int
) -> None:
    intake = Intake(
        DECODER, resolver_of(example_catalog()), ignore_retained=True, max_batch_rows=max_batch_rows
    )
    for number, turn in enumerate(turns):
        intake.take_in(turn, NOW_US + number)
    waiting = intake.messages
    batches: list[Batch] = []
    while (batch := intake.next_batch()) is not None:
        batches.append(batch)
    sent = [delivery for turn in turns for delivery in turn]
    assert waiting == len(sent)
    assert (intake.messages, intake.payload_bytes, intake.readings) == (0, 0, 0)
    assert [delivery for batch in batches for delivery in batch.deliveries] == sent
    receipts = [receipt_us for batch in batches for receipt_us in batch.receipts_us]
    assert receipts == sorted(set(receipts))
    intake.resolver = resolver_of(NEWER)
    for batch in batches:
        account(batch)
        if intake.is_outdated(batch):
            revised = intake.look_again(batch)
            assert revised.deliveries == batch.deliveries
            assert revised.receipts_us == batch.receipts_us
            assert revised.ignored == batch.ignored
            decoded = [each.counts(written=0, duplicate=0, refused=0).decoded for each in (batch, revised)]
            assert decoded[0] == decoded[1], "a second look changes what becomes of a reading, not how many"
            account(revised)


def account(batch: Batch) -> None:
    """Hold one batch against what its messages were."""
    counts = batch.counts(written=len(batch.rows), duplicate=0, refused=0)
    assert counts.committed + counts.ignored == len(batch)
    assert counts.decoded == counts.written + counts.duplicate + counts.rejected + counts.null
    assert batch.readings == len(batch.rows) + sum(map(len, batch.rejections.values()))
    assert [row for index in range(len(batch)) for row in batch.rows_of(index)] == batch.rows
    for index in batch.ignored_at:
        assert not batch.rows_of(index)
        assert index not in batch.rejections
    letters = batch.dead_letters({})
    assert [letter.payload for letter in letters] == [
        batch.deliveries[index].payload for index in sorted(batch.rejections)
    ]
    for packed in pack(batch.rows):
        assert packed[:2] == len(COLUMNS).to_bytes(2, "big")
    for delivery in batch.deliveries:
        assert packet_id_of(entry_of(delivery)) == delivery.packet_id
