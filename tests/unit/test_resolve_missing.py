"""What a refusal lacked: the same name for every spelling, known exactly when the message would pass."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.model import Decoded, Reading, Scope
from ingest.resolve import Catalog, Resolver, is_known
from ingest.resolve.missing import missing_name
from ingest.resolve.names import derived_sensor_id
from ingest.resolve.rows import Greenhouse, Sensor, SensorType, Tenant, Unit
from tests.unit.catalog_examples import (
    GREENHOUSES,
    SARA,
    SARA_01,
    SARA_02,
    SENSOR_TYPES,
    SENSORS,
    UNITS,
    default_rules,
    example_catalog,
    sensor,
)
from tests.unit.catalog_examples import TENANTS as EXAMPLE_TENANTS

NEW_TENANT, NEW_HOUSE, NEW_SENSOR, BARE = (UUID(int=0xD0 + number) for number in range(4))
UNREGISTERED = "5e0f2c7a-3d1b-4b6e-8c55-1f2e3d4c5b6a"


class Cure(NamedTuple):
    """A reading that is refused, the name it lacks, and the catalog rows that cure it."""

    scope: Scope
    missing: str
    sensor: str | None = "S"
    sensor_type: str | None = "temperature"
    unit: str | None = None
    tenants: tuple[Tenant, ...] = ()
    greenhouses: tuple[Greenhouse, ...] = ()
    sensors: tuple[Sensor, ...] = ()
    types: tuple[SensorType, ...] = ()
    type_aliases: tuple[tuple[str, int], ...] = ()
    units: tuple[Unit, ...] = ()
    unit_aliases: tuple[tuple[str, int], ...] = ()

    def catalog(self) -> Catalog:
        return Catalog.build(
            units=UNITS + self.units,
            sensor_types=SENSOR_TYPES + self.types,
            unit_aliases=self.unit_aliases,
            sensor_type_aliases=self.type_aliases,
            tenants=TENANTS + self.tenants,
            greenhouses=GREENHOUSES + self.greenhouses,
            sensors=SENSORS + self.sensors,
        )


TENANTS = (*EXAMPLE_TENANTS, Tenant(BARE, "Bare", "BARE", is_active=True))
HERE = Scope("reading", greenhouse=str(SARA_01))
FLUX = SensorType(20, "FLUX", 10, -1e9, 1e9)
TENANT = Tenant(NEW_TENANT, "New", "NEW", is_active=True)
HOUSE_OF_SARA = Greenhouse(NEW_HOUSE, SARA, "New-7", is_active=True)
NUMBERED = Greenhouse(NEW_HOUSE, SARA, "007", is_active=True)
IN_USE = Greenhouse(NEW_HOUSE, NEW_TENANT, "01", is_active=True)


CURES = {
    "type by name": Cure(HERE, "sensor_type * FLUX", sensor_type=" flux", types=(FLUX,)),
    "type by alias": Cure(
        HERE, "sensor_type * HUMEDAD_RELATIVA", sensor_type="Humedad-relativá", type_aliases=(
            ("humedad relativa", 2),
        ),
    ),
    "type of the topic": Cure(
        Scope("reading", greenhouse="A1", sensor_type="flux"), "sensor_type * FLUX", None, None, types=(FLUX,)
    ),
    "type of a registration": Cure(
        HERE, "sensor_type * EXTRACTOR", "STRANGE", None,
        types=(SensorType(20, "EXTRACTOR", 10, 0, 1e9),),
    ),
    "type of a rule": Cure(
        Scope("labels", tenant="SARA", greenhouse="01"), "sensor_type * WIND_SPEED", "WIND 01", None,
        types=(SensorType(7, "WIND_SPEED", 8, 0, 100),),
    ),
    "unit by alias": Cure(HERE, "unit * KELVIN", unit="Kelvin ", unit_aliases=(("kelvin", 1),)),
    "unit by symbol": Cure(
        Scope("reading", greenhouse=str(SARA_01)), "unit * KV", sensor_type="sensor", unit="kV",
        units=(Unit(30, "kV"),),
    ),
    "tenant": Cure(
        Scope("labels", tenant="NEW"), "tenant * NEW", "TEMP", None, tenants=(TENANT,), greenhouses=(IN_USE,)
    ),
    "greenhouse of anybody by code": Cure(
        Scope("reading", greenhouse="New-7"), "greenhouse * New-7", greenhouses=(HOUSE_OF_SARA,)
    ),
    "greenhouse of anybody by id": Cure(
        Scope("reading", greenhouse=str(NEW_HOUSE)), f"greenhouse * {NEW_HOUSE}",
        greenhouses=(HOUSE_OF_SARA,),
    ),
    "greenhouse of a tenant": Cure(
        Scope("labels", tenant="SARA", greenhouse="new-7"), f"greenhouse {SARA} NEW-7", "TEMP", None,
        greenhouses=(HOUSE_OF_SARA,),
    ),
    "greenhouse of a label": Cure(
        Scope("labels", tenant="SARA"), f"greenhouse_number {SARA} 7", "TEMP INVERNADERO 7", None,
        greenhouses=(NUMBERED,),
    ),
    "greenhouse of a new tenant": Cure(
        Scope("labels", tenant="BARE"), f"only_greenhouse {BARE} BARE", "TEMP", None,
        greenhouses=(Greenhouse(NEW_HOUSE, BARE, "01", is_active=True),),
    ),
    "label in a greenhouse": Cure(
        Scope("labels", tenant="SARA", greenhouse="01"), f"label {SARA_01} bomba_1", "BOMBA-1", None,
        sensors=(sensor(NEW_SENSOR, SARA_01, "B1", "SENSOR", label="Bomba 1"),),
    ),
    "label of a tenant": Cure(
        Scope("labels", tenant="SARA"), f"label {SARA} bomba_1", "BOMBA_1", None,
        sensors=(sensor(NEW_SENSOR, SARA_02, "B1", "SENSOR", label="BOMBA_1"),),
    ),
    "sensor by code": Cure(
        HERE, f"sensor {SARA_01} PT-9", "PT-9", None,
        sensors=(sensor(NEW_SENSOR, SARA_01, "PT-9", "SENSOR"),),
    ),
    "sensor by derived id": Cure(
        HERE, f"sensor {SARA_01} PT-9", "PT-9", None,
        sensors=(sensor(derived_sensor_id(SARA_01, "PT-9"), SARA_01, "P9", "SENSOR"),),
    ),
    "sensor by id": Cure(
        HERE, f"sensor {SARA_01} {UNREGISTERED}", UNREGISTERED, None,
        sensors=(sensor(UUID(UNREGISTERED), SARA_01, "P9", "SENSOR"),),
    ),
}  # fmt: skip


def resolve(cure: Cure, catalog: Catalog) -> tuple[int, set[str]]:
    """Give how many rows the reading becomes, and what it lacks."""
    reading = Reading("f", cure.sensor, cure.sensor_type or cure.scope.sensor_type, cure.unit, 1.0, 1, None)
    resolver = Resolver(catalog, default_rules(), out_of_range="quarantine")
    resolved = resolver.resolve(Decoded(cure.scope, [reading]))
    return len(resolved.rows), set(resolved.missing)


@pytest.mark.parametrize("name", CURES)
def test_what_is_missing_is_known_once_it_is_registered(name: str) -> None:
    cure = CURES[name]
    assert resolve(cure, Catalog.build(
        units=UNITS, sensor_types=SENSOR_TYPES, tenants=TENANTS, greenhouses=GREENHOUSES, sensors=SENSORS
    )) == (0, {cure.missing})  # fmt: skip
    assert not is_known(example_catalog(), cure.missing)
    assert is_known(cure.catalog(), cure.missing)
    assert resolve(cure, cure.catalog()) == (1, set())


def test_of_another_tenant_is_not_known() -> None:
    catalog = CURES["greenhouse of a tenant"].catalog()
    assert not is_known(catalog, f"greenhouse {NEW_TENANT} NEW-7")
    assert not is_known(catalog, f"greenhouse {NEW_TENANT} {NEW_HOUSE}")
    assert is_known(catalog, f"greenhouse {SARA} {NEW_HOUSE}")
    assert not is_known(catalog, "greenhouse * NEW-7")


def test_a_sensor_without_a_known_type_does_not_help() -> None:
    for sensor_type in (None, "EXTRACTOR"):
        untyped = example_catalog(sensor(NEW_SENSOR, SARA_01, "PT-9", sensor_type))
        assert not is_known(untyped, f"sensor {SARA_01} PT-9")


def test_what_no_catalog_can_hold_is_not_waited_for() -> None:
    assert missing_name("unit", "X" * 200) == f"unit * {'X' * 200}"
    assert missing_name("unit", "X" * 201) is None
    assert missing_name("unit", "nul \x00") is None
    assert missing_name("unit", "\ud800") is None
    assert missing_name("unit", "") is None


def test_what_only_the_message_could_say_is_not_waited_for() -> None:
    nothing = [
        Cure(Scope("reading", greenhouse=str(SARA_01)), "", None, None),
        Cure(Scope("labels"), "", "TEMP", None),
        Cure(HERE, "", "BOARD", None),
    ]
    assert [resolve(cure, example_catalog()) for cure in nothing] == [(0, set())] * 3


@given(st.text() | st.builds("{} {} {}".format, st.sampled_from(["unit", "label", "sensor", "greenhouse",
       "greenhouse_number", "tenant", "sensor_type", "x"]), st.sampled_from(["*", str(SARA), "?"]),
       st.text(st.characters(exclude_categories=["Cs"]))))  # fmt: skip
def test_any_text_has_an_answer(text: str) -> None:
    assert is_known(example_catalog(), text) in {True, False}
