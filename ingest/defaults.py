"""What the installed gateways send, as data: the default routes and label rules.

The settings read these tuples when the configuration file names no `[[route]]` or
`[[label_rule]]` of its own; a new format is an entry here or in the file, never code.
Order matters in both: the first that matches wins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NotRequired, TypedDict

if TYPE_CHECKING:
    from ingest.model import PayloadFormat


class RouteData(TypedDict):
    """Keyword arguments of `RouteSettings`."""

    topic: str
    format: PayloadFormat
    tenant: NotRequired[str]


class LabelRuleData(TypedDict):
    """Keyword arguments of `LabelRule`; minimum and maximum are in the rule's unit."""

    tokens: tuple[str, ...]
    sensor_type: str
    unit: str
    minimum: NotRequired[float]
    maximum: NotRequired[float]


DEFAULT_ROUTES: tuple[RouteData, ...] = (
    {"topic": "greenhouse/{greenhouse}/sensors/{sensor_type}", "format": "reading"},
    {"topic": "greenhouse/{greenhouse}/readings", "format": "readings"},
    {"topic": "GREENHOUSE/{tenant}/{greenhouse_code}", "format": "labels"},
    {"topic": "GREENHOUSE/{tenant}", "format": "labels"},
    {"topic": "GREENHOUSE", "format": "labels", "tenant": "DEFAULT"},  # from before there were tenants
)

DEFAULT_LABEL_RULES: tuple[LabelRuleData, ...] = (
    # A set point is none of the sensors it sets, and soil humidity is not air humidity: these go first.
    {"tokens": ("SETPOINT",), "sensor_type": "SETPOINT", "unit": "value"},
    {"tokens": ("SOIL", "SUELO"), "sensor_type": "SOIL_MOISTURE", "unit": "%"},
    {"tokens": ("TEMP", "TEMPERATURA", "TEMPERATURE"), "sensor_type": "TEMPERATURE", "unit": "°C"},
    {"tokens": ("HUM", "HUMEDAD", "HUMIDITY"), "sensor_type": "HUMIDITY", "unit": "%"},
    {"tokens": ("LIGHT", "LUX", "LUZ"), "sensor_type": "LIGHT", "unit": "lux"},
    {"tokens": ("CO2",), "sensor_type": "CO2", "unit": "ppm"},
    {"tokens": ("PRES", "PRESION", "PRESSURE"), "sensor_type": "PRESSURE", "unit": "hPa"},
    {"tokens": ("WIND", "VIENTO"), "sensor_type": "WIND_SPEED", "unit": "m/s"},
    {"tokens": ("RAIN", "LLUVIA"), "sensor_type": "PRECIPITATION", "unit": "mm"},
    {"tokens": ("RAD", "SOLAR", "RADIACION"), "sensor_type": "SOLAR_RADIATION", "unit": "W/m²"},
    # An irrigation sector reports how far its valve is open, an extractor whether it runs.
    {"tokens": ("SECTOR",), "sensor_type": "SENSOR", "unit": "unit", "minimum": 0.0, "maximum": 100.0},
    {"tokens": ("EXTRACTOR",), "sensor_type": "SENSOR", "unit": "unit", "minimum": 0.0, "maximum": 1.0},
    {"tokens": ("SENSOR", "RESERVA"), "sensor_type": "SENSOR", "unit": "unit"},
)
