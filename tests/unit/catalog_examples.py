"""A small catalog for the tests: three tenants, the greenhouses and sensors of the installed base.

The catalog tables are those of `schema/metadata`, cut to what the tests name.
"""

from __future__ import annotations

import math
from uuid import UUID

from ingest.defaults import DEFAULT_LABEL_RULES
from ingest.labels import LabelRules
from ingest.resolve.catalog import Catalog
from ingest.resolve.rows import Greenhouse, Sensor, SensorType, Tenant, Unit
from ingest.settings import LabelRule

SARA, HORTAMED, CLOSED = (UUID(int=0xA0 + number) for number in range(3))
SARA_01, SARA_02, SARA_03, HORTAMED_A1, HORTAMED_01, CLOSED_C1 = (UUID(int=0xB0 + n) for n in range(6))
PROBE, HYGROMETER, LABELLED, SWITCHED_OFF, FAHRENHEIT, BOARD_TEMP, BOARD_HUM, STRANGE = (
    UUID(int=0xC0 + number) for number in range(8)
)

UNITS = tuple(
    Unit(unit_id, symbol)
    for unit_id, symbol in enumerate(
        ("°C", "°F", "%", "lux", "hPa", "ppm", "W/m²", "m/s", "mm", "unit", "value"), start=1
    )
)
SENSOR_TYPES = (
    SensorType(1, "TEMPERATURE", 1, -50, 100),
    SensorType(2, "HUMIDITY", 3, 0, 100),
    SensorType(3, "LIGHT", 4, 0, 200_000),
    SensorType(4, "SOIL_MOISTURE", 3, 0, 100),
    SensorType(5, "CO2", 6, 0, 5000),
    SensorType(10, "SETPOINT", 11, -math.inf, math.inf),
    SensorType(11, "SENSOR", 10, -math.inf, math.inf),
)
TENANTS = (
    Tenant(SARA, "Sara", "SARA", True),  # noqa: FBT003 (a row, its columns in order)
    Tenant(HORTAMED, "Hortamed", "HORTAMED", True),  # noqa: FBT003 (as above)
    Tenant(CLOSED, "Closed", "CLOSED", False),  # noqa: FBT003 (as above)
)
GREENHOUSES = (
    Greenhouse(SARA_01, SARA, "01", True),  # noqa: FBT003 (a row, its columns in order)
    Greenhouse(SARA_02, SARA, "02", True),  # noqa: FBT003 (as above)
    Greenhouse(SARA_03, SARA, "03", False),  # noqa: FBT003 (as above)
    Greenhouse(HORTAMED_A1, HORTAMED, "A1", True),  # noqa: FBT003 (as above)
    Greenhouse(HORTAMED_01, HORTAMED, "01", False),  # noqa: FBT003 (as above)
    Greenhouse(CLOSED_C1, CLOSED, "C1", True),  # noqa: FBT003 (as above)
)


def sensor(  # noqa: PLR0917 (a row, its columns in order)
    sensor_id: UUID,
    greenhouse_id: UUID,
    code: str,
    sensor_type: str | None,
    unit: str | None = None,
    device_id: str | None = None,
    label: str | None = None,
    *,
    is_active: bool = True,
) -> Sensor:
    return Sensor(sensor_id, greenhouse_id, code, device_id, label, sensor_type, unit, is_active)


SENSORS = (
    sensor(PROBE, SARA_01, "DHT22-SARA01-TEMP", "Temperatura", "°C"),
    sensor(HYGROMETER, SARA_02, "HYGRO", "HUMIDITY"),
    sensor(LABELLED, SARA_02, "ROOF", "TEMPERATURE", "°C", label="SENSOR-07"),
    sensor(SWITCHED_OFF, SARA_01, "OLD", "TEMPERATURE", is_active=False),
    sensor(FAHRENHEIT, SARA_01, "US-1", "TEMPERATURE", "°F"),
    sensor(BOARD_TEMP, SARA_01, "BOARD-T", "TEMPERATURE", "°C", device_id="BOARD"),
    sensor(BOARD_HUM, SARA_01, "BOARD-H", "HUMIDITY", "%", device_id="BOARD"),
    sensor(STRANGE, SARA_01, "STRANGE", "EXTRACTOR"),
)


def example_catalog(
    *extra_sensors: Sensor,
    greenhouses: tuple[Greenhouse, ...] = (),
    tenants: tuple[Tenant, ...] = (),
    types: tuple[SensorType, ...] = (),
) -> Catalog:
    """The example rows and whatever a test adds."""
    return Catalog.build(
        units=UNITS,
        sensor_types=SENSOR_TYPES + types,
        unit_aliases=[("CELSIUS", 1), ("FAHRENHEIT", 2), ("PERCENT", 3)],
        sensor_type_aliases=[("TEMPERATURA", 1), ("HUMEDAD", 2), ("HUMEDAD_DEL_SUELO", 4), ("CONSIGNA", 10)],
        tenants=TENANTS + tenants,
        greenhouses=GREENHOUSES + greenhouses,
        sensors=SENSORS + extra_sensors,
    )


def default_rules() -> LabelRules:
    return LabelRules([LabelRule.model_validate(rule) for rule in DEFAULT_LABEL_RULES])
