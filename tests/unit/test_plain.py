"""The short cut for plain messages: what it takes, the long way makes the same of."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.intake import Intake
from ingest.model import Delivery
from ingest.resolve import Resolver
from tests.batches import NOW_US
from tests.fuzzing import examples
from tests.unit.catalog_examples import SARA_01, default_rules, example_catalog
from tests.unit.examples import EXAMPLES, RECEIPT_US, SENSOR, default_decoder
from tests.unit.test_fuzz_pipeline import deliveries

if TYPE_CHECKING:
    from ingest.write import Batch

DECODER = default_decoder()
TEMPERATURE = f"greenhouse/{SARA_01}/sensors/temperature"
PLAIN: dict[str, Any] = {
    "sensor_id": SENSOR,
    "value": 21.5,
    "unit": "°C",
    "timestamp": "2025-11-17T10:15:00.25+01:00",
}
VALUES = [21.5, 21, 0, -0.0, 1e308, 2**53, 2**63, "21.5", "21,5", True, None, [21.5], {"value": 21.5}, "NaN"]
STAMPS = [
    "2025-11-17T10:15:00Z", "2025-11-17T10:15:00", "2025-11-17T10:15", "20251117T101500Z",
    "2025-11-17 10:15:00", "2025-11-17", "1763374500", 1763374500, 1763374500000, 1763374500.5,
    "1970-01-01T00:00:00Z", "2106-02-07T06:28:15Z", "2025-11-17T10:15:00+99:00", "yesterday T", "", None,
    True, [], {},
]  # fmt: skip
SENSORS: list[Any] = [
    SENSOR,
    SENSOR.upper(),
    "DHT22-SARA01-TEMP",
    "NEW",
    "",
    " ",
    None,
    5,
    5.0,
    True,
    [],
    {},
    "x" * 201,
    "\0",
]
TYPES: list[Any] = ["temperature", "TEMPERATURE", "co2", "nobody_knows", "", None, 0, False, [], {}]
UNITS: list[Any] = ["°C", "C", "%", "furlong", "", None, 1, [], {}]
odd = st.fixed_dictionaries(
    {},
    optional={
        "value": st.sampled_from(VALUES),
        "timestamp": st.sampled_from(STAMPS),
        "sensor_id": st.sampled_from(SENSORS),
        "sensor_type": st.sampled_from(TYPES),
        "unit": st.sampled_from(UNITS),
        "metadata": st.sampled_from([{}, {"battery": 3.3}, None, 1, "x"]),
        "something": st.sampled_from([1, "[", "{", [1], {"a": {}}]),
    },
)
near_plain = st.builds(
    lambda change, flags: Delivery(
        TEMPERATURE, json.dumps(PLAIN | change).encode(), flags, 1 if flags & 6 else 0
    ),
    odd,
    st.sampled_from([0, 1, 2, 3, 10]),
)


FLAT: dict[str, Any] = {
    "TEMPERATURA INVERNADERO 01": 24.1,
    "HUMEDAD INVERNADERO 01": 61,
    "INVERNADERO_01_SECTOR_01": 40,
    "timestamp": "2025-11-17T10:15:00Z",
}
LABELS = [
    "TEMPERATURA INVERNADERO 01",
    "temperatura-invernadero 01",
    "INVERNADERO_01_EXTRACTOR",
    "NEW",
    "",
    "°\0",
]
near_plain_maps = st.builds(
    lambda topic, change, stamp, escaped, flags: Delivery(
        topic,
        json.dumps(FLAT | change | stamp, ensure_ascii=escaped).encode(),
        flags,
        1 if flags & 6 else 0,
    ),
    st.sampled_from(["GREENHOUSE/SARA", "GREENHOUSE/SARA/01", "GREENHOUSE"]),
    st.dictionaries(
        st.sampled_from([*LABELS, "greenhouseId", "tenantId"]), st.sampled_from(VALUES), max_size=4
    ),
    st.fixed_dictionaries({}, optional={"timestamp": st.sampled_from(STAMPS)}),
    st.booleans(),
    st.sampled_from([0, 1, 2, 3, 10]),
)


def intake_of() -> Intake:
    resolver = Resolver(example_catalog(), default_rules(), out_of_range="quarantine")
    return Intake(DECODER, resolver, ignore_retained=True, max_batch_rows=10_000)


def taken(messages: list[Delivery]) -> tuple[Intake, Batch]:
    """Take *messages* in by whichever way, all of their names known already."""
    intake = intake_of()
    intake.take_in(messages, NOW_US)
    intake.next_batch()
    intake.take_in(messages, NOW_US)
    batch = intake.next_batch()
    assert batch is not None
    return intake, batch


def contents(batch: Batch) -> tuple[object, ...]:
    return (
        batch.deliveries, batch.receipts_us, batch.gateways, batch.row_starts, batch.rows, batch.rejections,
        batch.tenants, batch.curable, batch.catalog_version, batch.nulls_of, batch.ignored_at,
        batch.payload_bytes, batch.nulls, batch.rejected,
    )  # fmt: skip


@settings(max_examples=examples(150))
@given(st.lists(near_plain | near_plain_maps | deliveries, min_size=1, max_size=8))
def test_the_short_cut_gives_what_the_long_way_gives(messages: list[Delivery]) -> None:
    intake, batch = taken(messages)
    assert contents(batch) == contents(intake.part(batch, 0, len(batch)))


def test_what_real_gateways_send_is_the_same_both_ways() -> None:
    messages = [Delivery(each.topic, each.payload, 2, 1) for each in EXAMPLES]
    intake, batch = taken(messages)
    assert contents(batch) == contents(intake.part(batch, 0, len(batch)))


@pytest.mark.parametrize(
    "change",
    [{}, {"value": 21}, {"timestamp": None}, {"timestamp": "2025-11-17T10:15:00"}, {"unit": None}, {"fw": 1}],
)  # fmt: skip
def test_most_messages_take_the_short_cut(change: dict[str, object]) -> None:
    payload = json.dumps(PLAIN | change).encode()
    message = Delivery(TEMPERATURE, payload, 2, 1)
    plain = [*DECODER.plain([message], [RECEIPT_US])]
    assert len(plain) == 1
    intake, batch = taken([message])
    rows, gateways = intake.resolver.plain(plain)
    assert [row._replace(time_us=0) for row in rows] == [row._replace(time_us=0) for row in batch.rows]
    assert gateways == batch.gateways


@pytest.mark.parametrize(
    "change",
    [
        {"value": "21.5"}, {"value": True}, {"metadata": {}}, {"nested": {"a": 1}}, {"list": []},
        {"timestamp": 1763374500}, {"timestamp": "2106-02-07T06:28:15Z"}, {"timestamp": "2025-11-17"},
    ],
)  # fmt: skip
def test_what_is_out_of_the_ordinary_takes_the_long_way(change: dict[str, object]) -> None:
    good = Delivery(TEMPERATURE, json.dumps(PLAIN).encode(), 2, 1)
    odd = good._replace(payload=json.dumps(PLAIN | change).encode())
    assert len([*DECODER.plain([good, good, odd, good], [RECEIPT_US] * 4)]) == 2


def test_most_flat_maps_take_the_short_cut() -> None:
    payload = json.dumps(FLAT, ensure_ascii=False).encode()
    intake, batch = taken([Delivery("GREENHOUSE/SARA", payload, 2, 1)])
    plain = DECODER.plain_map("GREENHOUSE/SARA", payload, RECEIPT_US)
    assert plain is not None
    found = intake.resolver.plain_map(*plain)
    assert found is not None
    rows, gateway = found
    assert rows == batch.rows
    assert len(rows) == 3
    assert gateway is batch.gateways[0]


@pytest.mark.parametrize(
    "change",
    [
        {"HUMEDAD INVERNADERO 01": 6529}, {"HUMEDAD INVERNADERO 01": "61,5"},
        {"HUMEDAD INVERNADERO 01": None}, {"INVERNADERO_01_SECTOR_02": 1}, {"humedad invernadero 01": 61},
    ],
)  # fmt: skip
def test_a_flat_map_with_one_odd_label_takes_the_long_way(change: dict[str, object]) -> None:
    intake, _ = taken([Delivery("GREENHOUSE/SARA", json.dumps(FLAT).encode(), 2, 1)])
    plain = DECODER.plain_map("GREENHOUSE/SARA", json.dumps(FLAT | change).encode(), RECEIPT_US)
    assert plain is not None
    assert intake.resolver.plain_map(*plain) is None


def test_a_value_out_of_range_takes_the_long_way() -> None:
    good = Delivery(TEMPERATURE, json.dumps(PLAIN).encode(), 2, 1)
    hot = good._replace(payload=json.dumps(PLAIN | {"value": 6484.1}).encode())
    intake, batch = taken([good])
    rows, _ = intake.resolver.plain(DECODER.plain([good, hot, good], [RECEIPT_US] * 3))
    assert len(rows) == 1
    assert batch.rows[0].value == 21.5


def test_names_not_seen_before_are_read_twice_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 200
    messages = [
        Delivery(TEMPERATURE, json.dumps(PLAIN | {"sensor_id": f"NEW-{number}"}).encode(), 2, 1)
        for number in range(count)
    ]
    read: list[bytes] = []

    def loads(payload: bytes) -> object:
        read.append(payload)
        return json.loads(payload)

    intake = intake_of()
    monkeypatch.setattr("orjson.loads", loads)
    intake.take_in(messages, NOW_US)
    assert len(read) <= 2 * count


def test_where_no_message_is_plain_none_is_copied_again_and_again() -> None:
    copied = 0

    class Turn(list[Delivery]):
        def __getitem__(self, at: Any) -> Any:  # noqa: ANN401 - as list's own
            nonlocal copied
            copied += len(range(*at.indices(len(self)))) if isinstance(at, slice) else 1
            return super().__getitem__(at)

    count = 2_000
    intake = intake_of()
    intake.take_in(Turn([Delivery(TEMPERATURE, b"21.5", 2, 1)] * count), NOW_US)
    assert intake.messages == count
    assert copied < 40 * count
