"""Drops the columns that hold names in iot.sensor_readings, once no row needs them; only when asked.

Owns what has to be true before: every row has its ids, no view of the operator's needs the names, no chunk
is compressed by them. Then one transaction, all or nothing: ids not null, columns gone, the view over ids
alone. There is no way back but a dump. An old writer that still inserts names fails from then on. Runs in
the operator's command, as the owner of the tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import asyncpg
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_random

from ingest.errors import CheckFailed
from ingest.migrate import Database
from ingest.migration_connection import connected
from ingest.migration_steps import LOCK_PATIENCE_S, LOCK_TIMEOUT_MS, PAUSE_MAX_S, PAUSE_MIN_S
from ingest.operate import normalize_sql as sql
from ingest.operate.normalize_chunks import list_chunks, take_census
from ingest.operate.normalize_run import claim, translated

if TYPE_CHECKING:
    from collections.abc import Callable

    from ingest.migration_connection import Connection
    from ingest.settings import Settings

# A continuous aggregate depends through views of its own, which nobody knows by name.
_DEPENDENTS = """
    select distinct
        case
            when a.user_view_name is null then format('view %I.%I', n.nspname, c.relname)
            else format('materialized view %I.%I', a.user_view_schema, a.user_view_name)
        end as dependent
    from pg_depend as d
    join pg_attribute as t
        on t.attrelid = d.refobjid
        and t.attnum = d.refobjsubid
        and t.attname in ('sensor_type', 'unit')
    join pg_rewrite as w on w.oid = d.objid
    join pg_class as c on c.oid = w.ev_class
    join pg_namespace as n on n.oid = c.relnamespace
    left join _timescaledb_catalog.continuous_agg as a
        on (a.partial_view_schema, a.partial_view_name) = (n.nspname, c.relname)
        or (a.direct_view_schema, a.direct_view_name) = (n.nspname, c.relname)
    where d.classid = 'pg_rewrite'::regclass
        and d.refclassid = 'pg_class'::regclass
        and d.refobjid = 'iot.sensor_readings'::regclass
        and c.oid <> 'iot.v_sensor_readings_denormalized'::regclass
    order by 1
"""
_COMPRESSED_BY_NAME = """
    select s.chunk::text as chunk
    from timescaledb_information.chunk_columnstore_settings as s
    where s.hypertable = 'iot.sensor_readings'::regclass
        and (
            string_to_array(s.segmentby, ',') && array['sensor_type', 'unit']
            or s.orderby ~ '\\m(sensor_type|unit)\\M'
        )
"""
_STEPS = (
    """
    create or replace view iot.v_sensor_readings_denormalized as
    select
        r.time,
        r.greenhouse_id,
        r.tenant_id,
        r.sensor_id,
        r.sensor_type_id,
        t.name as sensor_type,
        r.unit_id,
        u.symbol as unit,
        r.value,
        r.metadata
    from iot.sensor_readings as r
    left join iot.sensor_types as t on t.id = r.sensor_type_id
    left join iot.units as u on u.id = r.unit_id
    """,
    "comment on view iot.v_sensor_readings_denormalized is 'Readings with the names their ids stand for.'",
    # One statement, one look at each row that is not compressed: 0.5 s a million, for which writers wait.
    """
    alter table iot.sensor_readings
        alter column tenant_id set not null,
        alter column sensor_type_id set not null,
        alter column unit_id set not null
    """,
    "alter table iot.sensor_readings drop column sensor_type",
    "alter table iot.sensor_readings drop column unit",
)

_NAMES = "select count(sensor_type) as sensor_types, count(unit) as units from iot.sensor_readings"


class LegacyNames(NamedTuple):
    """What dropping would take away: how many columns there are, and rows with something in each."""

    columns: int
    sensor_types: int
    units: int


class Dropped(NamedTuple):
    """What was done: the columns were there, and how many chunks were compressed anew before."""

    columns: int
    recompressed: int


async def count_legacy_names(settings: Settings) -> LegacyNames:
    """Count what drop_legacy_columns would take away, changing nothing; refuses what that refuses."""
    with translated("look at the legacy columns"):
        async with connected(settings.dsn("timeseries"), Database.TIMESERIES) as connection:
            columns = int(await connection.fetchval(sql.LEGACY_COLUMNS_SQL))
            if not columns:
                return LegacyNames(0, 0, 0)
            await _refuse_dependents(connection)
            await _refuse_rows(connection, lambda _, __: None)
            row = await connection.fetchrow(_NAMES)
            assert row is not None, "an aggregate without groups has one row"  # noqa: S101 (for the type checker)
            return LegacyNames(columns, row["sensor_types"], row["units"])


async def drop_legacy_columns(
    settings: Settings, *, on_chunk: Callable[[int, int], None] = lambda _, __: None
) -> Dropped:
    """Drop `sensor_type` and `unit`, and set the ids not null; *on_chunk* gets chunks looked at, of all.

    Raises CheckFailed, with nothing changed, while a row lacks an id or a view needs the names.
    """
    with translated("drop the legacy columns"):
        async with connected(settings.dsn("timeseries"), Database.TIMESERIES) as connection:
            await claim(connection)
            columns = int(await connection.fetchval(sql.LEGACY_COLUMNS_SQL))
            if not columns:
                return Dropped(0, 0)
            await _refuse_dependents(connection)
            await _refuse_rows(connection, on_chunk)
            chunks = [row["chunk"] for row in await connection.fetch(_COMPRESSED_BY_NAME)]
            for chunk in chunks:
                await connection.fetchrow(sql.DECOMPRESS_SQL, chunk)
                await connection.fetchrow(sql.COMPRESS_SQL, chunk)
            await _drop(connection)
            return Dropped(columns, len(chunks))


async def _refuse_dependents(connection: Connection) -> None:
    if dependents := [row["dependent"] for row in await connection.fetch(_DEPENDENTS)]:
        raise CheckFailed(
            f"the columns sensor_type and unit are still read by {', '.join(dependents)}: keep what they "
            f"hold if you need it, then `drop {dependents[0]};` and run again"
        )


async def _refuse_rows(connection: Connection, on_chunk: Callable[[int, int], None]) -> None:
    chunks = await list_chunks(connection)
    rows = 0
    for number, chunk in enumerate(chunks):
        on_chunk(number, len(chunks))
        rows += sum(one.rows for one in await take_census(connection, chunk))
    if rows:
        raise CheckFailed(
            f"{rows} rows lack an id, and their names are all that tells what they are: run `ingest "
            "normalize`, add what it does not know to the catalog, and decide on the rows that differ"
        )


async def _drop(connection: Connection) -> None:
    """All or nothing; while a lock is not to be had, writers go on in between."""
    async for attempt in AsyncRetrying(
        retry=retry_if_exception_type((asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)),
        stop=stop_after_delay(LOCK_PATIENCE_S),
        wait=wait_random(PAUSE_MIN_S, PAUSE_MAX_S),
        reraise=True,
    ):
        with attempt:
            async with connection.transaction():
                await connection.execute(f"set local lock_timeout = {LOCK_TIMEOUT_MS}")
                try:
                    for statement in _STEPS:
                        await connection.execute(statement)
                except asyncpg.NotNullViolationError as error:
                    raise CheckFailed(
                        f"an old writer inserted rows without ids meanwhile ({error}): stop it, run `ingest "
                        "normalize`, then this again"
                    ) from error
