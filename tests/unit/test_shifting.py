"""Times moved: what is decoded then is what was decoded before, later by as much, in the same spelling."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingest.decode import IGNORED, Decoder, Routes
from ingest.load.shifting import shifted
from ingest.settings import DecodeSettings, Settings
from tests.fuzzing import examples

if TYPE_CHECKING:
    from ingest.model import Decoded, PayloadFormat

HOUR_US = 3_600_000_000
SINGLE = "greenhouse/A1/sensors/temperature"
BATCH = "greenhouse/A1/readings"
FLAT = "GREENHOUSE/SARA"
FORMATS: dict[str, PayloadFormat] = {SINGLE: "reading", BATCH: "readings", FLAT: "labels"}
WHENEVER = (-(2**62), 2**62)
DECODER = Decoder(Routes(Settings().route, ()), DecodeSettings())


def decoded(topic: str, payload: bytes) -> Decoded:
    found = DECODER.decode(topic, payload, -1, time_range_us=WHENEVER)
    assert found is not IGNORED
    return found


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("1764147600", "1764151200"),
        ("1764147600.25", "1764151200.25"),
        ("1764147600.250", "1764151200.250"),
        ("1.7641476e9", "1764151200"),
        ("1764147600123", "1764151200123"),
        ("1764147600123456", "1764151200123456"),
        ('"1764147600"', '"1764151200"'),
        ('" 1764147600123 "', '" 1764151200123 "'),
        ('"2025-11-17T23:15:00Z"', '"2025-11-18T00:15:00Z"'),
        ('"2025-11-17T10:15:00.5+02:00"', '"2025-11-17T11:15:00.5+02:00"'),
        ('"2025-11-17 10:15:00,123456789"', '"2025-11-17 11:15:00,123456789"'),
        ('"2025-11-17t10:15z"', '"2025-11-17t11:15z"'),
        ('"2025-12-31T23:30"', '"2026-01-01T00:30"'),
        ('"20251117T101500Z"', '"2025-11-17T11:15:00+00:00"'),
        ('"2025-11-17T10:15:00\\u005a"', '"2025-11-17T11:15:00Z"'),
        (f'"{"0" * 5_000}1764147600"', '"1764151200"'),
        ("1" * 4_301, "1" * 4_301),
        (f"{'1' * 4_301}\\", f"{'1' * 4_301}\\"),
        ("null", "null"),
        ("true", "true"),
        ('"yesterday"', '"yesterday"'),
        ('"2025-11-17"', '"2025-11-17"'),
        ("1e30", "1e30"),
        ("86400", "86400"),
        ('"1970-01-01T00:10:00Z"', '"1970-01-01T00:10:00Z"'),
    ],
)
def test_each_spelling_stays(before: str, after: str) -> None:
    payload = '{"value": 24.30, "timestamp" : %s ,"unit":"°C"}'
    assert shifted((payload % before).encode(), "reading", HOUR_US).decode() == payload % after


def test_only_what_the_decoder_takes_for_a_time_is_moved() -> None:
    old, new = 1764147600, 1764151200
    single = '{"metadata": {"timestamp": 1764147600}, "note": "\\"timestamp\\": 1764147600", "timestamp": %d}'
    assert shifted((single % old).encode(), "reading", HOUR_US).decode() == single % new
    listed = '[{"value": 1, "timestamp": %d}, 3, [{"timestamp": 1764147600}], {"value": 2, "timestamp": %d}]'
    assert shifted((listed % (old, old)).encode(), "reading", HOUR_US).decode() == listed % (new, new)
    batch = '{"timestamp": %d, "readings": [{"timestamp": %d}], "others": [{"timestamp": 1764147600}]}'
    assert shifted((batch % (old, old)).encode(), "readings", HOUR_US).decode() == batch % (new, new)
    flat = '{"timestamp": %d, "readings": [{"timestamp": 1764147600}], "SENSOR_01": 1764147600}'
    assert shifted((flat % old).encode(), "labels", HOUR_US).decode() == flat % new
    escaped = '{"a": "\\\\", "\\u0074imestamp": %d}'
    assert shifted((escaped % old).encode(), "reading", HOUR_US).decode() == escaped % new


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"24.5",
        b'\xff"timestamp": 1764147600',
        b'"timestamp"',
        b'{"timestamp"',
        b"}{",
        b"[" * 9,
        b"{%b\\:1}" % (b"1" * 4_301),
    ],
)
def test_what_is_no_json_stays_or_is_at_least_survived(payload: bytes) -> None:
    assert shifted(payload, "reading", HOUR_US) == payload


@pytest.mark.parametrize(
    "payload",
    [
        '{"timestamp": "' + '\\"' * 130_000,
        '{"timestamp": "' + "\\" * 260_001,
        '{"timestamp":' + "[{" * 60_000 + '"timestamp":1764147600,' * 6_000,
        '{"timestamp":"' * 18_000,
    ],
)
def test_what_is_made_to_take_long_takes_no_longer(payload: str) -> None:
    began_s = time.process_time()
    assert shifted(payload.encode(), "reading", HOUR_US) == payload.encode()
    assert time.process_time() - began_s < 2  # 0.1 s; quadratic, it is minutes


TIMES: st.SearchStrategy[object] = st.one_of(
    st.integers(1_500_000_000, 1_900_000_000),
    st.integers(1_500_000_000_000, 1_900_000_000_000),
    st.decimals(1_500_000_000, 1_900_000_000, places=3).map(float),
    st.datetimes()
    .filter(lambda moment: 1971 < moment.year < 9000)
    .map(lambda moment: f"{moment.isoformat()}Z"),
    st.sampled_from([None, "", "soon", [], -5, True]),
)
YEAR_1971_US = 31_536_000_000_000
"""Before it a clock is one that was never set: such a time stays."""
NESTED = st.recursive(
    st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=5), st.none()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["timestamp", "readings", "x", "[", '"']), inner, max_size=3),
    ),
    max_leaves=8,
)
READINGS = st.fixed_dictionaries(
    {"value": st.floats(-1e6, 1e6)},
    optional={"timestamp": TIMES, "metadata": NESTED, "sensor_type": st.just("x")},
)
PAYLOADS = st.one_of(
    READINGS,
    st.lists(st.one_of(READINGS, NESTED), max_size=4),
    st.fixed_dictionaries({"readings": st.lists(READINGS, max_size=3)}, optional={"timestamp": TIMES}),
    st.dictionaries(st.sampled_from(["timestamp", "SENSOR_01", "a b"]), st.one_of(TIMES, NESTED), max_size=3),
)


@settings(max_examples=examples(150))
@example(tree={"SENSOR_01": 1.5, "timestamp": 0.0}, topic=FLAT, indent=None)
@given(tree=PAYLOADS, topic=st.sampled_from([SINGLE, BATCH, FLAT]), indent=st.sampled_from([None, 1]))
def test_decoded_it_is_the_same_and_later(tree: object, topic: str, indent: int | None) -> None:
    payload = json.dumps(tree, indent=indent).encode()
    before, after = decoded(topic, payload), decoded(topic, shifted(payload, FORMATS[topic], HOUR_US))
    later = [
        reading
        if reading.time_us == -1 or 0 <= reading.time_us < YEAR_1971_US
        else reading._replace(time_us=reading.time_us + HOUR_US)
        for reading in before.readings
    ]
    assert list(after.readings) == later
    assert [each.field for each in after.rejections] == [each.field for each in before.rejections]
    assert after.nulls == before.nulls
