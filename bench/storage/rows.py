"""The readings that are measured: a fleet's, seeded, the same rows in both forms of the table.

Five greenhouses of two tenants, twenty sensors each, and one gateway a greenhouse that sends all of them at
once, as flat maps do: the readings of a message share their time. Values follow the hour and the season, with
noise, in the steps the sensors have; irrigation sectors open by day, extractors are on or off. One message in
two hundred is missing, and each gateway was away for some days. Only SQL: ten million rows never pass through
Python.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID

    import asyncpg

SENSORS = 100
_SEED = 0.4711
_BATCH_ROUNDS = 5000

# The table of V11, with the four indexes that the system before had on it.
_LEGACY = """
create schema legacy;
create table legacy.sensor_readings (
    time timestamptz not null,
    greenhouse_id uuid not null,
    sensor_id uuid not null,
    sensor_type varchar(50),
    unit varchar(20),
    value double precision,
    metadata jsonb,
    constraint sensor_readings_pkey primary key (time, sensor_id)
);
select create_hypertable('legacy.sensor_readings', by_range('time', interval '1 day'));
create index on legacy.sensor_readings (greenhouse_id, time desc);
create index on legacy.sensor_readings (greenhouse_id, sensor_id, time desc);
"""
_FLEET = """
create table legacy.fleet as
select
    g as greenhouse,
    md5('tenant ' || g % 2)::uuid as tenant_id,
    md5('greenhouse ' || g)::uuid as greenhouse_id,
    md5(format('sensor %s %s %s', g, k.label, n))::uuid as sensor_id,
    (g * 7 + n * 3) % 10 / 10.0 as place,
    k.*
from generate_series(1, 5) as g
cross join (
    values
        ('TEMPERATURA', 1, 'TEMPERATURE', 1, '°C', 2, 21.0, 6.0, 4.0, 0.1, 1, -50.0, 100.0),
        ('HUMEDAD', 2, 'HUMIDITY', 3, '%', 2, 68.0, -14.0, -6.0, 0.4, 1, 0.0, 100.0),
        ('SUELO', 4, 'SOIL_MOISTURE', 3, '%', 2, 34.0, -2.5, 3.0, 0.1, 1, 0.0, 100.0),
        ('LUZ', 3, 'LIGHT', 4, 'lux', 1, 0.0, 42000.0, 9000.0, 900.0, 0, 0.0, 200000.0),
        ('CO2', 5, 'CO2', 6, 'ppm', 1, 620.0, -170.0, 40.0, 6.0, 0, 0.0, 5000.0),
        ('SECTOR', 11, 'SENSOR', 10, 'unit', 10, -25.0, 120.0, 0.0, 5.0, -1, 0.0, 100.0),
        ('EXTRACTOR', 11, 'SENSOR', 10, 'unit', 2, 0.0, 1.0, 0.0, 0.1, 0, 0.0, 1.0)
) as k (
    label,
    sensor_type_id,
    sensor_type,
    unit_id,
    unit,
    sensors,
    middle,
    by_hour,
    by_season,
    noise,
    digits,
    lowest,
    highest
)
cross join lateral generate_series(1, k.sensors) as n
"""
# The noise is the sum of three: bell-shaped, of standard deviation 1. One session, one plan and no parallel
# workers: random() gives the same numbers in every run.
_FILL = """
with message as materialized (
    select
        g as greenhouse,
        $1::timestamptz
            + n * make_interval(secs => $3)
            + g * interval '2.71 s'
            + round((random() * 800)::numeric) * interval '1 millisecond' as time,
        random() as luck
    from generate_series(0, $2::integer - 1) as n
    cross join generate_series(1, 5) as g
)
insert into legacy.sensor_readings (time, greenhouse_id, sensor_id, sensor_type, unit, value)
select
    m.time,
    f.greenhouse_id,
    f.sensor_id,
    f.sensor_type,
    f.unit,
    least(f.highest, greatest(f.lowest, round((
        f.middle
        + f.place
        + f.by_hour * sin(2 * pi() * (extract(epoch from m.time)::double precision / 86400 - 0.3))
        + f.by_season * sin(2 * pi() * (extract(epoch from m.time)::double precision / 31557600 - 0.3))
        + f.noise * (random() + random() + random() - 1.5) * 2
    )::numeric, f.digits)))
from message as m
join legacy.fleet as f on f.greenhouse = m.greenhouse
where m.luck > 0.005
    and (extract(epoch from m.time)::bigint / 86400 + 13 * m.greenhouse) % 97 <> 0
order by m.time
"""
_NORMALISE = """
insert into iot.sensor_readings
    (time, greenhouse_id, sensor_id, value, metadata, tenant_id, sensor_type_id, unit_id)
select
    r.time,
    r.greenhouse_id,
    r.sensor_id,
    r.value,
    r.metadata,
    f.tenant_id,
    f.sensor_type_id,
    f.unit_id
from legacy.sensor_readings as r
join legacy.fleet as f on f.sensor_id = r.sensor_id
where r.time >= $1
    and r.time < $2
order by r.time
"""
_A_GREENHOUSE = "select greenhouse_id from legacy.fleet where greenhouse = 2 limit 1"


@dataclass(frozen=True, slots=True)
class Readings:
    """What was put in: from when until when, how many rows, and a greenhouse to ask for."""

    start: datetime
    until: datetime
    rows: int
    greenhouse_id: UUID


async def fill_legacy(
    connection: asyncpg.Connection[asyncpg.Record], rows: int, interval_s: float, until: datetime
) -> Readings:
    """Make the legacy table with about *rows* readings up to *until*, each sensor's *interval_s* apart."""
    rounds = rows // SENSORS
    start = until - timedelta(seconds=rounds * interval_s)
    await connection.execute(_LEGACY)
    await connection.execute(_FLEET)
    await connection.execute("select setseed($1)", _SEED)
    for done in range(0, rounds, _BATCH_ROUNDS):
        first = start + timedelta(seconds=done * interval_s)
        await connection.execute(_FILL, first, min(_BATCH_ROUNDS, rounds - done), interval_s)
    stored = await connection.fetchval("select count(*) from legacy.sensor_readings")
    return Readings(start, until, stored, await connection.fetchval(_A_GREENHOUSE))


async def copy_normalised(connection: asyncpg.Connection[asyncpg.Record], readings: Readings) -> None:
    """Give the schema's table the same rows, as the worker writes them: ids, no names."""
    begin, month = readings.start, timedelta(days=30)
    while begin <= readings.until:
        await connection.execute(_NORMALISE, begin, begin + month)
        begin += month


def last_full_hour() -> datetime:
    """Return when the readings end: now, at the full hour."""
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
