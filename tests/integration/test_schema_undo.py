"""The undo files: what each takes back, and when it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import pytest

from ingest.migrate import Database, describe, migrate, schema_folder
from ingest.migration_files import version_key

if TYPE_CHECKING:
    from pathlib import Path

REFUSALS = [
    (Database.METADATA, "12_1", "insert into metadata.unit_aliases values ('GR/M3', 10)", "aliases"),
    (Database.METADATA, "12", "insert into metadata.units (symbol, name) values ('K', 'kelvin')", "catalogs"),
    (
        Database.TIMESERIES,
        "11_1",
        "insert into iot.sensor_readings (time, greenhouse_id, unit_id) values (now(), gen_random_uuid(), 1)",
        "readings with ids",
    ),
    (
        Database.TIMESERIES,
        "15",
        "insert into iot.ingest_sessions (client_id, pending) values ('a', 'abcdef')",
        "a session has messages",
    ),
]


def undo_files(database: Database) -> list[Path]:
    """Return the undo files, latest version first."""
    return sorted(
        schema_folder(database).glob("U*.sql"),
        key=lambda path: version_key(path.name[1:].split("__")[0]),
        reverse=True,
    )


@pytest.mark.parametrize("database", list(Database))
async def test_undone_and_done_again_is_the_same(migrated_dsn: str, database: Database) -> None:
    before = await describe(migrated_dsn, database)
    connection = await asyncpg.connect(migrated_dsn)
    try:
        for path in undo_files(database):
            assert (path.with_name("V" + path.name[1:])).exists()
            async with connection.transaction():
                await connection.execute(path.read_text(encoding="utf-8"))
        history = "delete from metadata.schema_history where version <> '11'"
        await connection.execute(
            history if database is Database.METADATA else history.replace("metadata", "iot")
        )
    finally:
        await connection.close()
    assert len(await migrate(migrated_dsn, database)) == len(undo_files(database))
    assert await describe(migrated_dsn, database) == before


@pytest.mark.parametrize(("database", "version", "change", "reason"), REFUSALS)
async def test_what_would_be_lost_is_refused(
    migrated_dsn: str, database: Database, version: str, change: str, reason: str
) -> None:
    (path,) = schema_folder(database).glob(f"U{version}__*.sql")
    connection = await asyncpg.connect(migrated_dsn)
    try:
        await connection.execute(change)
        with pytest.raises(asyncpg.RaiseError, match=reason):
            await connection.execute(path.read_text(encoding="utf-8"))
    finally:
        await connection.close()
