"""The runner on a real PostgreSQL: what it applies, records, refuses, and survives."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg
import pytest

from ingest.errors import ConfigurationError, MigrationError, Misconfigured, Unavailable
from ingest.migrate import Database, baseline, describe, migrate, status, verify
from tests.servers import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

METADATA = Database.METADATA


@pytest.fixture
async def connection(postgres_dsn: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connected = await asyncpg.connect(postgres_dsn)
    yield connected
    await connected.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three migrations of schema metadata."""
    write(tmp_path, "V1__base", "create table metadata.a (id int);\ncreate table metadata.b (id int);")
    write(tmp_path, "V1_1__more", "insert into metadata.a values (1), (2);")
    write(tmp_path, "V2__view", "create view metadata.v as select count(*) as rows from metadata.a;")
    return tmp_path


def write(folder: Path, name: str, sql: str) -> None:
    (folder / f"{name}.sql").write_text(sql)


async def states(dsn: str, folder: Path) -> list[tuple[str, str]]:
    return [(state.version, state.state) for state in await status(dsn, METADATA, folder=folder)]


async def test_files_are_applied_in_order_and_once(
    postgres_dsn: str, folder: Path, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    assert await states(postgres_dsn, folder) == [("1", "pending"), ("1_1", "pending"), ("2", "pending")]
    told: list[tuple[str, float]] = []
    applied = await migrate(
        postgres_dsn, METADATA, folder=folder, on_applied=lambda m, seconds: told.append((m.version, seconds))
    )
    assert [m.version for m in applied] == [version for version, _ in told] == ["1", "1_1", "2"]
    assert all(seconds > 0 for _, seconds in told)
    assert await connection.fetchval("select rows from metadata.v") == 2
    assert await migrate(postgres_dsn, METADATA, folder=folder) == []
    assert await connection.fetchval("select rows from metadata.v") == 2
    assert await states(postgres_dsn, folder) == [("1", "applied"), ("1_1", "applied"), ("2", "applied")]
    history = await connection.fetch("select * from metadata.schema_history order by applied_at")
    assert [(row["version"], row["description"], row["kind"]) for row in history] == [
        ("1", "base", "migrate"),
        ("1_1", "more", "migrate"),
        ("2", "view", "migrate"),
    ]
    assert [row["checksum"] for row in history] == [m.checksum for m in applied]


async def test_several_at_once_all_succeed(postgres_dsn: str, folder: Path) -> None:
    runs = await asyncio.gather(*(migrate(postgres_dsn, METADATA, folder=folder) for _ in range(4)))
    assert sorted(len(run) for run in runs) == [0, 0, 0, 3]


async def test_both_databases_may_be_one(postgres_dsn: str, folder: Path) -> None:
    iot = folder / "iot"
    iot.mkdir()
    write(iot, "V1__base", "create table iot.a (id int);")
    runs = await asyncio.gather(
        migrate(postgres_dsn, METADATA, folder=folder), migrate(postgres_dsn, Database.TIMESERIES, folder=iot)
    )
    assert [len(run) for run in runs] == [3, 1]


async def test_a_failing_file_leaves_nothing_and_says_where(
    postgres_dsn: str, folder: Path, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    write(folder, "V3__broken", "-- Purpose: fail\n\ncreate table metadata.c (id int);\n\nselect 1 / 0;\n")
    with pytest.raises(MigrationError, match=r"V3__broken.sql, line 5 .*division by zero \(SQLSTATE 22012\)"):
        await migrate(postgres_dsn, METADATA, folder=folder)
    assert await connection.fetchval("select to_regclass('metadata.c')") is None
    assert (await states(postgres_dsn, folder))[-2:] == [("2", "applied"), ("3", "pending")]
    write(folder, "V3__broken", "create table metadata.c (id int);")
    assert [m.version for m in await migrate(postgres_dsn, METADATA, folder=folder)] == ["3"]


async def test_a_file_without_transaction_runs_what_refuses_one_and_is_repeated(
    postgres_dsn: str, folder: Path, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    text = (
        "-- Purpose: build beside writers\n-- transaction: none\n\n"
        "create index concurrently if not exists a_id on metadata.a (id);\n"
    )
    write(folder, "V3__index", text + "select 1 / 0;\n")
    with pytest.raises(MigrationError, match=r"it may be run again as it is"):
        await migrate(postgres_dsn, METADATA, folder=folder)
    assert await connection.fetchval("select to_regclass('metadata.a_id')") is not None
    assert (await states(postgres_dsn, folder))[-1] == ("3", "pending")
    write(folder, "V3__index", text)
    runs = await asyncio.gather(*(migrate(postgres_dsn, METADATA, folder=folder) for _ in range(2)))
    assert sorted(len(run) for run in runs) == [0, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("V1_1__more", "insert into metadata.a values (3);"),
            "V1_1__more.sql was edited after it was applied",
        ),
        (("V1_0_1__late", "select 1;"), "V1_0_1__late.sql comes before versions already applied"),
    ],
)
async def test_files_that_contradict_the_history_are_refused(
    postgres_dsn: str,
    folder: Path,
    connection: asyncpg.Connection[asyncpg.Record],
    change: tuple[str, str],
    message: str,
) -> None:
    await migrate(postgres_dsn, METADATA, folder=folder)
    write(folder, *change)
    write(folder, "V3__next", "create table metadata.c (id int);")
    with pytest.raises(MigrationError, match=message):
        await migrate(postgres_dsn, METADATA, folder=folder)
    assert await connection.fetchval("select to_regclass('metadata.c')") is None


async def test_a_file_that_went_missing_is_refused(postgres_dsn: str, folder: Path) -> None:
    await migrate(postgres_dsn, METADATA, folder=folder)
    (folder / "V2__view.sql").unlink()
    with pytest.raises(MigrationError, match=r"version 2 \(view\) was applied and its file is gone"):
        await migrate(postgres_dsn, METADATA, folder=folder)
    assert (await states(postgres_dsn, folder))[-1] == ("2", "missing")


async def test_a_live_database_is_adopted_at_flyways_version(
    postgres_dsn: str, folder: Path, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    await connection.execute("""
        create schema metadata;
        create table metadata.a (id int);
        create table metadata.b (id int);
        create table public.flyway_schema_history
            (installed_rank int primary key, version varchar(50), description varchar(200), success boolean);
        insert into public.flyway_schema_history values
            (1, '1', 'base', true), (2, '1.1', 'more', true), (3, null, 'repeatable', true);
    """)
    flyway = await connection.fetch("select * from public.flyway_schema_history")
    adopted = await baseline(postgres_dsn, METADATA, folder=folder)
    assert [m.version for m in adopted] == ["1", "1_1"]
    assert await states(postgres_dsn, folder) == [("1", "applied"), ("1_1", "applied"), ("2", "pending")]
    assert [m.version for m in await migrate(postgres_dsn, METADATA, folder=folder)] == ["2"]
    assert await connection.fetch("select * from public.flyway_schema_history") == flyway
    with pytest.raises(MigrationError, match="has entries already"):
        await baseline(postgres_dsn, METADATA, "2", folder=folder)


async def test_what_cannot_be_adopted_says_why(
    postgres_dsn: str, folder: Path, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    with pytest.raises(MigrationError, match="schema metadata holds no tables"):
        await baseline(postgres_dsn, METADATA, "1", folder=folder)
    await connection.execute("create schema metadata; create table metadata.a (id int)")
    with pytest.raises(MigrationError, match="no flyway_schema_history tells the version"):
        await baseline(postgres_dsn, METADATA, folder=folder)
    with pytest.raises(MigrationError, match=r"version 7 is not among the files \(1, 1_1, 2\)"):
        await baseline(postgres_dsn, METADATA, "7", folder=folder)
    with pytest.raises(MigrationError, match="'latest' is no version"):
        await baseline(postgres_dsn, METADATA, "latest", folder=folder)
    await connection.execute("""
        create table metadata.flyway_schema_history
            (installed_rank int primary key, version varchar(50), success boolean);
        insert into metadata.flyway_schema_history values (1, '1', true), (2, '2', false);
    """)
    with pytest.raises(MigrationError, match="Flyway's migration 2 failed"):
        await baseline(postgres_dsn, METADATA, folder=folder)
    assert await states(postgres_dsn, folder) == [("1", "pending"), ("1_1", "pending"), ("2", "pending")]


async def test_verify_names_what_is_pending_missing_and_changed(
    postgres_dsn: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    pending = await verify(postgres_dsn, METADATA)
    assert pending[0] == "version 11 (baseline) is pending: run `ingest schema migrate`"
    await migrate(postgres_dsn, METADATA)
    assert await verify(postgres_dsn, METADATA) == []
    await connection.execute("""
        alter table metadata.sensors add column extra text;
        alter table metadata.greenhouses alter column mqtt_topic type text;
        drop index metadata.sensors_tenant_id_idx;
        alter table metadata.greenhouses rename constraint greenhouses_pkey to renamed;
        update metadata.units set symbol = 'K' where id = 2;
        alter table metadata.units disable trigger units_notify_catalog_changed;
        drop table metadata.greenhouse_snapshot;
    """)
    problems = await verify(postgres_dsn, METADATA)
    assert {problem for problem in problems if "metadata.greenhouse_snapshot" not in problem} == {
        "expected and not found: column metadata.greenhouses.mqtt_topic character varying",
        "expected and not found: index metadata.sensors btree (tenant_id)",
        "expected and not found: row metadata.units 2 °F",
        "expected and not found: trigger metadata.units units_notify_catalog_changed",
    }
    assert any("metadata.greenhouse_snapshot" in problem for problem in problems)


async def test_verify_says_when_timescaledb_is_not_there(postgres_dsn: str) -> None:
    with pytest.raises(MigrationError, match=r'V11__baseline.sql, line \d+ .*"timescaledb" is not available'):
        await migrate(postgres_dsn, Database.TIMESERIES)
    with pytest.raises(MigrationError, match="describing the timeseries database"):
        await describe(postgres_dsn, Database.TIMESERIES)


async def test_no_connection_says_to_what_and_why(postgres_dsn: str) -> None:
    with pytest.raises(Unavailable, match="cannot connect to the metadata database"):
        await status(f"postgresql://postgres@127.0.0.1:{free_port()}/x", METADATA)
    with pytest.raises(Misconfigured, match='database "nowhere" does not exist'):
        await status(postgres_dsn.rpartition("/")[0] + "/nowhere", METADATA)
    with pytest.raises(ConfigurationError, match="its DSN is not usable"):
        await status("mysql://secret@127.0.0.1/x", METADATA)


async def test_a_lost_connection_is_no_fault_of_the_file(
    postgres_dsn: str, folder: Path, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    write(folder, "V3__slow", "create table metadata.c (id int);\nselect pg_sleep(30);\n")
    run = asyncio.create_task(migrate(postgres_dsn, METADATA, folder=folder))
    terminate = """
        select count(pg_terminate_backend(pid)) from pg_stat_activity
        where query like 'select pg_sleep%' and datname = current_database()
    """
    while not await connection.fetchval(terminate):  # noqa: ASYNC110 -- the event is in the server
        await asyncio.sleep(0.02)
    with pytest.raises(Unavailable, match=r"V3__slow.sql, line 2"):
        await run
    write(folder, "V3__slow", "create table metadata.c (id int);")
    assert [m.version for m in await migrate(postgres_dsn, METADATA, folder=folder)] == ["3"]
