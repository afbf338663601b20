"""A live database as the system before left it, at V11: names in place of ids, and everything in the way.

Builds schema `metadata` with a small production's six sensors and three actuators, and schema `iot` with
legacy readings: mixed case, blanks, aliases, unknown names, duplicates, no sensor, an unknown greenhouse;
old continuous aggregates under names that V12 wants, old indexes, chunks compressed by another policy.
What it put in, it returns as counts, which the reports are compared with.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import asyncpg

from ingest.migrate import Database, schema_folder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TENANT = "33333333-3333-4333-8333-333333333333"
GREENHOUSE = "11111111-1111-4111-8111-111111111111"
STRANGE_GREENHOUSE = "99999999-9999-4999-8999-999999999999"
SENSORS = 6
DAYS = 10
"""Days of readings up to now; those older than seven days are compressed."""

_METADATA = f"""
    insert into metadata.tenants (id, name, mqtt_topic_prefix) values ('{TENANT}', 'Sara', 'SARA');
    insert into metadata.greenhouses (id, tenant_id, name, greenhouse_code)
    values ('{GREENHOUSE}', '{TENANT}', 'Invernadero 1', '01');
    insert into metadata.sensors
        (id, greenhouse_id, tenant_id, sensor_code, device_id, sensor_type, mqtt_field_name, unit)
    values
        ('00000000-0000-4000-8000-000000000001', '{GREENHOUSE}', '{TENANT}', 'T1', 'D1', 'TEMPERATURE',
            'TEMPERATURA INVERNADERO 01', '°C'),
        ('00000000-0000-4000-8000-000000000002', '{GREENHOUSE}', '{TENANT}', 'H1', 'D1', 'humidity ',
            'HUMEDAD INVERNADERO 01', '%'),
        ('00000000-0000-4000-8000-000000000003', '{GREENHOUSE}', '{TENANT}', 'L1', 'D2', 'LIGHT', null,
            'lux'),
        ('00000000-0000-4000-8000-000000000004', '{GREENHOUSE}', '{TENANT}', 'S1', 'D2', 'SOIL_MOISTURE',
            null, '%'),
        ('00000000-0000-4000-8000-000000000005', '{GREENHOUSE}', '{TENANT}', 'C1', 'D3', 'CO2', null, 'ppm'),
        ('00000000-0000-4000-8000-000000000006', '{GREENHOUSE}', '{TENANT}', 'T2', 'D3', 'Temperatura',
            null, 'F');
    insert into metadata.actuators (tenant_id, greenhouse_id, actuator_code, actuator_type, current_state)
    values
        ('{TENANT}', '{GREENHOUSE}', 'V1', 'Valve', 'OPEN'),
        ('{TENANT}', '{GREENHOUSE}', 'F1', 'FAN', 'off'),
        ('{TENANT}', '{GREENHOUSE}', 'X1', 'EXTRACTOR', 'ON');
"""

_READINGS_TABLE = """
    create extension if not exists timescaledb;
    create schema if not exists iot;
    create table iot.sensor_readings (
        time timestamptz not null,
        greenhouse_id uuid not null,
        sensor_id uuid,
        sensor_type varchar(50),
        unit varchar(20),
        value double precision,
        metadata jsonb
    );
    select create_hypertable('iot.sensor_readings', by_range('time', interval '1 day'));
    create index idx_sensor_readings_greenhouse_time on iot.sensor_readings (greenhouse_id, time desc);
    create index idx_sensor_readings_sensor_time on iot.sensor_readings (sensor_id, time desc);
    alter table iot.sensor_readings set (
        timescaledb.enable_columnstore,
        timescaledb.segmentby = 'greenhouse_id, sensor_type',
        timescaledb.orderby = 'time desc'
    );
"""
_OLD_POLICY = "call add_columnstore_policy('iot.sensor_readings', after => interval '7 days')"

# One tick is a reading of each of the six sensors. The spellings change with the tick; all of them are in the
# catalog or its aliases.
_TICKS = f"""
    insert into iot.sensor_readings (time, greenhouse_id, sensor_id, sensor_type, unit, value)
    select
        $1::timestamptz + n * $2::interval,
        '{GREENHOUSE}',
        ('00000000-0000-4000-8000-00000000000' || s.place)::uuid,
        s.types[1 + n % array_length(s.types, 1)],
        s.units[1 + n % array_length(s.units, 1)],
        n % 100
    from generate_series(0, $3::integer - 1) as n
    cross join (
        values
            (1, array['TEMPERATURE', 'temperature ', 'Temperature'], array['°C', 'C', 'degC', '°C']),
            (2, array['HUMIDITY', 'humedad', ' HUMIDITY'], array['%', 'percent', '%']),
            (3, array['LIGHT', 'light'], array['lux', null]),
            (4, array['SOIL_MOISTURE', 'soil moisture', 'Soil-Moisture'], array['%', ' % ', '']),
            (5, array['CO2', 'co2'], array['ppm', 'PPM']),
            (6, array['TEMPERATURA', 'TEMPERATURE'], array['F', null, '°F'])
    ) as s (place, types, units)
"""

_SPECIAL = """
    insert into iot.sensor_readings (time, greenhouse_id, sensor_id, sensor_type, unit, value)
    select $1::timestamptz + n * interval '7 minutes' + $3::interval, $4::uuid, $5::uuid, $6, $7, $8 + n
    from generate_series(0, $2::integer - 1) as n
"""
_FAHRENHEIT = "00000000-0000-4000-8000-000000000006"
_UNREGISTERED = "00000000-0000-4000-8000-0000000000aa"

_AGGREGATES = (
    """
    create materialized view iot.sensor_readings_hourly
    with (timescaledb.continuous) as
    select time_bucket(interval '1 hour', time) as bucket, greenhouse_id, sensor_type, avg(value) as avg_value
    from iot.sensor_readings
    group by 1, 2, 3
    with no data
    """,
    """
    create materialized view iot.sensor_readings_daily_by_tenant
    with (timescaledb.continuous) as
    select time_bucket(interval '1 day', time) as bucket, greenhouse_id, count(*) as readings
    from iot.sensor_readings
    group by 1, 2
    with no data
    """,
)
_COMPRESS = """
    select count(compress_chunk(c))
    from show_chunks('iot.sensor_readings', older_than => $1::timestamptz) as c
"""


@dataclass(frozen=True, slots=True)
class LiveV11:
    """What was put in, in rows. All but the unmapped are what the catalog knows."""

    plain: int
    """Readings of the six sensors, each with a key of its own."""
    no_sensor: int = 20
    """Known names, no sensor id; each twice, since nothing tells two of them apart."""
    unknown_type: int = 30
    blank_type: int = 10
    unknown_unit: int = 15
    unknown_greenhouse: int = 12
    identical: int = 25
    """Readings that are there once more in another spelling."""
    differing: int = 9
    """Readings that are there once more with another value."""
    chunks: int = 0
    """One a day; whether today has one is a matter of the hour."""
    first: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def rows(self) -> int:
        """All rows of the hypertable."""
        return self.plain + 2 * (self.no_sensor + self.identical + self.differing) + self.unmapped

    @property
    def unmapped(self) -> int:
        """Rows with something the catalog does not know."""
        return self.unknown_type + self.blank_type + self.unknown_unit + self.unknown_greenhouse


async def build(dsn: str, *, rows: int = 6_000) -> LiveV11:
    """Make both schemas in the empty database *dsn*, with about *rows* readings over the last DAYS days."""
    connection = await asyncpg.connect(dsn, command_timeout=600)
    try:
        (legacy,) = schema_folder(Database.METADATA).glob("V11__*.sql")
        await connection.execute(legacy.read_text(encoding="utf-8"))
        await connection.execute(_METADATA)
        await connection.execute(_READINGS_TABLE)
        await connection.execute(_OLD_POLICY)
        for statement in _AGGREGATES:
            await connection.execute(statement)
        return await _fill(connection, rows)
    finally:
        await connection.close()


async def _fill(connection: asyncpg.Connection[asyncpg.Record], rows: int) -> LiveV11:
    until = datetime.now(UTC).replace(microsecond=0, second=0, minute=0)
    first = (until - timedelta(days=DAYS)).replace(hour=0)
    ticks = rows // SENSORS
    every = (until - first) / ticks
    live = LiveV11(plain=ticks * SENSORS, first=first)
    await connection.execute(_TICKS, first, every, ticks)
    # Off the ticks by odd microseconds, so that no key of theirs is met.
    special: list[tuple[int, str, str | None, str | None, str | None, float]] = [
        *[(live.no_sensor, GREENHOUSE, None, "temperature", "°C", 20.0)] * 2,
        (live.unknown_type, GREENHOUSE, _UNREGISTERED, "VIBRATION", "%", 1.0),
        (live.blank_type, GREENHOUSE, _UNREGISTERED, "  ", "°C", 2.0),
        (live.unknown_unit, GREENHOUSE, _UNREGISTERED, "HUMIDITY", "bananas", 3.0),
        (live.unknown_greenhouse, STRANGE_GREENHOUSE, _UNREGISTERED, "TEMPERATURE", "°C", 4.0),
        (live.identical, GREENHOUSE, _UNREGISTERED, "TEMPERATURE", "°C", 5.0),
        (live.identical, GREENHOUSE, _UNREGISTERED, "temperature ", "C", 5.0),
        (live.differing, GREENHOUSE, _FAHRENHEIT, "TEMPERATURE", "°F", 6.0),
        (live.differing, GREENHOUSE, _FAHRENHEIT, "temperatura", None, 66.0),
    ]
    offset_us = {1.0: 101, 2.0: 103, 3.0: 107, 4.0: 109, 5.0: 113, 6.0: 127, 66.0: 127, 20.0: 131}
    for count, greenhouse, sensor, sensor_type, unit, value in special:
        offset = timedelta(microseconds=offset_us[value])
        await connection.execute(
            _SPECIAL, first, count, offset, greenhouse, sensor, sensor_type, unit, value
        )  # fmt: skip
    await connection.execute("analyze iot.sensor_readings")
    await connection.fetchval(_COMPRESS, until - timedelta(days=7))
    assert await connection.fetchval("select count(*) from iot.sensor_readings") == live.rows
    chunks = await connection.fetchval("select count(*) from show_chunks('iot.sensor_readings')")
    return replace(live, chunks=chunks)


@dataclass(slots=True)
class WriterWaits:
    """How an old writer fared: how many rows it wrote, and how long it waited."""

    rows: int = 0
    statements_s: list[float] = field(default_factory=list)
    """Duration of each of its INSERTs, in seconds, the machine's other work included."""
    longest_lock_wait_s: float = 0.0
    """The longest it was seen waiting for a lock, sampled every 10 ms."""

    @property
    def longest_s(self) -> float:
        """The longest that one INSERT took."""
        return max(self.statements_s)


_WRITE = f"""
    insert into iot.sensor_readings (time, greenhouse_id, sensor_id, sensor_type, unit, value)
    select clock_timestamp(), '{GREENHOUSE}',
        ('00000000-0000-4000-8000-00000000000' || n)::uuid, 'temperature', 'C', $1
    from generate_series(1, 6) as n
"""
_LOCK_WAIT = """
    select max(extract(epoch from clock_timestamp() - waitstart))::double precision
    from pg_locks
    where pid = $1
        and not granted
"""
SAMPLE_S = 0.01


@contextlib.asynccontextmanager
async def old_writer(dsn: str, *, pause_s: float = 0.005) -> AsyncIterator[WriterWaits]:
    """Insert readings by name, as the system before does, one small statement after the other, meanwhile.

    Needs a server of several sessions: waits for locks are looked at from beside.
    """
    connection, beside = await asyncpg.connect(dsn), await asyncpg.connect(dsn)
    waits = WriterWaits()
    pid = connection.get_server_pid()
    stop = asyncio.Event()

    async def write() -> None:
        while not stop.is_set():
            began = time.monotonic()
            await connection.execute(_WRITE, float(waits.rows))
            waits.statements_s.append(time.monotonic() - began)
            waits.rows += 6
            await asyncio.sleep(pause_s)

    async def look() -> None:
        while not stop.is_set():
            waited_s = await beside.fetchval(_LOCK_WAIT, pid)
            waits.longest_lock_wait_s = max(waits.longest_lock_wait_s, waited_s or 0.0)
            await asyncio.sleep(SAMPLE_S)

    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(write())
            tasks.create_task(look())
            try:
                yield waits
            finally:
                stop.set()  # not cancelled: what the last INSERT wrote is counted
    finally:
        await connection.close()
        await beside.close()
