"""What `ingest status` says of a database that is not migrated, or that its role may not read: once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import uuid4

import asyncpg

from ingest.commands.status_tables import print_status
from ingest.migrate import Database, migrate
from ingest.operate.names import Names
from ingest.operate.status import look
from tests.acceptance.maintained_rows import as_role, settings_of

if TYPE_CHECKING:
    import pytest


async def test_a_table_that_is_not_there_is_said_once_for_all_with_what_mends_it(
    postgres_dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = await look(settings_of(postgres_dsn), datetime.now(UTC))
    told = {
        database: [each.sqlstate for each in found.faults if each.database == database and each.sqlstate]
        for database in ("timeseries", "metadata")
    }
    assert told == {"timeseries": ["42P01"], "metadata": ["42P01"]}
    assert any("no extension timescaledb" in each.what for each in found.faults)
    print_status(found, [], [], Names())
    shown = capsys.readouterr().out
    blind = [line for line in shown.splitlines() if line.startswith("NOT LOOKED AT: ")]
    assert len(blind) == 3
    assert all("run `ingest schema migrate`" in line for line in blind)
    assert shown.endswith("\n\nnothing of ours was seen\n")


async def test_a_role_that_may_not_read_is_told_of_the_one_that_may(postgres_dsn: str) -> None:
    await migrate(postgres_dsn, Database.METADATA)
    stranger = f"stranger_{uuid4().hex[:12]}"
    connection = await asyncpg.connect(postgres_dsn)
    await connection.execute(f"create role {stranger} nologin")
    try:
        found = await look(settings_of(as_role(postgres_dsn, stranger)), datetime.now(UTC))
    finally:
        await connection.execute(f"drop role {stranger}")
        await connection.close()
    refused = {each.what for each in found.faults if each.database == "metadata"}
    assert len(refused) == 1
    assert "grant it greenhouse_reader" in refused.pop()
