"""The embedded TimescaleDB seen through asyncpg, as the worker sees it: one session, many connections.

Every test uses tables and channels of its own in one server, except those that stop it.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Literal
from uuid import uuid4

import asyncpg
import pytest

from ingest.embedded import EmbeddedDatabase

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path
from tests.embedded_clients import (
    COLUMNS,
    COPY_ROWS,
    START,
    connected,
    drop_tables,
    new_hypertable,
    new_table,
    readings,
    unique,
)


@pytest.fixture(scope="module")
def database(embedded_database: EmbeddedDatabase) -> Iterator[EmbeddedDatabase]:
    """The run's embedded database; what the tests of the module make in it is dropped."""
    yield embedded_database
    asyncio.run(drop_tables(embedded_database))


async def test_it_is_postgresql_17_with_the_community_edition_of_timescaledb(
    database: EmbeddedDatabase,
) -> None:
    async with connected(database) as connection:
        assert connection.get_server_version().major == 17
        assert await connection.fetchval("show timescaledb.license") == "timescale"
        assert connection.get_settings().client_encoding == "UTF8"
    assert database.versions["timescaledb"].startswith("2.23")


async def test_five_clients_of_a_pool_work_side_by_side(database: EmbeddedDatabase) -> None:
    table = await new_table(database, "worker int, step int")
    async with asyncpg.create_pool(database.dsn, min_size=5, max_size=5) as pool:

        async def work(worker: int) -> None:
            for step in range(10):
                async with pool.acquire() as connection, connection.transaction():
                    await connection.execute(f"insert into {table} values ($1, $2)", worker, step)
                    seen = await connection.fetchval(
                        f"select count(*) from {table} where worker = $1", worker
                    )
                    assert seen == step + 1

        await asyncio.gather(*(work(worker) for worker in range(5)))
        assert await pool.fetchval(f"select count(*) from {table}") == 50


async def test_a_transaction_keeps_the_session_until_it_ends(database: EmbeddedDatabase) -> None:
    table = await new_table(database)
    async with connected(database) as first, connected(database) as second:
        transaction = first.transaction()
        await transaction.start()
        await first.execute(f"insert into {table} values (1)")
        waiting = asyncio.create_task(second.fetchval(f"select count(*) from {table}"))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        await first.execute(f"insert into {table} values (2)")
        await transaction.commit()
        assert await waiting == 2


async def test_what_a_vanished_client_left_open_is_rolled_back(database: EmbeddedDatabase) -> None:
    table = await new_table(database)
    gone = await asyncpg.connect(database.dsn)
    await gone.execute("begin")
    await gone.execute(f"insert into {table} values (1)")
    gone.terminate()
    async with connected(database) as connection:
        assert await connection.fetchval(f"select count(*) from {table}") == 0


async def test_a_silent_transaction_is_ended_and_says_so() -> None:
    with EmbeddedDatabase(silence_limit_s=0.5) as database:
        table = await new_table(database)
        silent = await asyncpg.connect(database.dsn)
        await silent.execute("begin")
        await silent.execute(f"insert into {table} values (1)")
        async with connected(database) as other:
            assert await other.fetchval(f"select count(*) from {table}", timeout=10) == 0
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, ConnectionError)):
            await silent.execute("commit")
        silent.terminate()


async def test_binary_copy_of_20_000_rows_into_a_hypertable_in_a_transaction(
    database: EmbeddedDatabase,
) -> None:
    async with connected(database) as connection:
        table = await new_hypertable(connection)
        async with connection.transaction():
            status = await connection.copy_records_to_table(
                table, records=readings(COPY_ROWS), columns=COLUMNS
            )
            assert status == f"COPY {COPY_ROWS}"
            assert connection.is_in_transaction()
        await connection.execute(f"select compress_chunk(c) from show_chunks('{table}') c")
        late = readings(200, START + timedelta(milliseconds=500))
        assert await connection.copy_records_to_table(table, records=late, columns=COLUMNS) == "COPY 200"
        count, total = await connection.fetchrow(f"select count(*), sum(value) from {table}") or (0, 0)
        assert count == COPY_ROWS + 200
        assert total == pytest.approx(sum(row[-1] for row in readings(COPY_ROWS) + late))


@pytest.mark.parametrize("form", ["binary", "text", "csv"])
async def test_copy_goes_out_and_in_again_in_every_format(
    database: EmbeddedDatabase, form: Literal["text", "csv", "binary"], tmp_path: Path
) -> None:
    source = await new_table(database, "id int, text text")
    target = await new_table(database, "id int, text text")
    file = tmp_path / "rows"
    rows = [(1, "plain"), (2, None), (3, 'tab\t, "quoted"\nºC \\ é')]
    async with connected(database) as connection:
        await connection.copy_records_to_table(source, records=rows)
        await connection.copy_from_query(f"select * from {source} order by id", output=file, format=form)
        assert await connection.copy_to_table(target, source=file, format=form) == "COPY 3"
        assert [tuple(row) for row in await connection.fetch(f"select * from {target} order by id")] == rows


async def test_a_large_copy_arrives_whole(database: EmbeddedDatabase) -> None:
    table = await new_table(database, "id int, text text")
    rows = [(i, f"{i:06}" * 200) for i in range(25_000)]  # 30 MB: past every buffer on the way
    async with connected(database) as connection:
        assert await connection.copy_records_to_table(table, records=rows) == "COPY 25000"
        assert await connection.fetchval(f"select sum(length(text)) from {table}") == 30_000_000
        assert len(await connection.fetch(f"select * from {table}")) == 25_000


async def test_a_unique_violation_in_copy_names_its_constraint_and_aborts_the_transaction(
    database: EmbeddedDatabase,
) -> None:
    table = await new_table(database)
    async with connected(database) as connection:
        transaction = connection.transaction()
        await transaction.start()
        with pytest.raises(asyncpg.UniqueViolationError) as raised:
            await connection.copy_records_to_table(table, records=[(1,), (2,), (1,)])
        assert raised.value.constraint_name == f"{table}_pkey"
        assert raised.value.table_name == table
        assert raised.value.detail == "Key (id)=(1) already exists."
        with pytest.raises(asyncpg.InFailedSQLTransactionError):
            await connection.execute("select 1")
        with pytest.raises(asyncpg.InFailedSQLTransactionError):
            await connection.copy_records_to_table(table, records=[(3,)])
        await transaction.rollback()
        assert await connection.copy_records_to_table(table, records=[(1,), (2,)]) == "COPY 2"


async def test_a_copy_the_client_gives_up_is_an_error_and_keeps_savepoints(
    database: EmbeddedDatabase,
) -> None:
    table = await new_table(database)

    async def broken() -> AsyncIterator[bytes]:
        yield b"1\n"
        raise OSError("the file cannot be read")

    async with connected(database) as connection, connection.transaction():
        await connection.execute(f"insert into {table} values (7)")
        with pytest.raises(OSError, match="cannot be read"):
            async with connection.transaction():
                await connection.copy_to_table(table, source=broken())
        assert await connection.fetchval(f"select array_agg(id) from {table}") == [7]


async def test_copy_into_a_missing_table_leaves_the_connection_usable(database: EmbeddedDatabase) -> None:
    async with connected(database) as connection:
        with pytest.raises(asyncpg.UndefinedTableError):
            await connection.copy_records_to_table("no_such_table", records=[(1,)])
        assert await connection.fetchval("select 1") == 1


async def test_copy_among_other_statements_is_refused_not_trapped(database: EmbeddedDatabase) -> None:
    table = await new_table(database)
    async with connected(database) as connection:
        with pytest.raises(asyncpg.FeatureNotSupportedError, match="simple query of its own"):
            await connection.fetch(f"copy {table} from stdin")
        with pytest.raises(asyncpg.FeatureNotSupportedError, match="simple query of its own"):
            await connection.execute(f"select 1; copy {table} from stdin")
        assert await connection.fetchval("select 1") == 1


async def test_prepared_statements_of_one_name_do_not_meet(database: EmbeddedDatabase) -> None:
    async with connected(database) as first, connected(database) as second:
        one = await first.prepare("select 'first'::text", name="same")
        two = await second.prepare("select 'second'::text", name="same")
        assert (await one.fetchval(), await two.fetchval()) == ("first", "second")
        await first.execute("deallocate all")
        assert await two.fetchval() == "second"
        with pytest.raises(asyncpg.InvalidSQLStatementNameError):
            await one.fetchval()


async def test_unnamed_statements_survive_another_client_in_between(database: EmbeddedDatabase) -> None:
    first = await asyncpg.connect(database.dsn, statement_cache_size=0)
    second = await asyncpg.connect(database.dsn, statement_cache_size=0)
    try:
        for number in range(5):
            one = await first.prepare(f"select {number}", name="")
            two = await second.prepare(f"select {number + 100}", name="")
            assert (await one.fetchval(), await two.fetchval()) == (number, number + 100)
    finally:
        await first.close()
        await second.close()


async def test_a_statement_only_prepared_does_not_hold_the_session(database: EmbeddedDatabase) -> None:
    async with connected(database) as first, connected(database) as second:
        await first.prepare("select 1")  # Parse, Describe, Flush: no Sync follows
        assert await second.fetchval("select 2", timeout=5) == 2
        with pytest.raises(asyncpg.PostgresSyntaxError):
            await first.prepare("selec")
        assert await second.fetchval("select 2", timeout=5) == 2


async def test_cursors_and_errors_inside_transactions(database: EmbeddedDatabase) -> None:
    async with connected(database) as connection, connection.transaction():
        cursor = connection.cursor("select generate_series(1, 120)", prefetch=50)
        assert [row[0] async for row in cursor] == list(range(1, 121))
        with pytest.raises(asyncpg.DivisionByZeroError):
            async with connection.transaction():
                await connection.fetchval("select 1 / $1::int", 0)
        assert await connection.fetchval("select 1") == 1


async def test_settings_of_one_client_are_not_those_of_another(database: EmbeddedDatabase) -> None:
    started = {"application_name": "first", "search_path": "information_schema", "statement_timeout": "5000"}
    async with connected(database, **started) as first, connected(database, TimeZone="UTC") as second:
        assert await second.fetchval("show search_path") == '"$user", public'
        assert await first.fetchval("show search_path") == "information_schema"
        await first.execute("set lock_timeout = '3s'; set jit = off; set timezone = 'Europe/Madrid'")
        await second.execute("select set_config('timescaledb.enable_chunk_skipping', 'on', false)")
        assert await second.fetchval("show lock_timeout") == "0"
        assert await second.fetchval("show timezone") == "UTC"
        await second.execute("set timezone = 'Asia/Tokyo'")
        assert await first.fetchval("show timezone") == "Europe/Madrid"
        assert await second.fetchval("show timezone") == "Asia/Tokyo"
        assert await first.fetchval("show lock_timeout") == "3s"
        assert await first.fetchval("show timescaledb.enable_chunk_skipping") == "off"
        assert first.get_settings().TimeZone == "Europe/Madrid"
        await first.execute("reset all")  # returns to what the connection was started with
        assert await first.fetchval("show search_path") == "information_schema"
        assert await first.fetchval("show lock_timeout") == "0"
        assert await second.fetchval("show timescaledb.enable_chunk_skipping") == "on"
        assert await first.fetchval("show application_name") == "first"
        assert await second.fetchval("show enable_seqscan") == "on"


async def test_settings_made_in_a_transaction_that_is_rolled_back_are_forgotten(
    database: EmbeddedDatabase,
) -> None:
    async with connected(database) as first, connected(database) as second:
        await first.execute("begin")
        await first.execute("set lock_timeout = '3s'")
        await first.execute("rollback")
        assert await second.fetchval("show lock_timeout") == "0"
        assert await first.fetchval("show lock_timeout") == "0"


async def test_a_setting_the_server_does_not_know_is_refused_at_startup(database: EmbeddedDatabase) -> None:
    with pytest.raises(asyncpg.UndefinedObjectError):
        await asyncpg.connect(database.dsn, server_settings={"no_such_setting": "1"})
    async with connected(database) as connection:
        assert await connection.fetchval("select 1") == 1


async def test_a_role_taken_by_one_client_does_not_reach_another(database: EmbeddedDatabase) -> None:
    role = unique("role")
    async with connected(database) as first, connected(database) as second:
        await first.execute(f"create role {role}")
        await first.execute(f"set role {role}")
        assert await second.fetchval("select current_user") == "postgres"
        assert await first.fetchval("select current_user") == role
        await first.execute("reset role")
        assert await first.fetchval("select current_user") == "postgres"


async def test_temporary_tables_belong_to_one_client(database: EmbeddedDatabase) -> None:
    async with connected(database) as first, connected(database) as second:
        for number, connection in enumerate((first, second)):
            await connection.execute("create temporary table staging (id int primary key)")
            await connection.execute("insert into staging values ($1)", number)
        for number, connection in enumerate((first, second)):
            assert await connection.fetchval("select id from staging") == number
            assert await connection.copy_records_to_table("staging", records=[(10,)]) == "COPY 1"
    async with connected(database) as third:
        assert await third.fetchval("select to_regclass('staging')") is None


async def test_notifications_reach_those_who_listen_and_nobody_else(database: EmbeddedDatabase) -> None:
    channel, other = unique("Changed"), unique("other")
    heard: list[tuple[str, str, str]] = []
    told = asyncio.Event()

    def listener(who: str) -> object:
        def hear(_: object, __: int, on: str, payload: object) -> None:
            heard.append((who, on, str(payload)))
            if payload == "last":
                told.set()

        return hear

    async with connected(database) as first, connected(database) as second, connected(database) as third:
        hear_first, hear_second = listener("first"), listener("second")
        await first.add_listener(channel, hear_first)  # type: ignore[arg-type]
        await second.add_listener(other, hear_second)  # type: ignore[arg-type]
        await third.execute("select pg_notify($1, 'one')", channel)
        await third.execute("select pg_notify($1, 'two')", other)
        await third.reset()  # UNLISTEN * of its own
        await second.remove_listener(other, hear_second)  # type: ignore[arg-type]
        async with third.transaction():
            await third.execute("select pg_notify($1, 'three')", other)
            await third.execute("select pg_notify($1, 'last')", channel)
        await asyncio.wait_for(told.wait(), 5)
        await first.remove_listener(channel, hear_first)  # type: ignore[arg-type]
    assert heard == [("first", channel, "one"), ("second", other, "two"), ("first", channel, "last")]


async def test_an_advisory_lock_excludes_other_connections(database: EmbeddedDatabase) -> None:
    key = uuid4().int % 2**62
    async with connected(database) as first, connected(database) as second, connected(database) as third:
        await first.execute("select pg_advisory_lock($1)", key)
        assert await second.fetchval("select pg_try_advisory_lock($1)", key) is False
        waiting = asyncio.create_task(second.fetchval("select pg_advisory_lock($1)", key))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        assert await third.fetchval("select 3", timeout=5) == 3  # a waiting client holds up nobody
        assert await third.fetchval("select pg_advisory_unlock($1)", key) is False
        assert await first.fetchval(f"select pg_advisory_unlock({key}) as released") is True
        await asyncio.wait_for(waiting, 5)
        assert await first.fetchval("select pg_try_advisory_lock($1)", key) is False
        await second.reset()
        assert await first.fetchval("select pg_try_advisory_lock($1)", key) is True


async def test_advisory_locks_work_inside_transactions_and_time_out(database: EmbeddedDatabase) -> None:
    async with connected(database) as first, connected(database, lock_timeout="200ms") as second:
        async with first.transaction():
            assert await first.fetchval("select pg_try_advisory_lock(hashtext('migrate'))") is True
            assert await first.fetchval("select pg_try_advisory_lock(hashtext($1))", "migrate") is True
        with pytest.raises(asyncpg.LockNotAvailableError, match="lock timeout"):
            await second.execute("select pg_advisory_lock(hashtext('migrate'))")
        with pytest.raises(asyncpg.LockNotAvailableError, match="lock timeout"):
            await second.fetchval("select pg_advisory_lock(hashtext($1))", "migrate")
        with pytest.raises(asyncpg.LockNotAvailableError, match="held by another connection"):
            async with second.transaction():
                await second.execute("select pg_advisory_xact_lock(hashtext('migrate'))")
        first.terminate()  # releases what it held
        await second.execute("set lock_timeout = '5s'")
        await second.execute("select pg_advisory_lock(hashtext('migrate'))")
        with pytest.raises(asyncpg.FeatureNotSupportedError, match="plain form"):
            await second.fetch("select pg_advisory_lock(id) from generate_series(1, 3) id")
