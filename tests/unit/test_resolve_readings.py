"""Readings that name their greenhouse, sensor, type and unit: the rules of identity, one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID, uuid5

import pytest

from ingest.model import Decoded, PayloadFormat, Reading, Scope
from ingest.resolve import Resolver
from tests.unit.catalog_examples import (
    BOARD_HUM,
    BOARD_TEMP,
    CLOSED,
    FAHRENHEIT,
    HORTAMED,
    HORTAMED_A1,
    HYGROMETER,
    PROBE,
    SARA,
    SARA_01,
    SARA_02,
    SWITCHED_OFF,
    default_rules,
    example_catalog,
    sensor,
)
from tests.unit.resolved import reason, series

if TYPE_CHECKING:
    from ingest.model import Resolved
    from ingest.resolve import Catalog

UNREGISTERED = UUID("5e0f2c7a-3d1b-4b6e-8c55-1f2e3d4c5b6a")


def resolve(
    sensor_name: str | None = None,
    sensor_type: str | None = None,
    unit: str | None = None,
    *,
    greenhouse: str | None = str(SARA_01),
    topic_type: str | None = None,
    tenant: str | None = None,
    route: PayloadFormat = "reading",
    catalog: Catalog | None = None,
    value: float = 20.0,
) -> Resolved:
    resolver = Resolver(catalog or example_catalog(), default_rules(), out_of_range="quarantine")
    scope = Scope(route, tenant=tenant, greenhouse=greenhouse, sensor_type=topic_type)
    reading = Reading("", sensor_name, sensor_type or topic_type, unit, value, 1, None)
    return resolver.resolve(Decoded(scope, [reading]))


def test_registered_uuid() -> None:
    found = series(resolve(str(PROBE).upper(), "temperature"))
    assert (found.greenhouse_id, found.tenant_id, found.sensor_id) == (SARA_01, SARA, PROBE)
    assert (found.sensor_type_id, found.unit_id, found.minimum, found.maximum) == (1, 1, -50, 100)
    assert found.origin is None


def test_registered_uuid_gives_type_and_unit() -> None:
    found = series(resolve(str(FAHRENHEIT)))
    assert (found.sensor_type_id, found.unit_id, found.minimum, found.maximum) == (1, 2, -58, 212)


def test_uuid_of_another_greenhouse_is_foreign() -> None:
    assert reason(resolve(str(HYGROMETER), "humidity")) == "foreign_sensor"


def test_unregistered_uuid_is_taken_as_it_is() -> None:
    found = series(resolve(str(UNREGISTERED), "temperature"))
    assert (found.sensor_id, found.unit_id, found.origin) == (UNREGISTERED, 1, None)


def test_unregistered_uuid_needs_a_type() -> None:
    assert reason(resolve(str(UNREGISTERED))) == "unknown_sensor_type"


def test_sensor_code_then_device_id() -> None:
    assert series(resolve("DHT22-SARA01-TEMP", topic_type="temperature")).sensor_id == PROBE
    assert series(resolve("BOARD", topic_type="temperature")).sensor_id == BOARD_TEMP
    assert series(resolve("BOARD", "humedad")).sensor_id == BOARD_HUM


def test_device_code_that_leaves_the_type_open() -> None:
    assert reason(resolve("BOARD")) == "unknown_sensor_type"
    assert series(resolve("BOARD-H")).sensor_type_id == 2


def test_two_sensors_of_one_type_on_one_board_keep_the_derived_id() -> None:
    second = sensor(UUID(int=9), SARA_01, "BOARD-T2", "TEMPERATURE", device_id="BOARD")
    found = series(resolve("BOARD", "temperature", catalog=example_catalog(second)))
    assert found.sensor_id == uuid5(SARA_01, "board")
    assert found.origin == {"device_code": "BOARD"}


def test_a_replaced_sensor_on_the_same_board() -> None:
    old = sensor(UUID(int=9), SARA_01, "BOARD-T0", "TEMPERATURE", device_id="BOARD", is_active=False)
    assert series(resolve("BOARD", "temperature", catalog=example_catalog(old))).sensor_id == BOARD_TEMP


def test_registered_type_differs() -> None:
    assert reason(resolve("DHT22-SARA01-TEMP", "humidity")) == "type_mismatch"
    assert reason(resolve("BOARD", "co2")) == "type_mismatch"
    assert reason(resolve(str(PROBE), "humidity")) == "type_mismatch"


def test_topic_and_payload_types() -> None:
    assert series(resolve("X", "Temperatura", topic_type="temperature")).sensor_type_id == 1
    assert reason(resolve("X", "humidity", topic_type="temperature")) == "type_mismatch"
    assert reason(resolve("X", "furlongs", topic_type="temperature")) == "unknown_sensor_type"
    assert reason(resolve("X", "humidity", topic_type="furlongs")) == "unknown_sensor_type"


def test_code_of_another_greenhouse_is_derived() -> None:
    found = series(resolve("HYGRO", "humidity"))
    assert found.sensor_id == uuid5(SARA_01, "hygro")
    assert found.origin == {"device_code": "HYGRO"}


def test_nothing_named_but_the_type() -> None:
    for name in (None, "", "  "):
        found = series(resolve(name, "Temperatura"))
        assert (found.sensor_id, found.origin) == (uuid5(SARA_01, "temperature"), None)
    assert reason(resolve()) == "unknown_sensor_type"


def test_sensor_registered_under_its_derived_id() -> None:
    kept = sensor(uuid5(SARA_01, "esp32_7"), SARA_01, "NORTH", "TEMPERATURE", "°F")
    catalog = example_catalog(kept)
    found = series(resolve("ESP32-7", "temperature", catalog=catalog))
    assert (found.sensor_id, found.unit_id, found.origin) == (kept.sensor_id, 2, None)
    assert reason(resolve("ESP32-7", "humidity", catalog=catalog)) == "type_mismatch"
    elsewhere = sensor(uuid5(SARA_01, "esp32_7"), SARA_02, "NORTH", "TEMPERATURE")
    assert reason(resolve("ESP32-7", "temperature", catalog=example_catalog(elsewhere))) == "foreign_sensor"


@pytest.mark.parametrize("name", ["a\x00b", "\ud800", "é\udfff"])
def test_names_postgresql_refuses(name: str) -> None:
    resolved = resolve(name, "temperature")
    assert reason(resolved) == "bad_value"
    resolved.rejections[0].detail.encode()


def test_sensor_registered_with_an_unknown_type() -> None:
    assert reason(resolve("STRANGE")) == "unknown_sensor_type"
    assert reason(resolve("STRANGE", "temperature")) == "unknown_sensor_type"


def test_sensor_registered_without_a_type_takes_the_readings() -> None:
    blank = sensor(UUID(int=9), SARA_01, "BLANK", None)
    assert series(resolve("BLANK", "co2", catalog=example_catalog(blank))).sensor_type_id == 5


def test_inactive() -> None:
    assert reason(resolve("OLD", "temperature")) == "inactive"
    assert reason(resolve(str(SWITCHED_OFF), "temperature")) == "inactive"
    assert reason(resolve("X", "temperature", greenhouse="03")) == "inactive"
    closed = resolve("X", "temperature", greenhouse="C1")
    assert (reason(closed), closed.tenant_id) == ("inactive", CLOSED)


def test_units() -> None:
    assert series(resolve("X", "temperature", "fahrenheit")).unit_id == 2
    assert series(resolve("DHT22-SARA01-TEMP", "temperature", " ")).unit_id == 1
    assert reason(resolve("X", "temperature", "furlong")) == "unknown_unit"
    assert reason(resolve("X", "co2", "%")) == "unit_mismatch"
    assert reason(resolve("X", "temperature", "lux")) == "unit_mismatch"
    assert series(resolve("X", "setpoint", "°C")).unit_id == 1
    assert series(resolve("X", "sensor", "%")).unit_id == 3


def test_unit_the_sensor_is_registered_with_must_fit() -> None:
    wrong = sensor(UUID(int=9), SARA_01, "WRONG", "CO2", "%")
    unheard = sensor(UUID(int=10), SARA_01, "UNHEARD", "CO2", "furlong")
    catalog = example_catalog(wrong, unheard)
    assert reason(resolve("WRONG", "co2", catalog=catalog)) == "unit_mismatch"
    assert reason(resolve("UNHEARD", "co2", catalog=catalog)) == "unknown_unit"
    assert series(resolve("UNHEARD", "co2", "ppm", catalog=catalog)).unit_id == 6


def test_range_follows_the_unit() -> None:
    assert series(resolve("X", "temperature", "°F", value=150)).unit_id == 2
    assert reason(resolve("X", "temperature", "°C", value=150)) == "out_of_range"
    assert reason(resolve("X", "temperature", "°F", value=6484.1)) == "out_of_range"
    assert series(resolve("X", "setpoint", "°C", value=-400)).minimum < -400


def test_greenhouse_by_code() -> None:
    assert series(resolve("X", "co2", greenhouse="A1")).greenhouse_id == HORTAMED_A1
    for alike in (" A1", "A1 ", "a1", "\uff211", "A1\u200b"):
        assert reason(resolve("X", "co2", greenhouse=alike)) == "unknown_greenhouse"
    assert reason(resolve("X", "co2", greenhouse="99")) == "unknown_greenhouse"
    assert reason(resolve("X", "co2", greenhouse=str(UNREGISTERED))) == "unknown_greenhouse"
    assert reason(resolve("X", "co2", greenhouse="01")) == "ambiguous_greenhouse"


def test_greenhouse_of_a_tenant() -> None:
    assert series(resolve("X", "co2", tenant="HORTAMED", greenhouse=" a1")).greenhouse_id == HORTAMED_A1
    found = resolve("X", "co2", tenant="HORTAMED", greenhouse="A1")
    assert (series(found).greenhouse_id, found.tenant_id) == (HORTAMED_A1, HORTAMED)
    assert series(resolve("X", "co2", tenant="SARA", greenhouse=str(SARA_02))).greenhouse_id == SARA_02
    unknown = resolve("X", "co2", tenant="SARA", greenhouse=str(HORTAMED_A1))
    assert (reason(unknown), unknown.tenant_id) == ("unknown_greenhouse", SARA)


def test_tenant() -> None:
    assert reason(resolve("X", "co2", tenant="NOBODY", greenhouse="01")) == "unknown_tenant"
    assert reason(resolve("X", "co2", tenant="sara", greenhouse="01")) == "unknown_tenant"
    assert reason(resolve("X", "co2", tenant=None, greenhouse=None)) == "unknown_tenant"
    assert series(resolve("X", "co2", tenant="HORTAMED", greenhouse=None)).greenhouse_id == HORTAMED_A1
    assert reason(resolve("X", "co2", tenant="SARA", greenhouse=None)) == "ambiguous_greenhouse"
