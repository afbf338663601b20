"""Files run beside others on a real PostgreSQL: waits for locks, `each row`, and what is tried again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg
import pytest

from ingest.errors import MigrationError
from ingest.migrate import Database, migrate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

METADATA = Database.METADATA
EACH_ROW = """-- Purpose: one index a table
-- transaction: none

create table if not exists metadata.seen (statement text);

-- each row: a statement to run
select s.statement
from (values
    (1, 'create index concurrently a_value on metadata.a (value)'),
    (2, 'insert into metadata.seen values (current_setting(''lock_timeout''))')
) as s (place, statement)
where s.place = 2
    or to_regclass('metadata.a_value') is null
order by s.place;
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "V1__base.sql").write_text("create table metadata.a (value int);\n")
    return tmp_path


@pytest.fixture
async def other(postgres_dsn: str, folder: Path) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """Somebody else's session; V1 is applied."""
    await migrate(postgres_dsn, METADATA, folder=folder)
    connection = await asyncpg.connect(postgres_dsn, server_settings={"application_name": "the report"})
    yield connection
    await connection.close()


@pytest.mark.parametrize("header", ["-- Purpose: add\n\n", "-- Purpose: add\n-- transaction: none\n\n"])
async def test_others_get_in_while_a_migration_wants_the_table(
    postgres_dsn: str, folder: Path, other: asyncpg.Connection[asyncpg.Record], header: str
) -> None:
    (folder / "V2__add.sql").write_text(header + "alter table metadata.a add column b int;\n")
    writer = await asyncpg.connect(postgres_dsn)
    try:
        async with other.transaction():
            await other.fetch("select * from metadata.a")
            migration = asyncio.create_task(migrate(postgres_dsn, METADATA, folder=folder))
            for _ in range(20):  # each would wait for the report behind the migration
                await asyncio.wait_for(writer.execute("insert into metadata.a values (1)"), 20)
                await asyncio.sleep(0.05)
            assert not migration.done()
        assert [file.version for file in await migration] == ["2"]
    finally:
        await writer.close()


async def test_who_holds_the_table_is_named_in_the_end(
    postgres_dsn: str, folder: Path, other: asyncpg.Connection[asyncpg.Record]
) -> None:
    (folder / "V2__add.sql").write_text("-- Purpose: add\n\nalter table metadata.a add column b int;\n")
    pid = other.get_server_pid()
    async with other.transaction():
        await other.fetch("select * from metadata.a")
        with pytest.raises(
            MigrationError, match=rf"V2__add.sql, line 3 .*Tried for 2 s.*pid {pid} \(the report, idle"
        ):
            await migrate(postgres_dsn, METADATA, folder=folder, lock_patience_s=2)


async def test_each_row_of_a_query_is_run_outside_a_transaction(
    postgres_dsn: str, folder: Path, other: asyncpg.Connection[asyncpg.Record]
) -> None:
    (folder / "V2__each.sql").write_text(EACH_ROW)
    assert [file.version for file in await migrate(postgres_dsn, METADATA, folder=folder)] == ["2"]
    assert await other.fetchval("select to_regclass('metadata.a_value') is not null")
    assert [row[0] for row in await other.fetch("select statement from metadata.seen")] == ["100ms"]


async def test_what_each_row_has_done_is_not_done_again(
    postgres_dsn: str, folder: Path, other: asyncpg.Connection[asyncpg.Record]
) -> None:
    path = folder / "V2__each.sql"
    path.write_text(EACH_ROW + "\nselect 1 / 0;\n")
    with pytest.raises(MigrationError, match=r"line 16 \(it may be run again as it is\): division by zero"):
        await migrate(postgres_dsn, METADATA, folder=folder)
    path.write_text(EACH_ROW)
    await migrate(postgres_dsn, METADATA, folder=folder)
    assert await other.fetchval("select count(*) from metadata.seen") == 2


async def test_each_row_within_a_transaction_is_refused(postgres_dsn: str, folder: Path) -> None:
    (folder / "V2__each.sql").write_text(EACH_ROW.replace("-- transaction: none\n", ""))
    with pytest.raises(MigrationError, match=r"line 6: `each row` needs `-- transaction: none`"):
        await migrate(postgres_dsn, METADATA, folder=folder)


async def test_an_internal_error_that_stays_is_told(
    postgres_dsn: str, folder: Path, other: asyncpg.Connection[asyncpg.Record]
) -> None:
    assert not other.is_closed()
    fails = "do $$ begin raise exception 'tuple concurrently updated' using errcode = 'XX000'; end $$;\n"
    (folder / "V2__fails.sql").write_text("-- Purpose: fail\n\n" + fails)
    with pytest.raises(MigrationError, match="tuple concurrently updated"):
        await migrate(postgres_dsn, METADATA, folder=folder)
