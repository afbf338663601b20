"""One message's bytes in, readings and rejections out: the shapes, the limits and the ledger."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.decode import IGNORED, Decoder, Routes
from ingest.defaults import DEFAULT_ROUTES
from ingest.model import ClockFault, Decoded, Reading
from ingest.settings import DecodeSettings, RouteSettings
from tests.fuzzing import examples
from tests.unit.examples import EXAMPLES, READING, RECEIPT_US, SENT_US, Example, default_decoder

DECODER = default_decoder()
SENSORS = "greenhouse/01/sensors/temperature"
BATCH = "greenhouse/01/readings"
FLAT = "GREENHOUSE/SARA"


def decode(topic: str, payload: object, decoder: Decoder = DECODER) -> Decoded:
    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    decoded = decoder.decode(topic, raw, RECEIPT_US)
    assert isinstance(decoded, Decoded)
    return decoded


def only_reading(decoded: Decoded) -> Reading:
    assert not decoded.rejections
    (reading,) = decoded.readings
    return reading


def rejected(decoded: Decoded) -> list[tuple[str, str]]:
    return [(rejection.field, rejection.reason) for rejection in decoded.rejections]


def with_limits(**limits: float) -> Decoder:
    limited = DecodeSettings.model_validate(limits)
    return Decoder(Routes([RouteSettings(**route) for route in DEFAULT_ROUTES], limited.ignore), limited)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_what_gateways_send(example: Example) -> None:
    decoded = DECODER.decode(example.topic, example.payload, RECEIPT_US)
    if example.ignored:
        assert decoded is IGNORED
        return
    assert isinstance(decoded, Decoded)
    assert [tuple(reading) for reading in decoded.readings] == [tuple(each) for each in example.readings]
    assert rejected(decoded) == list(example.rejections)
    assert decoded.nulls == example.nulls
    assert (decoded.scope is None) == (example.rejections == (("", "unknown_topic"),))
    if decoded.scope is not None:
        assert (decoded.scope.tenant, decoded.scope.greenhouse) == (example.tenant, example.greenhouse)


def test_a_reading_is_a_whole_reading() -> None:
    decoded = DECODER.decode(READING.topic, READING.payload, RECEIPT_US)
    assert isinstance(decoded, Decoded)
    (reading,) = decoded.readings
    assert type(reading) is Reading
    assert reading.time_us == SENT_US
    assert reading.metadata == {"battery": 3.61}


@pytest.mark.parametrize(
    ("given_id", "sensor"),
    [("", None), (None, None), (17, "17"), (8934000000000000001, "8934000000000000001"), (12.5, "12.5")],
)
def test_sensor_ids_that_can_be_used(given_id: object, sensor: str | None) -> None:
    assert only_reading(decode(SENSORS, {"sensor_id": given_id, "value": 1})).sensor == sensor


@pytest.mark.parametrize("given_id", [b"true", b"{}", b"[]", b"89340000000000000001", b"1e300", b"NaN"])
def test_sensor_ids_that_cannot(given_id: bytes) -> None:
    assert rejected(decode(SENSORS, b'{"value": 1, "sensor_id": ' + given_id + b"}")) == [("", "bad_value")]


def test_the_payloads_sensor_type_goes_before_the_topics() -> None:
    decoded = decode(SENSORS, {"value": 1, "sensor_type": "humidity"})
    assert only_reading(decoded).sensor_type == "humidity"
    assert decoded.scope is not None
    assert decoded.scope.sensor_type == "temperature"


@pytest.mark.parametrize("name", ["", None])
def test_an_empty_name_is_a_missing_one(name: str | None) -> None:
    reading = only_reading(decode(SENSORS, {"value": 1, "sensor_type": name, "unit": name}))
    assert (reading.sensor_type, reading.unit) == ("temperature", None)


@pytest.mark.parametrize("name", [False, 0, 7, [], {}])
def test_a_name_that_is_no_text(name: object) -> None:
    assert rejected(decode(SENSORS, {"value": 1, "unit": name})) == [("", "unknown_unit")]
    assert rejected(decode(SENSORS, {"value": 1, "sensor_type": name})) == [("", "unknown_sensor_type")]


@pytest.mark.parametrize(
    ("metadata", "kept"),
    [(None, None), ({}, None), ({"a": [1]}, {"a": [1]}), ("v1", {"metadata": "v1"}), (0, {"metadata": 0})],
)
def test_metadata(metadata: object, kept: object) -> None:
    assert only_reading(decode(SENSORS, {"value": 1, "metadata": metadata})).metadata == kept


def test_a_bad_time_costs_its_own_reading_only() -> None:
    decoded = decode(
        SENSORS, [{"value": 1, "timestamp": "yesterday"}, {"value": 2, "timestamp": True}, {"value": 3}]
    )
    assert rejected(decoded) == [("[0]", "bad_timestamp"), ("[1]", "bad_timestamp")]
    assert [reading.field for reading in decoded.readings] == ["[2]"]


def test_times_are_judged_against_now_or_a_range_of_their_own() -> None:
    payload = b'{"value": 1, "timestamp": "2024-01-01T00:00:00Z"}'
    new_year_us = 1_704_067_200_000_000
    assert rejected(decode(SENSORS, payload)) == [("", "bad_timestamp")]
    for decoded in (
        DECODER.decode(SENSORS, payload, RECEIPT_US, now_us=new_year_us + 1),
        DECODER.decode(SENSORS, payload, RECEIPT_US, time_range_us=(new_year_us, new_year_us)),
    ):
        assert isinstance(decoded, Decoded)
        assert only_reading(decoded).time_us == new_year_us


def test_the_edges_of_the_accepted_range() -> None:
    limits = DecodeSettings.model_validate({})
    oldest = RECEIPT_US - round(limits.max_age_s * 1e6)
    newest = RECEIPT_US + round(limits.max_future_s * 1e6)
    for time_us in (oldest, newest):
        assert only_reading(decode(SENSORS, {"value": 1, "timestamp": time_us})).time_us == time_us
    for time_us in (oldest - 1, newest + 1):
        assert rejected(decode(SENSORS, {"value": 1, "timestamp": time_us})) == [("", "bad_timestamp")]


@pytest.mark.parametrize(
    "payload",
    [{}, {"readings": None}, {"readings": {"value": 1}}, None, "text", True, {"timestamp": SENT_US}],
)
def test_what_is_no_batch(payload: object) -> None:
    assert rejected(decode(BATCH, payload)) == [("", "bad_payload")]


def test_an_empty_batch_holds_nothing_and_is_no_fault() -> None:
    for payload in (b"[]", b'{"readings": []}'):
        decoded = decode(BATCH, payload)
        assert (decoded.readings, decoded.rejections, decoded.nulls) == ([], [], 0)


def test_too_many_readings_are_rejected_as_one_message() -> None:
    decoder = with_limits(max_readings=3)
    flat = {"timestamp": SENT_US, "tenantId": 1, "A": 1, "B": 2, "C": 3}
    assert len(decode(FLAT, flat, decoder).readings) == 3
    assert rejected(decode(FLAT, flat | {"D": 4}, decoder)) == [("", "too_large")]
    assert len(decode(SENSORS, [1, 2, 3], decoder).readings) == 3
    for topic, payload in ((SENSORS, [1, 2, 3, 4]), (BATCH, {"readings": [1, 2, 3, 4]})):
        assert rejected(decode(topic, payload, decoder)) == [("", "too_large")]


def test_the_byte_limit() -> None:
    decoder = with_limits(max_payload_bytes=1024)
    assert len(decode(SENSORS, b"1" + b" " * 1023, decoder).readings) == 1
    decoded = decode(SENSORS, b"1" + b" " * 1024, decoder)
    assert rejected(decoded) == [("", "too_large")]
    assert "1025 bytes, the limit is 1024" in decoded.rejections[0].detail


def test_labels_keep_what_postgresql_can_store() -> None:
    decoded = decode(FLAT, b'{"A\\u0000B": 1, "\\ud800": "x", "": 3, "ESC\\u001b": 4}')
    assert [(reading.field, reading.sensor) for reading in decoded.readings] == [
        ("A\ufffdB", "A\0B"),
        ("ESC\x1b", "ESC\x1b"),
    ]
    assert rejected(decoded) == [("\ufffd", "bad_value"), ('""', "bad_value")]


def test_a_label_over_the_limit() -> None:
    decoder = with_limits(max_label_chars=16)
    decoded = decode(FLAT, {"A" * 16: 1, "B" * 17: 2}, decoder)
    assert [reading.field for reading in decoded.readings] == ["A" * 16]
    assert rejected(decoded) == [("B" * 16, "bad_value")]


def test_the_last_of_two_equal_keys_wins() -> None:
    assert only_reading(decode(FLAT, b'{"A": 1, "A": 2}')).value == 2.0


def test_details_name_the_fault_and_never_the_payload() -> None:
    secret = "x" * 5000
    decoded = decode(SENSORS, [{"value": secret}, {"value": 1, "timestamp": secret}, {"value": "\x1b[2J\0"}])
    for rejection in decoded.rejections:
        assert len(rejection.detail) < 200
        assert rejection.detail.isprintable()
    unknown = decode("x" * 5000, b"1").rejections[0].detail
    assert len(unknown) < 200


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=8)
    | st.sampled_from(["24,5", "ON", "2025-11-17T10:15:00Z", "1763374500", "20251117T101500"]),
    lambda children: (
        st.lists(children, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["value", "timestamp", "sensor_id", "unit", "metadata", "readings", "sensor_type"]
            )
            | st.text(st.characters(), max_size=4),
            children,
            max_size=5,
        )
    ),
    max_leaves=12,
)


def readings_in(topic: str, tree: object) -> int:
    """Count what a message holds, in a way that shares nothing with decode."""
    if topic == FLAT:
        return len(set(tree) - {"timestamp", "greenhouseId", "tenantId"}) if isinstance(tree, dict) else 1
    if topic == BATCH and isinstance(tree, dict) and isinstance(tree.get("readings"), list):
        return len(tree["readings"])
    return len(tree) if isinstance(tree, list) else 1


@settings(max_examples=examples(80), deadline=None)
@given(st.sampled_from([SENSORS, BATCH, FLAT]), JSON)
def test_every_reading_is_accounted_for(topic: str, tree: object) -> None:
    decoded = DECODER.decode(topic, json.dumps(tree).encode("utf-8", "surrogatepass"), RECEIPT_US)
    assert isinstance(decoded, Decoded)
    assert len(decoded.readings) + len(decoded.rejections) + decoded.nulls == readings_in(topic, tree)
    for text in [reading.field for reading in decoded.readings] + [
        text for rejection in decoded.rejections for text in (rejection.field, rejection.detail)
    ]:
        assert "\0" not in text
        assert type(text) in {str, ClockFault}
        text.encode()
    for reading in decoded.readings:
        assert type(reading.value) is float
        assert abs(reading.value) < float("inf")
        assert type(reading.time_us) is int


@settings(max_examples=examples(80), deadline=None)
@given(
    st.text(st.characters(), max_size=30) | st.sampled_from([SENSORS, BATCH, FLAT]),
    st.binary(max_size=60) | st.text('[]{}",:0123456789eE+-.\\u ntrfalsNI', max_size=60).map(str.encode),
)
def test_no_bytes_raise(topic: str, payload: bytes) -> None:
    decoded = DECODER.decode(topic, payload, RECEIPT_US)
    assert decoded is IGNORED or isinstance(decoded, Decoded)


def test_a_sensor_id_longer_than_any_device_has() -> None:
    assert only_reading(decode(SENSORS, {"sensor_id": "x" * 200, "value": 1})).sensor == "x" * 200
    assert rejected(decode(SENSORS, {"sensor_id": "x" * 201, "value": 1})) == [("", "bad_value")]
