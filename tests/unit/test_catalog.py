"""Entries of `ingest catalog import`: every fault named with its place, before any database."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from ingest.errors import ConfigurationError
from ingest.operate.catalog_entries import (
    AliasEntry,
    AliasKind,
    GreenhouseEntry,
    SensorEntry,
    TenantEntry,
    checked,
    read_entries,
)

if TYPE_CHECKING:
    from pathlib import Path

NESTED = {
    "aliases": [{"kind": "unit", "alias": "grad", "name": "°C"}],
    "tenants": [
        {
            "name": "Sara",
            "prefix": "SARA",
            "greenhouses": [
                {"code": "01", "sensors": [{"sensor_type": "TEMPERATURE", "label": "TEMP 01"}]},
                {"code": "02", "name": "South", "timezone": "Europe/Lisbon"},
            ],
        }
    ],
}


def written(tmp_path: Path, text: str, name: str = "catalog.json") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_nested_json(tmp_path: Path) -> None:
    entries, faults = read_entries(written(tmp_path, json.dumps(NESTED)))
    assert faults == []
    assert entries == [
        ("tenants[0]", TenantEntry(name="Sara", prefix="SARA")),
        ("tenants[0].greenhouses[0]", GreenhouseEntry(tenant="SARA", code="01")),
        (
            "tenants[0].greenhouses[1]",
            GreenhouseEntry(tenant="SARA", code="02", name="South", timezone="Europe/Lisbon"),
        ),
        ("aliases[0]", AliasEntry(kind=AliasKind.UNIT, alias="grad", name="°C")),
        (
            "tenants[0].greenhouses[0].sensors[0]",
            SensorEntry(tenant="SARA", greenhouse="01", sensor_type="TEMPERATURE", label="TEMP 01"),
        ),
    ]


def test_every_fault_at_once(tmp_path: Path) -> None:
    document = {
        "tenants": [
            {"name": "Sara", "prefix": "sara"},
            {"prefix": "B", "greenhouses": [{"code": "a/b", "colour": 1}, 7]},
            {"name": "C", "prefix": "C", "greenhouses": 5},
        ],
        "sensors": [{"tenant": "C", "greenhouse": "1", "sensor_type": "CO2", "label": "A\x00"}],
        "greenhouses": [{"tenant": "C", "code": "1", "timezone": "Mars/Olympus"}],
    }
    entries, faults = read_entries(written(tmp_path, json.dumps(document)))
    places = [fault.split(": ")[0] for fault in faults]
    assert places == [
        "tenants[0].prefix",
        "tenants[1].name",
        "tenants[1].greenhouses[0].code",
        "tenants[1].greenhouses[0].colour",
        "tenants[1].greenhouses[1]",
        "tenants[2].greenhouses",
        "sensors[0].label",
        "greenhouses[0].timezone",
    ]
    assert [place for place, _ in entries] == ["tenants[2]"]


def test_csv_of_each_kind(tmp_path: Path) -> None:
    for text, entry in (
        ("prefix,name,email\nSARA,Sara,\n", TenantEntry(name="Sara", prefix="SARA")),
        (
            "tenant;code;name\nSARA;01;North, upper\n",
            GreenhouseEntry(tenant="SARA", code="01", name="North, upper"),
        ),
        (
            "kind,alias,name\nunit,grad,°C\n",
            AliasEntry(kind=AliasKind.UNIT, alias="grad", name="°C"),
        ),
        (
            "tenant,greenhouse,sensor_type,label,expected_interval_s\nSARA,01,CO2,CO2 01,10\n",
            SensorEntry(
                tenant="SARA", greenhouse="01", sensor_type="CO2", label="CO2 01", expected_interval_s=10
            ),
        ),
    ):
        entries, faults = read_entries(written(tmp_path, "\ufeff" + text, "catalog.csv"))
        assert (entries, faults) == ([("line 2", entry)], [])


def test_csv_faults(tmp_path: Path) -> None:
    text = "tenant,code\nSARA,01\nsara,02\nSARA\n\nSARA,03,extra\n"
    entries, faults = read_entries(written(tmp_path, text, "catalog.csv"))
    assert [place for place, _ in entries] == ["line 2"]
    assert [fault.split(": ")[0] for fault in faults] == ["line 3.tenant", "line 4.code", "line 6"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.json", b"{", "is not JSON"),
        ("a.json", b"[]", "must be an object"),
        ("a.json", b'{"houses": []}', "must be an object"),
        ("a.json", b"[" * 100_000, "is not JSON"),
        ("a.csv", b"colour,size\n1,2\n", "fits no kind"),
        ("a.csv", b"", "fits no kind"),
        ("a.csv", b'tenant,code\n"SARA,01\n', "line"),
        ("a.txt", b"", "neither"),
        ("a.json", b"\xff", "UTF-8"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=says):
        read_entries(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_entries(tmp_path / "none.json")


def test_codes_a_topic_cannot_carry() -> None:
    for code in ("a/b", "+", "5e0f2c7a-3d1b-4b6e-8c55-1f2e3d4c5b6a", " ", "x" * 51):
        with pytest.raises(ConfigurationError):
            checked(GreenhouseEntry, {"tenant": "SARA", "code": code})
