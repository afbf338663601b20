"""A live database of the system before, migrated, for what `ingest normalize` makes of it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
from pydantic import SecretStr

from ingest.migrate import Database, migrate
from ingest.settings import Settings
from tests.live_v11 import LiveV11, build

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ingest.operate.normalize_report import Report

ROWS = 3_000
LACKING = """
    select count(*)
    from iot.sensor_readings
    where tenant_id is null or sensor_type_id is null or unit_id is null
"""


class Live:
    """A migrated database of the system before, and the settings that lead to it."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record], dsn: str, content: LiveV11) -> None:
        self.connection = connection
        self.dsn = dsn
        self.content = content
        self.settings = Settings(metadata_dsn=SecretStr(dsn), timeseries_dsn=SecretStr(dsn))

    async def count(self, sql: str, *arguments: object) -> int:
        return int(await self.connection.fetchval(sql, *arguments))

    async def log(self) -> list[tuple[Any, ...]]:
        rows = await self.connection.fetch("""
            select status, successful_records, failed_records
            from metadata.bulk_operation_log
            where operation_type = 'NORMALIZE'
            order by id
        """)
        return [tuple(row) for row in rows]


async def build_migrated(dsn: str) -> LiveV11:
    """Fill an empty database as the system before did, and migrate it."""
    content = await build(dsn, rows=ROWS)
    for database in Database:
        await migrate(dsn, database)
    return content


@asynccontextmanager
async def connected(dsn: str, content: LiveV11) -> AsyncIterator[Live]:
    connection = await asyncpg.connect(dsn)
    try:
        yield Live(connection, dsn, content)
    finally:
        await connection.close()


def counts(report: Report) -> dict[str, int]:
    return {
        "found": report.found,
        "mapped": report.mapped,
        "merged": report.merged,
        "differing": report.differing,
        "unmapped": report.unmapped,
        "pending": report.pending,
        "arrived": report.arrived,
        "no_sensor": report.no_sensor,
    }


def expected(content: LiveV11) -> dict[str, int]:
    return {
        "found": content.rows,
        "mapped": content.plain + 2 * content.no_sensor + content.identical + content.differing,
        "merged": content.identical,
        "differing": content.differing,
        "unmapped": content.unmapped,
        "pending": 0,
        "arrived": 0,
        "no_sensor": 2 * content.no_sensor,
    }
