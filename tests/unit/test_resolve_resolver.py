"""A message as a whole: the ledger, keys, metadata, policies, and the bounds of what is remembered."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.model import Decoded, Reading, Scope
from ingest.resolve import Resolver, resolver
from ingest.resolve.stored_metadata import UnstorableMetadata, stored_metadata
from tests.fuzzing import examples
from tests.unit.catalog_examples import (
    HYGROMETER,
    PROBE,
    SARA,
    SARA_01,
    default_rules,
    example_catalog,
    sensor,
)

if TYPE_CHECKING:
    from ingest.resolve.resolver import OutOfRange

CATALOG = example_catalog()
RULES = default_rules()
BATCH = Scope("readings", greenhouse=str(SARA_01))
FLAT = Scope("labels", tenant="SARA")


def reading(
    name: str | None = "X",
    value: float = 20.0,
    *,
    field: str = "",
    unit: str | None = None,
    time_us: int = 1,
    metadata: dict[str, Any] | None = None,
) -> Reading:
    return Reading(field, name, "temperature", unit, value, time_us, metadata)


def a_resolver(out_of_range: OutOfRange = "quarantine") -> Resolver:
    return Resolver(CATALOG, RULES, out_of_range=out_of_range)


names = st.one_of(
    st.none(),
    st.sampled_from(
        ["X", "OLD", "BOARD", str(PROBE), str(HYGROMETER), "SENSOR-07", "TEMPERATURA INVERNADERO 01", "TEMP"]
    ),
    st.text(st.characters(), max_size=20),
)
types = st.one_of(
    st.none(), st.sampled_from(["temperature", "Humedad", "co2", "sensor"]), st.text(max_size=5)
)
units = st.one_of(st.none(), st.sampled_from(["°C", "°F", "%", "lux", "percent"]), st.text(max_size=5))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
readings = st.lists(
    st.builds(
        Reading,
        st.text(max_size=5),
        names,
        types,
        units,
        st.floats(allow_nan=False, allow_infinity=False),
        st.integers(0, 3),
        st.none() | st.dictionaries(st.text(st.characters(), max_size=4), json_values, max_size=2),
    ),
    max_size=6,
)
scopes = st.one_of(
    st.none(),
    st.builds(
        Scope,
        st.sampled_from(["reading", "readings", "labels"]),
        st.sampled_from([None, "SARA", "HORTAMED", "CLOSED", "NOBODY", "\ud800"]),
        st.sampled_from([None, "01", "A1", "03", str(SARA_01), "\x00"]),
        types,
    ),
)


@settings(max_examples=examples(50), deadline=None)
@given(scopes, readings, st.sampled_from(["quarantine", "flag", "accept"]))
def test_never_raises_and_the_ledger_adds_up(
    scope: Scope | None, sent: list[Reading], policy: OutOfRange
) -> None:
    one = Resolver(CATALOG, RULES, out_of_range=policy)
    resolved = one.resolve(Decoded(scope, sent))
    assert len(resolved.rows) + len(resolved.rejections) == len(sent)
    keys = {
        (row.time_us, row.series.greenhouse_id, row.series.sensor_type_id, row.series.sensor_id)
        for row in resolved.rows
    }
    assert len(keys) == len(resolved.rows)
    for row in resolved.rows:
        if row.metadata is not None:
            assert isinstance(json.loads(row.metadata), dict)
    for rejection in resolved.rejections:
        assert "\x00" not in rejection.detail
        rejection.detail.encode()
    again = one.resolve(Decoded(scope, sent))  # now from what it remembers
    assert again.rejections == resolved.rejections
    assert [row[1:] for row in again.rows] == [row[1:] for row in resolved.rows]


def test_decode_rejections_are_not_copied() -> None:
    decoded = a_resolver().resolve(Decoded(BATCH, [], rejections=[], nulls=3))
    assert (decoded.rows, decoded.rejections, decoded.tenant_id) == ([], [], SARA)


def test_one_series_object_for_the_same_names() -> None:
    one = a_resolver()
    first, second = (one.resolve(Decoded(BATCH, [reading()])).rows[0].series for _ in range(2))
    assert first is second


def test_key_collision() -> None:
    sent = [
        reading("X", field="[0]"),
        reading("x", field="[1]"),  # another spelling of one sensor
        reading("X", unit="°F", field="[2]"),  # another unit is the same key
        reading("X", time_us=2, field="[3]"),
        reading("Y", field="[4]"),
    ]
    resolved = a_resolver().resolve(Decoded(BATCH, sent))
    assert [row.field for row in resolved.rows] == ["[0]", "[3]", "[4]"]
    assert [(r.field, r.reason) for r in resolved.rejections] == [
        ("[1]", "key_collision"),
        ("[2]", "key_collision"),
    ]


def test_rejected_reading_takes_no_key() -> None:
    resolved = a_resolver().resolve(Decoded(BATCH, [reading(value=6484.1), reading(value=21.0)]))
    assert [row.value for row in resolved.rows] == [21.0]
    assert [rejection.reason for rejection in resolved.rejections] == ["out_of_range"]


def test_out_of_range_policies() -> None:
    probe = Decoded(BATCH, [reading(str(PROBE), 6484.1)])
    (rejection,) = a_resolver("quarantine").resolve(probe).rejections
    assert rejection.detail == "6484.1 °C is outside -50..100 °C, the range of TEMPERATURE"
    (flagged,) = a_resolver("flag").resolve(probe).rows
    assert (flagged.value, flagged.metadata) == (6484.1, b'{"out_of_range":true}')
    (accepted,) = a_resolver("accept").resolve(probe).rows
    assert (accepted.value, accepted.metadata) == (6484.1, None)


def test_limits_are_believable_themselves() -> None:
    sent = [reading("A", -50.0), reading("B", 100.0), reading("C", -50.1), reading("D", 100.1)]
    assert len(a_resolver().resolve(Decoded(BATCH, sent)).rows) == 2


def test_metadata() -> None:
    one = a_resolver("flag")
    (row,) = one.resolve(Decoded(BATCH, [reading(str(PROBE), metadata={"battery": 3.3})])).rows
    assert row.metadata == b'{"battery":3.3}'
    (row,) = one.resolve(Decoded(BATCH, [reading("X", metadata={"device_code": "forged", "n": None})])).rows
    assert row.metadata == b'{"device_code":"X","n":null}'
    (row,) = one.resolve(Decoded(BATCH, [reading("X", 999.0, metadata={"out_of_range": False})])).rows
    assert row.metadata == b'{"out_of_range":true,"device_code":"X"}'


@pytest.mark.parametrize(
    "metadata",
    [
        {"a": "\x00"},
        {"\x00": 1},
        {"a": [{"b": "x\x00"}]},
        {"a": "\ud800"},
        {"\udfff": 1},
        {"a": float("nan")},
        {"a": [float("inf")]},
        {"a": 2**70, "b": "\x00"},
        {"a": 2**70, "b": float("nan")},
    ],
)
def test_metadata_jsonb_refuses(metadata: dict[str, Any]) -> None:
    resolved = a_resolver().resolve(Decoded(BATCH, [reading(metadata=metadata), reading("Y")]))
    (rejection,) = resolved.rejections
    assert rejection.reason == "bad_value"
    assert rejection.detail.startswith("metadata cannot be stored: ")
    assert len(resolved.rows) == 1


def test_metadata_jsonb_takes() -> None:
    assert stored_metadata({"a": "\\u0000", "b": None}) == b'{"a":"\\\\u0000","b":null}'
    assert stored_metadata({"a": 2**70, "b": "é"}) == '{"a":1180591620717411303424,"b":"é"}'.encode()


def test_metadata_nested_too_deep() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(UnstorableMetadata):
        stored_metadata({"a": deep})
    with pytest.raises(UnstorableMetadata):
        stored_metadata({"a": 10**5000})


def test_tenant_of_a_message_that_cannot_be_placed() -> None:
    closed = a_resolver().resolve(Decoded(Scope("labels", tenant="SARA", greenhouse="77"), [reading()]))
    assert closed.tenant_id == SARA
    assert a_resolver().resolve(Decoded(None, [reading()])).rejections[0].reason == "unknown_topic"


def test_only_what_the_catalog_may_come_to_know_is_missing() -> None:
    sent = [reading("A", unit="furlong"), reading("B", unit=" Furlong"), reading("C", unit="lux")]
    resolved = a_resolver().resolve(Decoded(BATCH, sent))
    assert [each.reason for each in resolved.rejections] == ["unknown_unit", "unknown_unit", "unit_mismatch"]
    assert resolved.missing == {"unit * FURLONG"}
    assert a_resolver().resolve(Decoded(BATCH, sent[2:])).missing == frozenset()


def test_what_is_remembered_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "CACHED_NAMES", 50)
    one = a_resolver()
    for number in range(500):
        resolved = one.resolve(Decoded(BATCH, [reading(f"{number}-{n}") for n in range(3)]))
        assert len(resolved.rows) == 3
        one.resolve(Decoded(Scope("labels", tenant=f"T{number}"), [reading(f"{number}")]))
        remembered = sum(1 + len(topic.known) + len(topic.refused) for topic in one._topics.values())  # noqa: SLF001 (its size is the point)
        assert remembered <= 50


def test_a_collision_is_seen_while_the_memory_is_emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "CACHED_NAMES", 2)
    sent = [reading(name) for name in ("A", "B", "C", "a", "b", "c", "A")]
    assert len(a_resolver().resolve(Decoded(BATCH, sent)).rows) == 3


def test_names_as_long_as_a_payload_are_not_remembered() -> None:
    one = a_resolver()
    for _ in range(2):
        assert len(one.resolve(Decoded(BATCH, [reading("X" * 100_000)])).rows) == 1
    assert [len(topic.known) for topic in one._topics.values()] == [0]  # noqa: SLF001 (as above)


def test_names_too_long_to_remember_do_not_grow_their_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "CACHED_NAMES", 50)
    resolving = a_resolver()
    long = "x" * (resolver.CACHED_NAME_CHARS + 1)
    for number in range(200):
        resolving.resolve(Decoded(BATCH, [reading(f"{long}{number}")]))
        assert sum(len(topic.slots) for topic in resolving._topics.values()) <= 51  # noqa: SLF001


def test_newer_catalog_knows_the_name() -> None:
    late = example_catalog(sensor(UUID(int=9), SARA_01, "LATE", "TEMPERATURE", "°F"))
    sent = Decoded(BATCH, [reading("LATE")])
    assert a_resolver().resolve(sent).rows[0].series.unit_id == 1
    assert Resolver(late, RULES, out_of_range="flag").resolve(sent).rows[0].series.unit_id == 2
    assert late.version != CATALOG.version
    assert example_catalog().version == CATALOG.version


def test_flat_map_of_the_installed_base() -> None:
    labels = [f"{name} INVERNADERO {n:02}" for n in (1, 2, 3) for name in ("TEMPERATURA", "HUMEDAD")]
    sent = [Reading(label, label, None, None, 20.0, 1, None) for label in [*labels, "RESERVA"]]
    resolved = a_resolver().resolve(Decoded(FLAT, sent))
    assert [row.field for row in resolved.rows] == labels[:4]
    assert [(r.field, r.reason) for r in resolved.rejections] == [
        (labels[4], "inactive"),
        (labels[5], "inactive"),
        ("RESERVA", "ambiguous_greenhouse"),
    ]
