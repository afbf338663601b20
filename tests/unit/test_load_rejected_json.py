"""JSON that a file of rejected records has to keep as it came, and cells as wide as metadata can be."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import pytest

from ingest.decode.payload import parse_payload
from ingest.load.tables import Rejects, Table
from ingest.model import Rejection

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "field",
    [b'"value": NaN', b'"value": -Infinity', b'"unit": "\\ud800"', b'"\\udcff": 1', b'"value": null'],
)
def test_a_rejected_object_is_no_other_one(tmp_path: Path, field: bytes) -> None:
    """A null would count as a reading of none when the file is imported again."""
    line = b'{"time": 1720000002, "sensor_id": "D1", %b}\n' % field
    source = tmp_path / "a.jsonl"
    source.write_bytes(line)
    table = Table(source, file_format=None, delimiter=None, max_depth=16)
    with Rejects(tmp_path / "r.jsonl", [table]) as rejects:
        for record in table.records():
            rejects.write(table, record, Rejection("", "bad_value", "why"))
    again = parse_payload((tmp_path / "r.jsonl").read_bytes(), 16)
    assert isinstance(again, dict)
    told = {name: again.pop(name) for name in tuple(again) if name.startswith("rejected_")}
    assert repr(again) == repr(parse_payload(line, 16))
    assert told["rejected_reason"] == "bad_value"


def test_a_cell_may_be_as_wide_as_a_line(tmp_path: Path) -> None:
    wide = '{"picture": "' + "x" * 400_000 + '"}'
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("time", "metadata"), ("1", wide), ("2", "{}")])
    table = Table(tmp_path / "a.csv", file_format=None, delimiter=None, max_depth=16)
    assert [(each.content, each.fault) for each in table.records()] == [
        (["1", wide], None),
        (["2", "{}"], None),
    ]
