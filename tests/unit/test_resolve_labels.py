"""Flat maps: which sensor a label is, and which greenhouse, and when nobody can tell."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID, uuid5

import pytest

from ingest.labels import LabelRules
from ingest.model import Decoded, Reading, Scope
from ingest.resolve import Resolver
from ingest.resolve.rows import Greenhouse
from ingest.settings import LabelRule
from tests.unit.catalog_examples import (
    HORTAMED,
    HORTAMED_A1,
    LABELLED,
    SARA,
    SARA_01,
    SARA_02,
    default_rules,
    example_catalog,
    sensor,
)
from tests.unit.resolved import reason, series

if TYPE_CHECKING:
    from ingest.model import Resolved
    from ingest.resolve import Catalog

SOLE = "HORTAMED"
"""A tenant with one active greenhouse; SARA has two."""


def resolve(
    label: str | None,
    *,
    tenant: str = "SARA",
    greenhouse: str | None = None,
    value: float = 1.0,
    catalog: Catalog | None = None,
    rules: LabelRules | None = None,
) -> Resolved:
    resolver = Resolver(catalog or example_catalog(), rules or default_rules(), out_of_range="quarantine")
    reading = Reading(label or "", label, None, None, value, 1, None)
    return resolver.resolve(Decoded(Scope("labels", tenant, greenhouse), [reading]))


@pytest.mark.parametrize(
    ("label", "sensor_type_id", "unit_id", "limits"),
    [
        ("TEMPERATURA INVERNADERO 01", 1, 1, (-50, 100)),
        ("HUMEDAD INVERNADERO 01", 2, 3, (0, 100)),
        ("INVERNADERO_01_SECTOR_04", 11, 10, (0, 100)),
        ("INVERNADERO_01_EXTRACTOR", 11, 10, (0, 1)),
        ("INVERNADERO 01 SUELO", 4, 3, (0, 100)),
    ],
)
def test_label_rules(label: str, sensor_type_id: int, unit_id: int, limits: tuple[float, float]) -> None:
    found = series(resolve(label))
    assert (found.sensor_type_id, found.unit_id) == (sensor_type_id, unit_id)
    assert (found.minimum, found.maximum) == limits
    assert (found.greenhouse_id, found.origin) == (SARA_01, {"label": label})


def test_derived_id_is_one_for_all_spellings() -> None:
    ids = {
        series(resolve(label)).sensor_id
        for label in (
            "TEMPERATURA INVERNADERO 01",
            "temperatura_invernadero-01",
            "Temperatura  Invernadero 01",
        )
    }
    assert ids == {uuid5(SARA_01, "temperatura_invernadero_01")}


def test_row_keeps_the_label() -> None:
    (row,) = resolve("TEMPERATURA INVERNADERO 01").rows
    assert row.metadata == b'{"label":"TEMPERATURA INVERNADERO 01"}'
    assert row.field == "TEMPERATURA INVERNADERO 01"


def test_registered_label() -> None:
    for label in ("SENSOR-07", "sensor_07", "Sensor 07"):
        found = series(resolve(label))
        assert (found.sensor_id, found.greenhouse_id) == (LABELLED, SARA_02)
        assert (found.sensor_type_id, found.unit_id, found.origin) == (1, 1, None)
    assert series(resolve("SENSOR-07", greenhouse="02")).sensor_id == LABELLED


def test_label_registered_in_another_greenhouse_than_the_topics() -> None:
    found = series(resolve("SENSOR-07", greenhouse="01"))
    assert (found.greenhouse_id, found.sensor_id) == (SARA_01, uuid5(SARA_01, "sensor_07"))


def test_label_registered_twice() -> None:
    twin = sensor(UUID(int=9), SARA_01, "TWIN", "HUMIDITY", label="SENSOR 07")
    catalog = example_catalog(twin)
    assert reason(resolve("SENSOR-07", catalog=catalog)) == "ambiguous_greenhouse"
    assert series(resolve("SENSOR-07", greenhouse="01", catalog=catalog)).sensor_id == twin.sensor_id


def test_label_moved_from_a_sensor_that_was_switched_off() -> None:
    old = sensor(UUID(int=9), SARA_01, "TWIN", "HUMIDITY", label="SENSOR 07", is_active=False)
    assert series(resolve("SENSOR-07", catalog=example_catalog(old))).sensor_id == LABELLED


def test_exact_label_before_alike() -> None:
    one = sensor(UUID(int=9), SARA_01, "ONE", "HUMIDITY", label="ROOF 1")
    two = sensor(UUID(int=10), SARA_01, "TWO", "HUMIDITY", label="ROOF_1")
    catalog = example_catalog(one, two)
    assert series(resolve("ROOF_1", catalog=catalog)).sensor_id == two.sensor_id
    assert reason(resolve("roof 1", catalog=catalog)) == "ambiguous_greenhouse"


def test_registered_label_that_is_switched_off() -> None:
    off = sensor(UUID(int=9), SARA_01, "OFF", "HUMIDITY", label="HUM 9", is_active=False)
    hidden = sensor(UUID(int=10), UUID(int=0xB2), "HIDDEN", "HUMIDITY", label="HUM 10")
    catalog = example_catalog(off, hidden)
    assert reason(resolve("HUM 9", catalog=catalog)) == "inactive"
    assert reason(resolve("HUM 10", catalog=catalog)) == "inactive"


def test_sensor_registered_under_the_derived_id_without_a_label() -> None:
    kept = sensor(uuid5(SARA_01, "temp_invernadero_01"), SARA_01, "KEPT", "HUMIDITY")
    found = series(resolve("TEMP INVERNADERO 01", catalog=example_catalog(kept)))
    assert (found.sensor_id, found.sensor_type_id, found.origin) == (kept.sensor_id, 2, None)


def test_no_rule() -> None:
    for label in ("TEMPORIZADOR", "BOMBA_01", "", None):
        assert reason(resolve(label, tenant=SOLE)) == "unknown_sensor_type"


def test_number_names_the_greenhouse() -> None:
    assert series(resolve("TEMPERATURA INVERNADERO 02")).greenhouse_id == SARA_02
    assert series(resolve("TEMPERATURA INVERNADERO 2")).greenhouse_id == SARA_02
    assert series(resolve("TEMPERATURA INVERNADERO 02", greenhouse="02")).greenhouse_id == SARA_02


def test_number_of_no_greenhouse_is_never_merged_into_another() -> None:
    # One gateway of three greenhouses whose tenant had registered one of them.
    for label in ("TEMPERATURA INVERNADERO 02", "INVERNADERO_03_EXTRACTOR"):
        assert reason(resolve(label, tenant=SOLE)) == "ambiguous_greenhouse"


def test_number_contradicts_the_topic() -> None:
    assert reason(resolve("TEMPERATURA INVERNADERO 02", greenhouse="01")) == "ambiguous_greenhouse"


def test_number_of_a_greenhouse_that_is_switched_off() -> None:
    assert reason(resolve("TEMPERATURA INVERNADERO 03")) == "inactive"


def test_number_that_two_codes_fit() -> None:
    alike = Greenhouse(UUID(int=9), SARA, "002", is_active=True)
    catalog = example_catalog(greenhouses=(alike,))
    assert series(resolve("TEMP INVERNADERO 02", catalog=catalog)).greenhouse_id == SARA_02
    assert reason(resolve("TEMP INVERNADERO 2", catalog=catalog)) == "ambiguous_greenhouse"


def test_topic_names_the_greenhouse() -> None:
    assert series(resolve("SENSOR_01", greenhouse="02")).greenhouse_id == SARA_02
    assert reason(resolve("SENSOR_01", greenhouse="77")) == "unknown_greenhouse"
    assert reason(resolve("SENSOR_01", greenhouse="03")) == "inactive"


def test_only_active_greenhouse() -> None:
    found = resolve("HORTAMED_TEMP_A1_01", tenant=SOLE, value=19.7)
    assert (series(found).greenhouse_id, found.tenant_id) == (HORTAMED_A1, HORTAMED)
    assert reason(resolve("SARA_TEMP01_valor")) == "ambiguous_greenhouse"


def test_tenant() -> None:
    assert reason(resolve("TEMP", tenant="NOBODY")) == "unknown_tenant"
    assert reason(resolve("TEMP", tenant="CLOSED")) == "inactive"


def test_rule_limits() -> None:
    assert reason(resolve("INVERNADERO_01_EXTRACTOR", value=2)) == "out_of_range"
    wide = LabelRules(
        [LabelRule(tokens=("T",), sensor_type="TEMPERATURA", unit="°F", minimum=-400, maximum=90)]
    )
    found = series(resolve("T", tenant=SOLE, rules=wide))
    assert (found.minimum, found.maximum) == (-58, 90)


def test_rule_that_names_what_the_catalog_lacks() -> None:
    unheard = LabelRules([LabelRule(tokens=("T",), sensor_type="FURLONGS", unit="°C")])
    assert reason(resolve("T", tenant=SOLE, rules=unheard)) == "unknown_sensor_type"
    no_unit = LabelRules([LabelRule(tokens=("T",), sensor_type="TEMPERATURE", unit="furlong")])
    assert reason(resolve("T", tenant=SOLE, rules=no_unit)) == "unknown_unit"


@pytest.mark.parametrize("label", ["TEMP\x00", "TEMP\ud800"])
def test_labels_postgresql_refuses(label: str) -> None:
    assert reason(resolve(label, tenant=SOLE)) == "bad_value"
