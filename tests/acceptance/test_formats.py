"""Every documented format, published with mosquitto_pub: exactly the right rows are in the table.

One worker for the module, under its default routes and label rules; the table is emptied before each case.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID, uuid5

import asyncpg
import pytest

from tests.acceptance.workers import WorkerProcess
from tests.servers import shipped_broker
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import Mosquitto

SARA, HORTAMED, DEFAULT = (UUID(int=0xA0 + number) for number in range(3))
SARA_01, SARA_02, SARA_03, HORTAMED_A1, ONLY = (UUID(int=0xB0 + number) for number in range(5))
PROBE, ROOF, SPARE = (UUID(int=0xC0 + number) for number in range(3))
UNREGISTERED = UUID("5e0f2c7a-3d1b-4b6e-8c55-1f2e3d4c5b6a")

TENANT_OF = {SARA_01: SARA, SARA_02: SARA, SARA_03: SARA, HORTAMED_A1: HORTAMED, ONLY: DEFAULT}
CELSIUS, FAHRENHEIT, PERCENT, LUX, PPM, UNIT, VALUE = 1, 2, 3, 4, 6, 10, 11
TEMPERATURE, HUMIDITY, LIGHT, SOIL_MOISTURE, CO2, SETPOINT, SENSOR = 1, 2, 3, 4, 5, 10, 11

SENT = "2025-11-17T10:15:00Z"
SENT_US = 1_763_374_500_000_000

CATALOG = f"""
insert into metadata.tenants (id, name, mqtt_topic_prefix) values
    ('{SARA}', 'Sara', 'SARA'), ('{HORTAMED}', 'Hortamed', 'HORTAMED'), ('{DEFAULT}', 'Default', 'DEFAULT');
insert into metadata.greenhouses (id, tenant_id, name, greenhouse_code) values
    ('{SARA_01}', '{SARA}', 'One', '01'), ('{SARA_02}', '{SARA}', 'Two', '02'),
    ('{SARA_03}', '{SARA}', 'Three', '03'), ('{HORTAMED_A1}', '{HORTAMED}', 'A1', 'A1'),
    ('{ONLY}', '{DEFAULT}', 'Only', 'ONLY');
insert into metadata.sensors (id, greenhouse_id, tenant_id, sensor_code, sensor_type, unit, mqtt_field_name)
values
    ('{PROBE}', '{SARA_01}', '{SARA}', 'DHT22-SARA01-TEMP', 'TEMPERATURE', '°C', null),
    ('{ROOF}', '{SARA_02}', '{SARA}', 'ROOF', 'TEMPERATURE', '°C', 'TEMP_TEJADO'),
    ('{SPARE}', '{SARA_01}', '{SARA}', 'SPARE', 'SENSOR', 'unit', 'RESERVA')
"""


class Expected(NamedTuple):
    """One row; ``sensor`` is an id, or the name it is derived from. Time None: the receipt time."""

    greenhouse: UUID
    sensor: UUID | str
    sensor_type: int
    unit: int
    value: float
    time_us: int | None = None

    @property
    def sensor_id(self) -> UUID:
        return self.sensor if isinstance(self.sensor, UUID) else uuid5(self.greenhouse, self.sensor)


class Case(NamedTuple):
    """A message and the rows it becomes."""

    name: str
    topic: str
    payload: str
    rows: tuple[Expected, ...]


def plc_map() -> Case:
    """The 22 fields of the PLC: three greenhouses in one message, and one label that is registered."""
    fields: dict[str, float] = {}
    rows = []
    for number, greenhouse in (("01", SARA_01), ("02", SARA_02), ("03", SARA_03)):
        fields[f"TEMPERATURA INVERNADERO {number}"] = 24.6
        rows.append(Expected(greenhouse, f"temperatura_invernadero_{number}", TEMPERATURE, CELSIUS, 24.6))
        fields[f"HUMEDAD INVERNADERO {number}"] = 63.2
        rows.append(Expected(greenhouse, f"humedad_invernadero_{number}", HUMIDITY, PERCENT, 63.2))
        for sector in ("01", "02", "03", "04"):
            fields[f"INVERNADERO_{number}_SECTOR_{sector}"] = 0
            name = f"invernadero_{number}_sector_{sector}"
            rows.append(Expected(greenhouse, name, SENSOR, UNIT, 0.0))
        fields[f"INVERNADERO_{number}_EXTRACTOR"] = 1
        rows.append(Expected(greenhouse, f"invernadero_{number}_extractor", SENSOR, UNIT, 1.0))
    fields["RESERVA"] = 0
    rows.append(Expected(SARA_01, SPARE, SENSOR, UNIT, 0.0))
    return Case("the flat map of the PLC", "GREENHOUSE/SARA", json.dumps(fields), tuple(rows))


def one(name: str, topic: str, payload: str, *expected: object) -> Case:
    return Case(name, topic, payload, (Expected(*expected),))  # type: ignore[arg-type]  # its fields in order


CASES = (
    one(
        "a reading with everything",
        f"greenhouse/{SARA_01}/sensors/temperature",
        f'{{"sensor_id": "{UNREGISTERED}", "value": 24.3, "unit": "°C", "timestamp": "{SENT}", '
        '"metadata": {"battery": 3.61}}',
        *(SARA_01, UNREGISTERED, TEMPERATURE, CELSIUS, 24.3, SENT_US),
    ),
    one("a value only", "greenhouse/A1/sensors/Humedad", '{"value": 63}',
        *(HORTAMED_A1, "humidity", HUMIDITY, PERCENT, 63.0)),
    one("a bare number", "greenhouse/A1/sensors/soil-moisture", "51.8",
        *(HORTAMED_A1, "soil_moisture", SOIL_MOISTURE, PERCENT, 51.8)),
    one("a device code, epoch seconds", f"greenhouse/{SARA_01}/sensors/TEMPERATURA",
        '{"sensor_id": "DHT22-SARA01-TEMP", "value": "24,5", "timestamp": 1763374500}',
        *(SARA_01, PROBE, TEMPERATURE, CELSIUS, 24.5, SENT_US)),
    one("epoch milliseconds as text, °F", f"greenhouse/{SARA_01}/sensors/temperature",
        '{"sensor_id": "US1", "value": 75.5, "unit": "°F", "timestamp": "1763374500000"}',
        *(SARA_01, "us1", TEMPERATURE, FAHRENHEIT, 75.5, SENT_US)),
    one("epoch microseconds, a boolean", f"greenhouse/{SARA_01}/sensors/sensor",
        '{"sensor_id": "PUMP", "value": true, "timestamp": 1763374500000001}',
        *(SARA_01, "pump", SENSOR, UNIT, 1.0, SENT_US + 1)),
    one("a time with an offset", f"greenhouse/{SARA_01}/sensors/co2",
        '{"value": 812, "timestamp": "2025-11-17T11:15:00+01:00"}',
        *(SARA_01, "co2", CO2, PPM, 812.0, SENT_US)),
    one("a naive time", f"greenhouse/{SARA_01}/sensors/co2",
        '{"value": 813, "timestamp": "2025-11-17T10:15:00"}',
        *(SARA_01, "co2", CO2, PPM, 813.0, SENT_US)),
    Case("several readings", f"greenhouse/{SARA_01}/sensors/temperature",
         '[{"sensor_id": "a", "value": 1.5}, {"sensor_id": "B", "value": 2}]',
         (Expected(SARA_01, "a", TEMPERATURE, CELSIUS, 1.5),
          Expected(SARA_01, "b", TEMPERATURE, CELSIUS, 2.0))),
    Case("a batch", "greenhouse/A1/readings",
         '[{"sensor_type": "temperature", "value": 21.5}, {"sensor_type": "Humedad", "value": "61"}]',
         (Expected(HORTAMED_A1, "temperature", TEMPERATURE, CELSIUS, 21.5),
          Expected(HORTAMED_A1, "humidity", HUMIDITY, PERCENT, 61.0))),
    Case("a batch in an envelope", "greenhouse/A1/readings",
         f'{{"timestamp": "{SENT}", "readings": [{{"sensor_type": "CO2", "value": 812}}, '
         '{"sensor_type": "lux", "value": 28450, "timestamp": 1763374501}]}',
         (Expected(HORTAMED_A1, "co2", CO2, PPM, 812.0, SENT_US),
          Expected(HORTAMED_A1, "light", LIGHT, LUX, 28450.0, SENT_US + 1_000_000))),
    plc_map(),
    Case("a flat map per tenant, ids not believed", "GREENHOUSE/SARA/01",
         f'{{"timestamp": "{SENT}", "greenhouseId": "02", "tenantId": "HORTAMED", "SARA_TEMP01_valor": 24.5, '
         '"SARA_HUM01_valor": 62.1, "SARA_SOIL01_valor": 51.8, "SARA_LIGHT01_valor": 28450}',
         (Expected(SARA_01, "sara_temp01_valor", TEMPERATURE, CELSIUS, 24.5, SENT_US),
          Expected(SARA_01, "sara_hum01_valor", HUMIDITY, PERCENT, 62.1, SENT_US),
          Expected(SARA_01, "sara_soil01_valor", SOIL_MOISTURE, PERCENT, 51.8, SENT_US),
          Expected(SARA_01, "sara_light01_valor", LIGHT, LUX, 28450.0, SENT_US))),
    one("a flat map under the greenhouse's code", "GREENHOUSE/HORTAMED/A1", '{"HORTAMED_TEMP_A1_01": 19.7}',
        *(HORTAMED_A1, "hortamed_temp_a1_01", TEMPERATURE, CELSIUS, 19.7)),
    one("a flat map of a tenant with one greenhouse", "GREENHOUSE/HORTAMED", '{"TEMP_01": 19.8}',
        *(HORTAMED_A1, "temp_01", TEMPERATURE, CELSIUS, 19.8)),
    one("a registered label, written otherwise", "GREENHOUSE/SARA", '{"temp-tejado": 31.5}',
        *(SARA_02, ROOF, TEMPERATURE, CELSIUS, 31.5)),
    Case("the legacy flat map", "GREENHOUSE", '{"SENSOR_01": 1.42, "SENSOR_02": "2.31", "SETPOINT_01": 5.5}',
         (Expected(ONLY, "sensor_01", SENSOR, UNIT, 1.42), Expected(ONLY, "sensor_02", SENSOR, UNIT, 2.31),
          Expected(ONLY, "setpoint_01", SETPOINT, VALUE, 5.5))),
)  # fmt: skip


@pytest.fixture(scope="module")
def installation(
    database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Mosquitto, WorkerProcess]]:
    """A broker and a worker that is ready, over the catalog above."""
    directory = tmp_path_factory.mktemp("formats")

    async def register() -> None:
        connection = await asyncpg.connect(database)
        await connection.execute(CATALOG)
        await connection.close()

    asyncio.run(register())
    with shipped_broker(directory) as broker:
        worker = WorkerProcess(
            directory,
            broker_url=broker.url,
            dsn=database,
            filters=["greenhouse/+/sensors/+", "greenhouse/+/readings", "GREENHOUSE/#"],
            settings={"decode": {"max_age_s": 20 * 366 * 86_400}},
        )
        with worker:
            asyncio.run(worker.ready())
            yield broker, worker


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
async def test_a_message_becomes_its_rows(
    case: Case, installation: tuple[Mosquitto, WorkerProcess], connection: asyncpg.Connection
) -> None:
    broker, worker = installation
    await connection.execute("delete from iot.sensor_readings")
    await connection.execute("delete from iot.ingest_dead_letters")
    before_s = await connection.fetchval("select extract(epoch from clock_timestamp())::float8")
    mosquitto_pub(broker, case.topic, case.payload)

    async def stored() -> bool:
        return bool(
            await connection.fetchval(
                "select count(*) >= $1::bigint from iot.sensor_readings", len(case.rows)
            )
        )

    await until(stored, "the rows are stored")
    records = await connection.fetch(
        "select *, (extract(epoch from time) * 1000000)::bigint as time_us from iot.sensor_readings"
    )
    assert sorted(
        (
            record["greenhouse_id"],
            record["tenant_id"],
            record["sensor_id"],
            record["sensor_type_id"],
            record["unit_id"],
            record["value"],
        )
        for record in records
    ) == sorted(
        (row.greenhouse, TENANT_OF[row.greenhouse], row.sensor_id, row.sensor_type, row.unit, row.value)
        for row in case.rows
    )
    times = {record["sensor_id"]: record["time_us"] for record in records}
    for row in case.rows:
        if row.time_us is not None:
            assert times[row.sensor_id] == row.time_us
        else:
            assert abs(times[row.sensor_id] / 1e6 - before_s) < 30
    if all(row.time_us is None for row in case.rows):
        assert len(set(times.values())) == 1, "one time for all rows of a message"
    assert await connection.fetchval("select count(*) from iot.ingest_dead_letters") == 0, worker.log_text


async def test_what_the_payload_called_a_sensor_is_kept(
    installation: tuple[Mosquitto, WorkerProcess], connection: asyncpg.Connection
) -> None:
    broker, _ = installation
    await connection.execute("delete from iot.sensor_readings")
    payload = '{"sensor_id": "Fühler-7", "value": 20, "metadata": {"battery": 3.61}}'
    mosquitto_pub(broker, f"greenhouse/{SARA_01}/sensors/temperature", payload)
    mosquitto_pub(broker, "GREENHOUSE/HORTAMED", '{"TEMP 02": 21}')

    async def stored() -> bool:
        return bool(await connection.fetchval("select count(*) = 2 from iot.sensor_readings"))

    await until(stored, "the rows are stored")
    records = await connection.fetch("select metadata from iot.sensor_readings order by value")
    assert [json.loads(record["metadata"]) for record in records] == [
        {"device_code": "Fühler-7", "battery": 3.61},
        {"label": "TEMP 02"},
    ]


def mosquitto_pub(broker: Mosquitto, topic: str, payload: str) -> None:
    subprocess.run(
        ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(broker.port), "-t", topic, "-q", "1", "-s"],
        input=payload.encode(),
        check=True,
    )
