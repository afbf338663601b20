"""Whatever gateways send to a recorder that anonymises, what it remembers of names stays small."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import orjson

from ingest.load import pseudonyms
from ingest.load.recording import Recorded
from tests.unit.test_anonymise import anonymiser

if TYPE_CHECKING:
    import pytest

MIB = 1 << 20


def test_texts_and_long_names_are_not_remembered() -> None:
    made = anonymiser()
    tracemalloc.start()
    try:
        for number in range(200):
            long = f"{number:06}" * 1_000
            reading = {"sensor_id": "CAM", "value": 1, "metadata": {"picture": long}, "unit": "lx"}
            properties = {"user_properties": [["picture", long]]}
            for topic in ("greenhouse/A1/sensors/light", f"greenhouse/{long}/readings", f"nowhere/{long}"):
                made.message(Recorded(number, topic, orjson.dumps(reading), properties=properties))
        kept_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept_bytes < MIB // 2  # of 2 MB of names and texts


def test_a_name_that_was_forgotten_gets_the_same_one_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pseudonyms, "_REMEMBERED", 10)
    made, other = anonymiser(), anonymiser()
    messages = [
        Recorded(1, f"greenhouse/{name}/sensors/light", b'{"sensor_id": "%b", "value": 1}' % name.encode())
        for name in ("A1", "B" * 300, *map(str, range(50)), "A1", "B" * 300)
    ]
    found = [made.message(each) for each in messages]
    assert found[:2] == found[-2:]
    assert found == [other.message(each) for each in messages]
    assert len(set(found)) == len(messages) - 2
