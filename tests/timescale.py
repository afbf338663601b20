"""The one database of the embedded TimescaleDB, migrated as seldom as the tests allow.

It has no templates to copy, and a migration takes a second. So what one test leaves is looked at before the
next: where it changed nothing but rows, these go, and those that the migrations ship come back; where it
changed anything else, the schemas are dropped and migrated anew.
"""

from __future__ import annotations

from typing import Final

import asyncpg

from ingest.migrate import Database, migrate

_DROP: Final = (
    "drop schema if exists iot cascade",
    "drop schema if exists metadata cascade",
    "drop schema if exists shipped cascade",
)
_TABLES: Final = """
    select format('%I.%I', n.nspname, c.relname)
    from pg_class as c
    join pg_namespace as n on n.oid = c.relnamespace
    where n.nspname in ('iot', 'metadata') and c.relkind = 'r' and c.relname <> 'schema_history'
    order by 1
"""
_COLUMNS: Final = """
    select string_agg(quote_ident(attname), ', ' order by attnum)
    from pg_attribute
    where attrelid = $1::text::regclass and attnum > 0 and not attisdropped and attgenerated = ''
"""
_SEQUENCES: Final = """
    select
        format('%I.%I', schemaname, sequencename) as name,
        coalesce(last_value, start_value) as value,
        last_value is not null as called
    from pg_sequences
    where schemaname in ('iot', 'metadata')
"""
_AGGREGATED: Final = """
    select count(*)
    from _timescaledb_catalog.continuous_agg as a
    join _timescaledb_catalog.chunk as c on c.hypertable_id = a.mat_hypertable_id
"""
"""Rows of continuous aggregates are not to be taken back by themselves."""
_DEFINITIONS: Final = """
    with ours as (select oid, xmin from pg_namespace where nspname in ('iot', 'metadata'))
    select md5(string_agg(line, '|' order by line))
    from (
        select format('schema %s %s', oid, xmin) as line from ours
        union all
        select format('class %s %s %s %s %s', oid, relname, relkind, relacl, reloptions)
        from pg_class where relnamespace in (select oid from ours)
        union all
        select format('attribute %s %s %s', attrelid, attnum, xmin)
        from pg_attribute
        where attrelid in (select oid from pg_class where relnamespace in (select oid from ours))
        union all
        select format('index %s %s', indexrelid, xmin)
        from pg_index
        where indrelid in (select oid from pg_class where relnamespace in (select oid from ours))
        union all
        select format('rule %s %s', oid, xmin)
        from pg_rewrite
        where ev_class in (select oid from pg_class where relnamespace in (select oid from ours))
        union all
        select format('trigger %s %s', oid, xmin)
        from pg_trigger
        where tgrelid in (select oid from pg_class where relnamespace in (select oid from ours))
        union all
        select format('constraint %s %s', oid, xmin)
        from pg_constraint where connamespace in (select oid from ours)
        union all
        select format('routine %s %s', oid, xmin) from pg_proc where pronamespace in (select oid from ours)
        union all
        select format('comment %s %s %s', objoid, objsubid, xmin)
        from pg_description
        where objoid in (select oid from pg_class where relnamespace in (select oid from ours))
        union all
        select format('setting %s %s', setdatabase, setconfig) from pg_db_role_setting
        union all
        select format('job %s %s', id, xmin) from _timescaledb_config.bgw_job where id >= 1000
        union all
        select format('dimension %s %s', id, xmin) from _timescaledb_catalog.dimension
        union all
        select format('aggregate %s %s', mat_hypertable_id, xmin) from _timescaledb_catalog.continuous_agg
        union all
        select format('columnstore %s %s', relid, xmin)
        from _timescaledb_catalog.compression_settings
        where relid in (select oid from pg_class where relnamespace in (select oid from ours))
        union all
        select format('history %s %s', tableoid, h) from iot.schema_history as h
        union all
        select format('history %s %s', tableoid, h) from metadata.schema_history as h
    ) as definitions
"""


class SoleDatabase:
    """The database at *dsn*, which all tests of this process share, one after the other."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self._made: object = None
        self._sequences: list[asyncpg.Record] = []

    async def empty(self) -> None:
        """Have neither of our schemas there."""
        self._made = None
        connection = await asyncpg.connect(self.dsn)
        try:
            for statement in _DROP:
                await connection.execute(statement)
        finally:
            await connection.close()

    async def make(self) -> None:
        """Have both schemas there as the migrations make them, with the rows that these ship."""
        if await self._is_as_made():
            await self._take_rows_back()
            return
        await self.empty()
        for database in Database:
            await migrate(self.dsn, database)
        connection = await asyncpg.connect(self.dsn)
        try:
            await connection.execute("create schema shipped")
            for table in await _with_rows(connection):
                await connection.execute(f'create table shipped."{table}" as table {table}')
            self._sequences = await connection.fetch(_SEQUENCES)
            self._made = await definitions(connection)
        finally:
            await connection.close()

    async def _is_as_made(self) -> bool:
        if self._made is None:
            return False
        connection = await asyncpg.connect(self.dsn)
        try:
            found = await definitions(connection)
            return bool(found == self._made and not await connection.fetchval(_AGGREGATED))
        except asyncpg.UndefinedTableError:  # not even the history is there
            return False
        finally:
            await connection.close()

    async def _take_rows_back(self) -> None:
        connection = await asyncpg.connect(self.dsn)
        try:
            await connection.execute("set session_replication_role = replica")  # no audit, no notice
            if filled := await _with_rows(connection):
                await connection.execute(f"truncate {', '.join(filled)} cascade")
            for (table,) in await connection.fetch(
                "select relname from pg_class where relnamespace = 'shipped'::regnamespace and relkind = 'r'"
            ):
                columns = await connection.fetchval(_COLUMNS, table)
                await connection.execute(
                    f"insert into {table} ({columns}) overriding system value "
                    f'select {columns} from shipped."{table}"'
                )
            for sequence in self._sequences:
                await connection.execute("select setval($1::text::regclass, $2, $3)", *sequence)
        finally:
            await connection.close()


async def definitions(connection: asyncpg.Connection[asyncpg.Record]) -> str:
    """Give a digest of all that is no row of ours, equal while nobody changed any of it.

    Raises UndefinedTableError where a schema is gone.
    """
    return str(await connection.fetchval(_DEFINITIONS))


async def _with_rows(connection: asyncpg.Connection[asyncpg.Record]) -> list[str]:
    tables = [row[0] for row in await connection.fetch(_TABLES)]
    questions = " union all ".join(f"select '{table}' where exists (select from {table})" for table in tables)
    return [row[0] for row in await connection.fetch(questions)]
