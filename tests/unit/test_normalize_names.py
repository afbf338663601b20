"""What names in legacy rows stand for, and what the report makes of those that stand for nothing."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from ingest.operate.normalize_names import WHAT_TO_DO, Counted, LegacyNames, meaning
from ingest.operate.normalize_report import Report
from ingest.resolve.catalog import Catalog
from ingest.resolve.rows import Greenhouse, Sensor, SensorType, Tenant, Unit

TENANT = UUID(int=1)
GREENHOUSE = UUID(int=2)
OTHER_GREENHOUSE = UUID(int=3)
FAHRENHEIT_SENSOR = UUID(int=4)
BROKEN_SENSOR = UUID(int=5)
WHEN = datetime(2025, 11, 17, tzinfo=UTC)


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog.build(
        units=[Unit(1, "°C"), Unit(2, "°F"), Unit(3, "%")],
        sensor_types=[
            SensorType(1, "TEMPERATURE", 1, -50, 100),
            SensorType(2, "HUMIDITY", 3, 0, 100),
            SensorType(4, "SOIL_MOISTURE", 3, 0, 100),
            SensorType(11, "SENSOR", 3, -math.inf, math.inf),
        ],
        unit_aliases=[("C", 1), ("PERCENT", 3)],
        sensor_type_aliases=[("TEMPERATURA", 1)],
        tenants=[Tenant(TENANT, "Sara", "SARA", is_active=True)],
        greenhouses=[
            Greenhouse(GREENHOUSE, TENANT, "01", is_active=False),
            Greenhouse(OTHER_GREENHOUSE, TENANT, "02", is_active=True),
        ],
        sensors=[
            Sensor(FAHRENHEIT_SENSOR, GREENHOUSE, "T2", None, None, "temperatura", "°F", is_active=False),
            Sensor(BROKEN_SENSOR, GREENHOUSE, "X", None, None, "HUMIDITY", "°C", is_active=True),
        ],
    )


def names(
    sensor_type: str = "TEMPERATURE",
    unit: str = "°C",
    *,
    greenhouse_id: UUID = GREENHOUSE,
    tenant_id: UUID | None = None,
    sensor_type_id: int | None = None,
    unit_id: int | None = None,
    sensor_id: UUID | None = None,
) -> LegacyNames:
    return LegacyNames(greenhouse_id, tenant_id, sensor_type_id, unit_id, sensor_type, unit, sensor_id)


@pytest.mark.parametrize("written", ["TEMPERATURE", " temperature\t", "Temperatura", "TEMPERATURA "])
@pytest.mark.parametrize("unit", ["°C", "c", " C "])
def test_a_name_is_taken_in_any_spelling(catalog: Catalog, written: str, unit: str) -> None:
    meant = meaning(catalog, names(written, unit))
    assert (meant.tenant_id, meant.sensor_type_id, meant.unit_id) == (TENANT, 1, 1)
    assert meant.complete
    assert meant.unknown == ()


@pytest.mark.parametrize("written", ["TEMP2", "EXTRACTOR", "TEMPERATUR", "SENSOR 1", "-"])
def test_an_unknown_type_is_never_its_neighbour(catalog: Catalog, written: str) -> None:
    meant = meaning(catalog, names(written))
    assert meant.sensor_type_id is None
    assert meant.unit_id == 1
    assert meant.unknown == (("unknown_type", written),)
    assert not meant.complete


def test_an_unknown_unit_and_greenhouse_are_told_beside_each_other(catalog: Catalog) -> None:
    strange = UUID(int=99)
    meant = meaning(catalog, names(unit="bananas", greenhouse_id=strange))
    assert (meant.tenant_id, meant.sensor_type_id, meant.unit_id) == (None, 1, None)
    assert meant.unknown == (("unknown_greenhouse", str(strange)), ("unknown_unit", "bananas"))


@pytest.mark.parametrize(
    ("sensor_id", "greenhouse_id", "unit_id"),
    [
        (None, GREENHOUSE, 1),
        (UUID(int=77), GREENHOUSE, 1),
        (FAHRENHEIT_SENSOR, GREENHOUSE, 2),
        (FAHRENHEIT_SENSOR, OTHER_GREENHOUSE, 1),  # registered elsewhere: says nothing here
        (BROKEN_SENSOR, GREENHOUSE, 1),
    ],
)
def test_a_blank_unit_is_the_sensors_else_the_types(
    catalog: Catalog, sensor_id: UUID | None, greenhouse_id: UUID, unit_id: int
) -> None:
    meant = meaning(catalog, names(unit=" ", sensor_id=sensor_id, greenhouse_id=greenhouse_id))
    assert meant.unit_id == unit_id


def test_a_units_that_does_not_fit_is_not_taken_from_the_sensor(catalog: Catalog) -> None:
    assert meaning(catalog, names("HUMIDITY", "", sensor_id=BROKEN_SENSOR)).unit_id == 3


def test_a_blank_type_is_the_registered_sensors(catalog: Catalog) -> None:
    assert meaning(catalog, names("", "", sensor_id=FAHRENHEIT_SENSOR)).sensor_type_id == 1
    unregistered = meaning(catalog, names("", "", sensor_id=UUID(int=77)))
    assert (unregistered.sensor_type_id, unregistered.unit_id) == (None, None)
    assert unregistered.unknown == (("no_type", "(blank)"),)


def test_what_a_row_has_already_stays(catalog: Catalog) -> None:
    has = names("HUMIDITY", "%", sensor_type_id=1, unit_id=2, tenant_id=UUID(int=8))
    meant = meaning(catalog, has)
    assert (meant.tenant_id, meant.sensor_type_id, meant.unit_id) == (UUID(int=8), 1, 2)
    assert not meant.adds_to(has)


def test_what_is_added(catalog: Catalog) -> None:
    for row in (names("EXTRACTOR"), names(tenant_id=TENANT), names(sensor_type_id=1, tenant_id=TENANT)):
        assert meaning(catalog, row).adds_to(row)
    known = names("EXTRACTOR", "bananas", tenant_id=TENANT)
    assert not meaning(catalog, known).adds_to(known)


def test_the_report_adds_up_names_and_rows(catalog: Catalog) -> None:
    report = Report(dry_run=False, mapped=10, merged=2, differing=1, unmapped=7, pending=3, seconds=2.0)
    for number, rows in enumerate((3, 4)):
        moment = WHEN + timedelta(days=number)
        counted = Counted(names("EXTRACTOR", "°C" if number else "C"), rows, 0, moment, moment)
        report.note_unknown(counted, meaning(catalog, counted.names))
    (unknown,) = report.most_rows_first()
    assert (unknown.name, unknown.rows, unknown.first, unknown.last) == (
        "EXTRACTOR",
        7,
        WHEN,
        WHEN + timedelta(days=1),
    )
    assert unknown.what_to_do == WHAT_TO_DO["unknown_type"]
    assert report.found == 23
    assert report.rows_per_second == 6
    assert not report.clean
    assert report.as_json()["unknown"][0]["rows"] == 7
