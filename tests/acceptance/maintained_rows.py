"""Readings of one greenhouse, a chunk a day, and what `ingest status` finds wrong with them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from pydantic import SecretStr

from ingest.operate.status import look
from ingest.operate.status_judge import judge
from ingest.settings import Settings

if TYPE_CHECKING:
    import asyncpg

    from ingest.operate.status_judge import Breach
    from tests.acceptance.conftest import Greenhouse

COMPRESSED = """
    select count(*) filter (where is_compressed), count(*)
    from timescaledb_information.chunks
    where hypertable_schema = 'iot' and hypertable_name = 'sensor_readings'
"""
AGGREGATES = """
    select format('%I.%I', view_schema, view_name)
    from timescaledb_information.continuous_aggregates
    where view_schema = 'iot'
"""
CLEAR = (
    "select drop_chunks('iot.sensor_readings', older_than => now() + interval '9 days')",
    "select remove_retention_policy('iot.sensor_readings', if_exists => true)",
    """
        truncate iot.sensor_intervals, iot.ingest_sessions, iot.ingest_dead_letters, iot.ingest_written_hours
    """,
    "delete from metadata.actuators",
    "delete from metadata.sensors",
)
"""What a test leaves that the next would find."""
LOG = """
    select status, successful_records
    from metadata.bulk_operation_log
    where operation_type = 'MAINTAIN'
    order by id desc
    limit $1
"""


class Rows:
    """Readings of one greenhouse, a chunk a day."""

    def __init__(self, connection: asyncpg.Connection, greenhouse: Greenhouse) -> None:
        self.connection = connection
        self.greenhouse = greenhouse

    async def add(self, *days_ago: float, count: int = 10) -> None:
        """Add readings with ids, a second apart, that no aggregate has yet."""
        await self.connection.execute(
            """
            insert into iot.sensor_readings
                (time, greenhouse_id, tenant_id, sensor_id, sensor_type_id, unit_id, value)
            select
                now() - d * interval '1 day' - n * interval '1 second', $1, $2,
                ('00000000-0000-4000-8000-00000000000' || n % 10)::uuid, 1, 1, n
            from unnest($3::float8[]) as d
            cross join generate_series(1, $4::integer) as n
            """,
            self.greenhouse.greenhouse_id,
            self.greenhouse.tenant_id,
            list(days_ago),
            count,
        )

    async def add_legacy(self, time: datetime, *spellings: str, value: float = 21.5) -> None:
        """Add a reading with names in place of ids, once in each spelling."""
        await self.connection.executemany(
            """
            insert into iot.sensor_readings (time, greenhouse_id, sensor_id, sensor_type, unit, value)
            values ($1, $2, $3, $4, '°C', $5)
            """,
            [
                (time, self.greenhouse.greenhouse_id, self.greenhouse.tenant_id, spelling, value)
                for spelling in spellings
            ],
        )

    async def aggregate(self) -> None:
        """Bring every aggregate up to date, so that only the state under test is beyond its threshold."""
        for name in [each[0] for each in await self.connection.fetch(AGGREGATES)]:
            await self.connection.execute(
                f"call refresh_continuous_aggregate('{name}', null, now() - interval '1 minute')"
            )

    async def clear(self) -> None:
        for statement in CLEAR:
            await self.connection.execute(statement)

    async def compressed(self) -> tuple[int, int]:
        compressed, chunks = (await self.connection.fetch(COMPRESSED))[0]
        return compressed, chunks

    async def log(self, count: int = 1) -> list[tuple[str, int]]:
        return [tuple(each) for each in await self.connection.fetch(LOG, count)]


def settings_of(dsn: str, metadata_dsn: str | None = None, **tables: Any) -> Settings:  # noqa: ANN401 (as Settings takes them)
    return Settings(metadata_dsn=SecretStr(metadata_dsn or dsn), timeseries_dsn=SecretStr(dsn), **tables)


def as_role(dsn: str, role: str) -> str:
    """Give the DSN of sessions that have the rights of *role* and no others."""
    return urlunsplit(urlsplit(dsn)._replace(query=f"role={role}"))


async def breaches(settings: Settings) -> dict[str, Breach]:
    """Look as `ingest status` does, without a process; give what is beyond its threshold, by check."""
    found = await look(settings, datetime.now(UTC))
    assert found.faults == []
    return {each.check: each for each in judge(found, settings.status)}
