"""docs/schema-*.md are what the live schema says, and what a migration changes shows in them."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

import asyncpg
import pytest

from docs.draw_schema import drawn, page
from docs.schema_catalog import read_catalog
from docs.schema_page import MARKER
from ingest.migrate import Database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

REWRITE = "run `make schema-docs` and read the diff"
CHANGES = [
    ("comment on column metadata.units.symbol is 'A|B'", "| `symbol` | varchar(20) | no | A\\|B |"),
    ("alter table metadata.units add si boolean", "| `si` | boolean | yes |  |"),
    (
        "alter table metadata.alerts add foreign key (severity_id) references metadata.units (id)",
        '    units |o--o{ alerts : "severity_id"',
    ),
    ("create index on metadata.units (name)", "- Index: `(name)`."),
    ("grant update on metadata.audit_log to greenhouse_worker", "- Written by the worker (change)."),
    (
        "grant update (email) on metadata.users to greenhouse_reader",
        "- Written by dashboards (change only `email`).",
    ),
    (
        "select set_chunk_time_interval('iot.sensor_readings', interval '2 days')",
        "- Hypertable on `time`, in chunks of 2 days.",
    ),
    (
        "select add_retention_policy('iot.sensor_readings', interval '2 years')",
        "- Chunks are dropped 2 years after their end.",
    ),
    (
        """
            select alter_job(job_id, schedule_interval => interval '10 minutes')
            from timescaledb_information.jobs
            where proc_name = 'recompute_late_buckets'
        """,
        "| `recompute_late_buckets` | 10 minutes | gap_factor 2, max_days 31 |",
    ),
]


@pytest.fixture
async def connection(migrated_dsn: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(migrated_dsn)
    yield connection
    await connection.close()


async def test_the_pages_are_what_the_schema_says(migrated_dsn: str) -> None:
    for database in Database:
        assert page(database).read_text(encoding="utf-8") == await drawn(migrated_dsn, database), REWRITE


async def test_every_table_is_drawn_and_every_column_told(migrated_dsn: str) -> None:
    for database in Database:
        _, _, generated = page(database).read_text(encoding="utf-8").partition(MARKER)
        catalog = await read_catalog(migrated_dsn, database)
        assert len(catalog.relations) > 20
        for relation in catalog.relations.values():
            _, _, section = generated.partition(f"\n### {relation.name}\n")
            told = re.findall(r"(?m)^\| `(\w+)` \|.* (\S.*) \|$", section.partition("\n##")[0])
            assert [name for name, _ in told] == [column.name for column in relation.columns]
            assert (f"\n    {relation.name} {{\n" in generated) == (relation.kind != "view")


async def test_what_a_migration_changes_shows(
    connection: asyncpg.Connection[asyncpg.Record], migrated_dsn: str
) -> None:
    async def lines() -> Counter[str]:
        return Counter("".join([await drawn(migrated_dsn, each) for each in Database]).splitlines())

    before = await lines()
    for change, _ in CHANGES:
        await connection.execute(change)
    added = await lines() - before
    assert [line for _, line in CHANGES if line not in added] == []


async def test_a_table_without_a_group_is_named(
    connection: asyncpg.Connection[asyncpg.Record], migrated_dsn: str
) -> None:
    await connection.execute("create table iot.newcomer (id integer)")
    with pytest.raises(LookupError, match=r"newcomer: in schema iot or in GROUPS"):
        await drawn(migrated_dsn, Database.TIMESERIES)
