"""Readings of one greenhouse, a chunk a day, for the tests of `ingest status` and `ingest maintain`."""

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

    from tests.acceptance.conftest import Greenhouse

COMPRESSED = """
    select count(*) filter (where is_compressed), count(*)
    from timescaledb_information.chunks
    where hypertable_schema = 'iot' and hypertable_name = 'sensor_readings'
"""
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

    async def add(self, *days_ago: int, count: int = 10) -> None:
        await self.connection.execute(
            """
            insert into iot.sensor_readings
                (time, greenhouse_id, tenant_id, sensor_id, sensor_type_id, unit_id, value)
            select
                now() - d * interval '1 day' - n * interval '1 second', $1, $2,
                ('00000000-0000-4000-8000-00000000000' || n % 10)::uuid, 1, 1, n
            from unnest($3::integer[]) as d
            cross join generate_series(1, $4::integer) as n
            """,
            self.greenhouse.greenhouse_id,
            self.greenhouse.tenant_id,
            list(days_ago),
            count,
        )

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


async def breaches(settings: Settings) -> dict[str, str]:
    found = await look(settings, datetime.now(UTC))
    assert found.faults == []
    return {each.check: each.command for each in judge(found, settings.status)}
