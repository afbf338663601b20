"""Readings for the tests of aggregates and rollups, and the plain GROUP BY they are compared with.

Values are multiples of 0.25, so that sums and means of them are exact in whatever order they are added.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple, TypeAlias
from uuid import UUID

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable

    import asyncpg

Iot: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

GREENHOUSE = UUID("11111111-1111-4111-8111-111111111111")
TENANT = UUID("33333333-3333-4333-8333-333333333333")
CELSIUS, FAHRENHEIT, PERCENT, LUX, PPM = 1, 2, 3, 4, 6
TEMPERATURE, HUMIDITY, LIGHT, CO2 = 1, 2, 3, 5
COLUMNS = ("time", "greenhouse_id", "tenant_id", "sensor_id", "sensor_type_id", "unit_id", "value")

PLAIN = """
    select
        date_trunc($1, time, 'UTC') as bucket, greenhouse_id, tenant_id, sensor_type_id, unit_id,
        avg(value) as avg_value, min(value) as min_value, max(value) as max_value,
        stddev_samp(value) as stddev_value,
        percentile_cont(0.5) within group (order by value) as median_value,
        percentile_cont(0.05) within group (order by value) as p5_value,
        percentile_cont(0.95) within group (order by value) as p95_value,
        count(*) as count_readings, count(*) - count(value) as null_count,
        min(time) as first_reading_at, max(time) as last_reading_at
    from iot.sensor_readings
    where time >= $2 and time < $3
        and tenant_id is not null and sensor_type_id is not null and unit_id is not null
    group by 1, 2, 3, 4, 5
    order by 1, 2, 3, 4, 5
"""
STORED = """
    select
        bucket, greenhouse_id, tenant_id, sensor_type_id, unit_id, avg_value, min_value, max_value,
        stddev_value, median_value, p5_value, p95_value, count_readings, null_count, first_reading_at,
        last_reading_at
    from iot.{table}
    where bucket >= $1 and bucket < $2
    order by 1, 2, 3, 4, 5
"""
_JOBS = """
    select job_id
    from timescaledb_information.jobs
    where proc_name like $1
        and job_id >= 1000
    order by job_id
"""


class Sensor(NamedTuple):
    """A sensor of the greenhouse, its type and unit."""

    number: int
    sensor_type_id: int
    unit_id: int

    @property
    def sensor_id(self) -> UUID:
        return UUID(int=self.number)


THERMOMETER = Sensor(1, TEMPERATURE, CELSIUS)
SENSORS = (
    THERMOMETER,
    Sensor(2, TEMPERATURE, FAHRENHEIT),
    Sensor(3, HUMIDITY, PERCENT),
    Sensor(4, LIGHT, LUX),
    Sensor(5, CO2, PPM),
    Sensor(6, CO2, PPM),
)


def midnight(*, days_ago: int = 0) -> datetime:
    """Return the start of a day, UTC."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return today - timedelta(days=days_ago)


async def add(connection: Iot, sensor: Sensor, times: Iterable[datetime]) -> None:
    """Insert a reading of *sensor* at each of *times*; the value follows from time and sensor."""
    rows = [
        (
            time,
            GREENHOUSE,
            TENANT,
            sensor.sensor_id,
            sensor.sensor_type_id,
            sensor.unit_id,
            20 + sensor.number + (int(time.timestamp()) // 60 * 7 % 101) / 4,
        )
        for time in times
    ]
    await connection.copy_records_to_table(
        "sensor_readings", schema_name="iot", columns=COLUMNS, records=rows
    )


def every(step: timedelta, start: datetime, end: datetime) -> list[datetime]:
    """Return the times from *start* up to *end*."""
    return [start + n * step for n in range(int((end - start) / step))]


async def hold_jobs(connection: Iot) -> None:
    """Keep the scheduler of a native server from running jobs beside the test; the embedded one has none."""
    if await connection.fetchval("select count(*) > 1 from pg_stat_activity"):
        await connection.execute("""
            select alter_job(job_id, scheduled => false)
            from timescaledb_information.jobs where job_id >= 1000
        """)


async def run_jobs(connection: Iot, name: str) -> int:
    """Run the jobs whose procedure is LIKE *name*, as the scheduler would; return how many there are."""
    jobs = await connection.fetch(_JOBS, name)
    for job in jobs:
        await connection.execute(f"call run_job({job['job_id']})")
    return len(jobs)


async def run_all(connection: Iot) -> None:
    """Run every job that aggregates: the policies, then those that fill the rollups."""
    assert await run_jobs(connection, "policy_refresh_continuous_aggregate") == 5
    assert await run_jobs(connection, "fill_%") == 5


def same(found: list[asyncpg.Record], expected: list[asyncpg.Record]) -> None:
    """Assert equality, of floats up to the last digits."""
    assert len(found) == len(expected)
    for mine, other in zip(found, expected, strict=True):
        for (name, value), wanted in zip(mine.items(), other.values(), strict=True):
            if isinstance(wanted, float):
                assert value == pytest.approx(wanted, rel=1e-9), (name, mine)
            else:
                assert value == wanted, (name, mine)


async def agree(connection: Iot, start: datetime, end: datetime) -> None:
    """Check that aggregates and rollups of the hours, days and months give the numbers of the readings."""
    month = start.replace(day=1)
    bounds = {"monthly": (month, (end + timedelta(days=31)).replace(day=1))}
    for width, name in (("hour", "hourly"), ("day", "daily"), ("month", "monthly")):
        span = bounds.get(name, (start, end))
        plain = await connection.fetch(PLAIN, width, *span)
        for table in (f"cagg_sensor_readings_{name}", f"sensor_readings_{name}"):
            same(await connection.fetch(STORED.format(table=table), *span), plain)
    daily = """
        select greenhouse_id, bucket, readings, sensors, temperature_max
        from iot.greenhouse_daily_summary where bucket >= $1 and bucket < $2 order by bucket
    """
    same(
        await connection.fetch(daily, start, end),
        await connection.fetch(
            """
            select greenhouse_id, date_trunc('day', time, 'UTC') as bucket, count(*) as readings,
                count(distinct sensor_id) as sensors,
                max(value) filter (where sensor_type_id = 1) as temperature_max
            from iot.sensor_readings where time >= $1 and time < $2 group by 1, 2 order by 2
            """,
            start,
            end,
        ),
    )
    sensors = """
        select sensor_id, date_trunc('day', {time}, 'UTC') as day, {readings}::bigint
        from iot.{table} where {time} >= $1 and {time} < $2 {group} order by 1, 2
    """
    plain = await connection.fetch(
        sensors.format(time="time", readings="count(*)", table="sensor_readings", group="group by 1, 2"),
        start,
        end,
    )
    for table in ("sensor_performance_daily", "cagg_sensor_health_hourly"):
        group, readings = ("group by 1, 2", "sum(readings)") if "cagg" in table else ("", "readings")
        if not group:
            group = "and readings > 0"
        query = sensors.format(time="bucket", readings=readings, table=table, group=group)
        same(await connection.fetch(query, start, end), plain)
