"""Which column holds what: by its heading, by the operator's word, by a constant."""

from __future__ import annotations

import pytest

from ingest.errors import ConfigurationError
from ingest.load.columns import Cells, Columns, read_mapping

NOTHING = Cells(None, None, None, None, None, None, None, None)


def row(header: str, cells: str, mapped: dict[str, str] | None = None, **constants: str) -> Cells:
    columns = Columns(mapped or {}, constants)
    return columns.of_row(cells.split(","), columns.places(header.split(","), "a.csv"))


def test_headings_are_found_in_any_case_and_the_exported_ones_first() -> None:
    assert row(" TIME ,Value,sensor,Sensor_ID", "t,v,s,id") == NOTHING._replace(
        time="t", value="v", sensor="id"
    )
    assert row("ts,value,type,greenhouse,tenant,unit,metadata,more", "t,v,ty,g,te,u,m,x") == Cells(
        "t", "v", None, "ty", "u", "g", "te", "m"
    )


def test_a_named_column_takes_the_place_of_the_headings() -> None:
    assert row("time,measured,value", "t,m,v", {"time": "Measured"}).time == "m"


def test_a_constant_stands_for_what_is_not_said() -> None:
    assert row("time,value,unit", "t,v,", unit="°C", greenhouse="01") == NOTHING._replace(
        time="t", value="v", unit="°C", greenhouse="01"
    )
    assert row("time,value,unit", "t,v,°F", unit="°C").unit == "°F"
    columns = Columns({}, {"unit": "°C"})
    assert columns.of_object({"ts": 0, "value": 0, "unit": None, "sensor_id": False}) == NOTHING._replace(
        time=0, value=0, unit="°C", sensor=False
    )


def test_every_fault_of_a_header_is_told() -> None:
    with pytest.raises(ConfigurationError) as caught:
        row("a,unit,unit", "1,2,3", {"time": "b"})
    assert [fault.partition(";")[0] for fault in caught.value.faults] == [
        "a.csv: --column time=b: its columns are a, unit, unit",
        "a.csv: no column for the value: say --column value=NAME",
        "a.csv: 2 columns are called 'unit'",
    ]


def test_columns_that_no_object_of_a_file_has_are_told() -> None:
    columns = Columns({"time": "at", "unit": "u"}, {})
    assert columns.unseen("empty.jsonl") == []
    columns.note({"at": 1, "Value": 2})
    assert columns.unseen("a.jsonl") == [
        "a.jsonl: no record has a value: say --column value=NAME; the first record has at, Value",
        "a.jsonl: --column unit=u: no record has 'u'",
    ]
    columns.note({"at": 1, "value": None})
    columns.note({"u": None})
    assert columns.unseen("b.jsonl") == []


def test_a_mapping_is_read() -> None:
    assert read_mapping(["time=ts", "sensor_id = Sonda", "Type=T=1"]) == {
        "time": "ts",
        "sensor": "Sonda",
        "sensor_type": "T=1",
    }
    with pytest.raises(ConfigurationError) as caught:
        read_mapping(["time", "colour=c", "time=a", "timestamp=b", "unit="])
    assert [fault.partition(": ")[0] for fault in caught.value.faults] == [
        "--column time",
        "--column colour=c",
        "--column timestamp=b",
        "--column unit=",
    ]
