"""Bytes to JSON values: what orjson refuses whole costs a single field only."""

from __future__ import annotations

import math

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.decode.payload import parse_payload
from ingest.decode.values import Fault
from tests.fuzzing import examples


def test_what_only_the_standard_library_reads() -> None:
    assert parse_payload(b'\xef\xbb\xbf{"a": 1}', 16) == {"a": 1}
    assert parse_payload(b'"\\ud800"', 16) == "\ud800"
    tree = parse_payload(b'{"a": NaN, "b": -Infinity, "c": 1e999, "d": 2}', 16)
    assert isinstance(tree, dict)
    assert math.isnan(tree.pop("a"))
    assert tree == {"b": -math.inf, "c": math.inf, "d": 2}


@pytest.mark.parametrize(
    "number", [b"18446744073709551615", b"18446744073709551616", b"-9223372036854775809", b"12" * 100]
)
def test_both_parsers_read_large_integers_alike(number: bytes) -> None:
    expected = orjson.loads(b"[" + number + b"]")
    tree = parse_payload(b"[" + number + b", NaN]", 16)
    assert isinstance(tree, list)
    assert tree[:1] == expected
    assert type(tree[0]) is type(expected[0])


def test_an_integer_of_many_digits_costs_its_field_only() -> None:
    assert parse_payload(b"[1, " + b"9" * 5000 + b"]", 16) == [1, math.inf]


@pytest.mark.parametrize(
    ("payload", "found"),
    [
        (b"hello", "not JSON"),
        (b"{'a': 1}", "not JSON"),
        (b"[1,]", "not JSON"),
        (b"1 2", "not JSON"),
        (b"0x10", "not JSON"),
        (b"\x00", "not JSON"),
        (b" ", "not JSON"),
        (b'"\xff"', "not UTF-8: byte 0xff at offset 1"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8: byte 0xff at offset 0"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"a":' * 20_000 + b"1" + b"}" * 20_000, "nested too deep"),
    ],
)
def test_what_is_no_json(payload: bytes, found: str) -> None:
    fault = parse_payload(payload, 16)
    assert isinstance(fault, Fault)
    assert found in fault
    assert len(fault) < 120


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}"), (b'[{"a":', b"}]")])
def test_the_depth_limit(opening: bytes, closing: bytes) -> None:
    per_pair = opening.count(b"[") + opening.count(b"{")
    pairs = 16 // per_pair
    assert not isinstance(parse_payload(opening * pairs + b"1" + closing * pairs, 16), Fault)
    too_deep = parse_payload(opening * (pairs + 1) + b"1" + closing * (pairs + 1), 16)
    assert isinstance(too_deep, Fault)
    assert "nested" in too_deep


def test_many_brackets_side_by_side_are_not_deep() -> None:
    assert parse_payload(orjson.dumps([{"value": [1]}] * 1000), 3) == [{"value": [1]}] * 1000
    assert parse_payload(b'"' + b"[" * 100 + b'"', 2) == "[" * 100


@settings(max_examples=examples(40), deadline=None)
@given(st.binary(max_size=40))
def test_no_bytes_raise(payload: bytes) -> None:
    parse_payload(payload, 16)
