"""What gateways really send, as data: one Example for each format and each way it goes wrong.

Decode's own tests check every field of it; other tests take the topics and payloads as traffic.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from ingest.decode import Decoder, Routes
from ingest.defaults import DEFAULT_ROUTES
from ingest.settings import DecodeSettings, RouteSettings

if TYPE_CHECKING:
    from ingest.model import Reason

RECEIPT_US = 1_763_374_560_000_000
"""2025-11-17T10:16:00Z, when every example is received."""

SENT_US = 1_763_374_500_000_000
"""2025-11-17T10:15:00Z, the time most examples carry."""

SARA_GREENHOUSE = "0b0c6f3e-8f7a-4c1e-9a44-8a1d0e6c2f01"
SENSOR = "5e0f2c7a-3d1b-4b6e-8c55-1f2e3d4c5b6a"


class Expected(NamedTuple):
    """One reading as decode should give it."""

    field: str
    sensor: str | None
    sensor_type: str | None
    unit: str | None
    value: float
    time_us: int = RECEIPT_US
    metadata: dict[str, object] | None = None


class Example(NamedTuple):
    """A message and what decode makes of it; `ignored` means it is not ours."""

    name: str
    topic: str
    payload: bytes
    tenant: str | None = None
    greenhouse: str | None = None
    readings: tuple[Expected, ...] = ()
    rejections: tuple[tuple[str, Reason], ...] = ()
    nulls: int = 0
    ignored: bool = False


def default_decoder() -> Decoder:
    """Make a Decoder with the routes, filters and limits a worker has without a configuration."""
    settings = DecodeSettings.model_validate({})
    routes = Routes([RouteSettings(**route) for route in DEFAULT_ROUTES], settings.ignore)
    return Decoder(routes, settings)


def _labels(**values: float) -> tuple[Expected, ...]:
    return tuple(Expected(label, label, None, None, float(value)) for label, value in values.items())


PLC_FIELDS: dict[str, float] = {
    field: value
    for number in ("01", "02", "03")
    for field, value in (
        (f"TEMPERATURA INVERNADERO {number}", 24.6),
        (f"HUMEDAD INVERNADERO {number}", 63.2),
        (f"INVERNADERO_{number}_SECTOR_01", 0),
        (f"INVERNADERO_{number}_SECTOR_02", 0),
        (f"INVERNADERO_{number}_SECTOR_03", 100),
        (f"INVERNADERO_{number}_SECTOR_04", 0),
        (f"INVERNADERO_{number}_EXTRACTOR", 1),
    )
} | {"RESERVA": 0}
"""The 22 fields of the PLC, temperature and humidity with spaces, the rest with underscores."""

READING = Example(
    "reading with everything",
    f"greenhouse/{SARA_GREENHOUSE}/sensors/temperature",
    f'{{"sensor_id": "{SENSOR}", "value": 24.3, "unit": "°C", "timestamp": "2025-11-17T10:15:00Z", '
    '"metadata": {"battery": 3.61}}'.encode(),
    greenhouse=SARA_GREENHOUSE,
    readings=(Expected("", SENSOR, "temperature", "°C", 24.3, SENT_US, {"battery": 3.61}),),
)

PLC = Example(
    "flat map of the PLC",
    "GREENHOUSE/SARA",
    json.dumps(PLC_FIELDS).encode(),
    tenant="SARA",
    readings=_labels(**PLC_FIELDS),
)

EXAMPLES: tuple[Example, ...] = (
    READING,
    Example(
        "reading with a value only",
        "greenhouse/01/sensors/Humedad",
        b'{"value": 63}',
        greenhouse="01",
        readings=(Expected("", None, "Humedad", None, 63.0),),
    ),
    Example(
        "reading with a device code",
        "greenhouse/01/sensors/TEMPERATURA",
        b'{"sensor_id": "DHT22-SARA01-TEMP", "value": "24,5", "timestamp": 1763374500}',
        greenhouse="01",
        readings=(Expected("", "DHT22-SARA01-TEMP", "TEMPERATURA", None, 24.5, SENT_US),),
    ),
    Example(
        "bare number",
        "greenhouse/01/sensors/soil-moisture",
        b"51.8",
        greenhouse="01",
        readings=(Expected("", None, "soil-moisture", None, 51.8),),
    ),
    Example(
        "bare word",
        "greenhouse/01/sensors/relay",
        b'"ON"',
        greenhouse="01",
        readings=(Expected("", None, "relay", None, 1.0),),
    ),
    Example("bare null", "greenhouse/01/sensors/co2", b"null", greenhouse="01", nulls=1),
    Example(
        "array of readings, bare numbers, a null and a bad one",
        "greenhouse/01/sensors/temperature",
        b'[{"sensor_id": "A", "value": 1.5}, 2, null, {"value": null}, '
        b'{"value": "warm"}, {"sensor_id": "B"}, [3]]',
        greenhouse="01",
        readings=(
            Expected("[0]", "A", "temperature", None, 1.5),
            Expected("[1]", None, "temperature", None, 2.0),
        ),
        rejections=(("[4]", "bad_value"), ("[5]", "bad_value"), ("[6]", "bad_value")),
        nulls=2,
    ),
    Example(
        "batch as an array",
        "greenhouse/01/readings",
        b'[{"sensor_type": "temperature", "value": 21.5}, {"sensor_type": "Humedad", "value": "61"}]',
        greenhouse="01",
        readings=(
            Expected("[0]", None, "temperature", None, 21.5),
            Expected("[1]", None, "Humedad", None, 61.0),
        ),
    ),
    Example(
        "batch in an envelope, a reading's own time wins",
        "greenhouse/01/readings",
        b'{"timestamp": "2025-11-17T10:15:00", "readings": ['
        b'{"sensor_type": "CO2", "value": 812, "unit": "ppm"},'
        b'{"sensor_type": "CO2", "sensor_id": "C2", "value": 799, '
        b'"timestamp": "2025-11-17T11:14:30+01:00"}]}',
        greenhouse="01",
        readings=(
            Expected("[0]", None, "CO2", "ppm", 812.0, SENT_US),
            Expected("[1]", "C2", "CO2", None, 799.0, SENT_US - 30_000_000),
        ),
    ),
    Example(
        "batch with a bad clock, one reading has its own time",
        "greenhouse/01/readings",
        b'{"timestamp": 4294967295, "readings": ['
        b'{"sensor_type": "CO2", "value": 812}, {"sensor_type": "CO2", "value": null},'
        b'{"sensor_type": "CO2", "value": 799, "timestamp": 1763374500000}]}',
        greenhouse="01",
        readings=(Expected("[2]", None, "CO2", None, 799.0, SENT_US),),
        rejections=(("[0]", "bad_timestamp"),),
        nulls=1,
    ),
    Example(
        "single reading on the batch topic",
        "greenhouse/01/readings",
        b'{"sensor_type": "lux", "value": 28450}',
        greenhouse="01",
        readings=(Expected("", None, "lux", None, 28450.0),),
    ),
    PLC,
    Example(
        "flat map with a time and ids that are not believed",
        "GREENHOUSE/SARA/01",
        b'{"timestamp": "2025-11-17 10:15:00Z", "greenhouseId": "002", "tenantId": "HORTAMED", '
        b'"SARA_TEMP01_valor": 24.5, "SARA_HUM01_valor": 62.1, '
        b'"SARA_SOIL01_valor": 51.8, "SARA_LIGHT01_valor": 28450}',
        tenant="SARA",
        greenhouse="01",
        readings=tuple(
            expected._replace(time_us=SENT_US)
            for expected in _labels(
                SARA_TEMP01_valor=24.5,
                SARA_HUM01_valor=62.1,
                SARA_SOIL01_valor=51.8,
                SARA_LIGHT01_valor=28450.0,
            )
        ),
    ),
    Example(
        "flat map of another tenant",
        "GREENHOUSE/HORTAMED/A1",
        b'{"HORTAMED_TEMP_A1_01": 19.7}',
        tenant="HORTAMED",
        greenhouse="A1",
        readings=_labels(HORTAMED_TEMP_A1_01=19.7),
    ),
    Example(
        "legacy flat map",
        "GREENHOUSE",
        b'{"SENSOR_01": 1.42, "SENSOR_02": "2.31", "SETPOINT_01": 5.5}',
        tenant="DEFAULT",
        readings=_labels(SENSOR_01=1.42, SENSOR_02=2.31, SETPOINT_01=5.5),
    ),
    Example(
        "flat map with a null, a NaN, an object and text",
        "GREENHOUSE/001",
        b'\xef\xbb\xbf{"TEMP_01": null, "TEMP_02": NaN, "TEMP_03": {"v": 1}, "TEMP_04": "error", '
        b'"TEMP_05": 1e999, "TEMP_06": 20.5, "BOMBA": "off"}',
        tenant="001",
        readings=_labels(TEMP_06=20.5, BOMBA=0.0),
        rejections=(
            ("TEMP_02", "bad_value"),
            ("TEMP_03", "bad_value"),
            ("TEMP_04", "bad_value"),
            ("TEMP_05", "bad_value"),
        ),
        nulls=1,
    ),
    Example(
        "flat map with a bad clock",
        "GREENHOUSE/SARA",
        b'{"timestamp": "1970-01-01T00:00:10Z", "TEMP_01": 20.5, "TEMP_02": null, "HUM_01": 60}',
        tenant="SARA",
        rejections=(("TEMP_01", "bad_timestamp"), ("HUM_01", "bad_timestamp")),
        nulls=1,
    ),
    Example("empty flat map", "GREENHOUSE/SARA", b"{}", tenant="SARA"),
    Example("empty payload", "GREENHOUSE/SARA", b"", ignored=True),
    Example("echo", "GREENHOUSE/RESPONSE", b'{"TEMPERATURA INVERNADERO 01": 24.6}', ignored=True),
    Example("status", "GREENHOUSE/STATUS", b'{"code": 3}', ignored=True),
    Example("command", "GREENHOUSE/MOBILE", b'{"EXTRACTOR": 1}', ignored=True),
    Example("system", "SYSTEM/gateway/7/uptime", b"812", ignored=True),
    Example(
        "tenant in lower case",
        "GREENHOUSE/sara",
        b'{"TEMP_01": 20.5}',
        rejections=(("", "unknown_topic"),),
    ),
    Example(
        "not JSON",
        "GREENHOUSE/SARA",
        b"TEMP_01=20.5",
        tenant="SARA",
        rejections=(("", "bad_payload"),),
    ),
    Example(
        "not UTF-8",
        "GREENHOUSE/SARA",
        '{"PRESIÓN": 1013}'.encode("latin-1"),
        tenant="SARA",
        rejections=(("", "bad_payload"),),
    ),
    Example(
        "array where a flat map is expected",
        "GREENHOUSE/SARA",
        b"[20.5]",
        tenant="SARA",
        rejections=(("", "bad_payload"),),
    ),
    Example(
        "bare number where a batch is expected",
        "greenhouse/01/readings",
        b"20.5",
        greenhouse="01",
        rejections=(("", "bad_payload"),),
    ),
)
