"""What a live schema holds, read from PostgreSQL's and TimescaleDB's catalogs into plain values.

Owns the queries. Everything the pages say of a table comes from here: its columns and what they mean
(`comment on`), keys, references, grants, triggers, and what only TimescaleDB knows. Reads only; nothing of it
depends on the version of the server, nor on what the tables hold.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import asyncpg

from ingest.migrate import Database
from ingest.operate.policies import read_spans

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingest.intervals import Interval

Kind: TypeAlias = Literal["table", "aggregate", "view"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column; ``type`` as PostgreSQL writes it."""

    name: str
    type: str
    not_null: bool
    comment: str


@dataclass(frozen=True, slots=True)
class Index:
    """An index; ``definition`` is what stands after USING: ``btree (greenhouse_id, bucket)``."""

    definition: str
    columns: tuple[str, ...]
    primary: bool
    unique: bool


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """Columns that name a row of ``target``, a table of the same schema."""

    columns: tuple[str, ...]
    target: str
    target_columns: tuple[str, ...]
    on_delete: str


@dataclass(frozen=True, slots=True)
class Grant:
    """What a role may do: with the whole relation, or where ``column`` is set with that one."""

    role: str
    privilege: str
    column: str | None


@dataclass(frozen=True, slots=True)
class Hypertable:
    """How TimescaleDB keeps a table: chunks of ``chunk`` on ``on``, compressed in segments and order."""

    on: str
    chunk: Interval
    segmentby: str
    orderby: str


@dataclass(frozen=True, slots=True)
class Job:
    """A job: of a policy on ``relation``, or where that is None the routine ``procedure`` of the schema."""

    procedure: str
    relation: str | None
    every: Interval
    settings: dict[str, str]
    """What is in its config for operators; TimescaleDB's internal numbers are left out."""


@dataclass(frozen=True, slots=True)
class Routine:
    """A function or procedure of the schema; ``executors`` are the roles that may call it, or "public"."""

    signature: str
    comment: str
    executors: tuple[str, ...]


@dataclass(slots=True)
class Relation:
    """A table, continuous aggregate or view, and all that belongs to it."""

    name: str
    kind: Kind
    comment: str
    columns: list[Column] = field(default_factory=list)
    indexes: list[Index] = field(default_factory=list)
    foreign_keys: list[ForeignKey] = field(default_factory=list)
    grants: list[Grant] = field(default_factory=list)
    triggers: list[str] = field(default_factory=list)
    """The functions its triggers call, each once."""
    hypertable: Hypertable | None = None
    source: str | None = None
    """Of a continuous aggregate: the hypertable it is made of."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """A schema: relations by name, in their order, its routines and jobs."""

    schema: str
    relations: dict[str, Relation]
    routines: list[Routine]
    jobs: list[Job]


_RELATIONS = """
select
    c.relname as name,
    case c.relkind when 'v' then 'view' else 'table' end as kind,
    coalesce(obj_description(c.oid, 'pg_class'), '') as comment
from pg_catalog.pg_class as c
where c.relnamespace = $1::regnamespace
    and c.relkind in ('r', 'p', 'v')
order by c.relname collate "C"
"""
_COLUMNS = """
select
    c.relname as relation,
    a.attname as name,
    format_type(a.atttypid, a.atttypmod) as type,
    a.attnotnull as not_null,
    coalesce(col_description(c.oid, a.attnum), '') as comment
from pg_catalog.pg_class as c
join pg_catalog.pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where c.relnamespace = $1::regnamespace
    and c.relkind in ('r', 'p', 'v')
order by c.relname, a.attnum
"""
_INDEXES = """
select
    c.relname as relation,
    replace(regexp_replace(pg_get_indexdef(i.indexrelid), '^.* USING ', ''), '"', '') as definition,
    array(
        select a.attname::text
        from unnest(i.indkey) with ordinality as k (attnum, place)
        join pg_catalog.pg_attribute as a on a.attrelid = c.oid and a.attnum = k.attnum
        order by k.place
    ) as columns,
    i.indisprimary as primary,
    i.indisunique as unique
from pg_catalog.pg_index as i
join pg_catalog.pg_class as c on c.oid = i.indrelid
where c.relnamespace = $1::regnamespace
order by c.relname, not i.indisprimary, not i.indisunique, pg_get_indexdef(i.indexrelid) collate "C"
"""
_FOREIGN_KEYS = """
select
    c.relname as relation,
    t.relname as target,
    array(
        select a.attname::text
        from unnest(f.conkey) with ordinality as k (attnum, place)
        join pg_catalog.pg_attribute as a on a.attrelid = c.oid and a.attnum = k.attnum
        order by k.place
    ) as columns,
    array(
        select a.attname::text
        from unnest(f.confkey) with ordinality as k (attnum, place)
        join pg_catalog.pg_attribute as a on a.attrelid = t.oid and a.attnum = k.attnum
        order by k.place
    ) as target_columns,
    case f.confdeltype
        when 'r' then 'restrict'
        when 'c' then 'cascade'
        when 'n' then 'set null'
        when 'd' then 'set default'
        else 'no action'
    end as on_delete
from pg_catalog.pg_constraint as f
join pg_catalog.pg_class as c on c.oid = f.conrelid
join pg_catalog.pg_class as t on t.oid = f.confrelid
where c.relnamespace = $1::regnamespace
    and f.contype = 'f'
order by c.relname, f.conkey
"""
_GRANTS = """
select
    g.relation,
    g.grantee::regrole::text as role,
    lower(g.privilege) as privilege,
    g.column_name
from (
    select
        c.relname as relation,
        (aclexplode(c.relacl)).grantee as grantee,
        (aclexplode(c.relacl)).privilege_type as privilege,
        null as column_name
    from pg_catalog.pg_class as c
    where c.relnamespace = $1::regnamespace
        and c.relkind in ('r', 'p', 'v')
    union all
    select
        c.relname,
        (aclexplode(a.attacl)).grantee,
        (aclexplode(a.attacl)).privilege_type,
        a.attname
    from pg_catalog.pg_class as c
    join pg_catalog.pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    where c.relnamespace = $1::regnamespace
        and c.relkind in ('r', 'p', 'v')
) as g
where g.grantee in (select r.oid from pg_catalog.pg_roles as r where r.rolname like 'greenhouse\\_%')
order by 1, 2, 3, 4
"""
_TRIGGERS = """
select distinct
    c.relname as relation,
    p.proname as function
from pg_catalog.pg_trigger as t
join pg_catalog.pg_class as c on c.oid = t.tgrelid
join pg_catalog.pg_proc as p on p.oid = t.tgfoid
where c.relnamespace = $1::regnamespace
    and p.pronamespace = $1::regnamespace
    and not t.tgisinternal
order by 1, 2
"""
_ROUTINES = """
select
    format(
        '%s(%s)',
        p.proname,
        array_to_string(array(
            select concat_ws(' ', p.proargnames[a.place], format_type(a.type, null))
            from unnest(p.proargtypes) with ordinality as a (type, place)
            order by a.place
        ), ', ')
    ) as signature,
    coalesce(obj_description(p.oid, 'pg_proc'), '') as comment,
    array(
        select case g.grantee when 0 then 'public' else g.grantee::regrole::text end
        from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as g
        where g.grantee = 0
            or g.grantee in (select r.oid from pg_catalog.pg_roles as r where r.rolname like 'greenhouse\\_%')
        order by 1
    ) as executors
from pg_catalog.pg_proc as p
where p.pronamespace = $1::regnamespace
order by 1
"""
_HYPERTABLES = """
select
    d.hypertable_name as relation,
    d.column_name as "on",
    d.time_interval as chunk,
    coalesce(s.segmentby, '') as segmentby,
    coalesce(replace(s.orderby, '"', ''), '') as orderby
from timescaledb_information.dimensions as d
left join timescaledb_information.hypertable_columnstore_settings as s
    on s.hypertable = format('%I.%I', d.hypertable_schema, d.hypertable_name)::regclass
where d.hypertable_schema = $1
    and d.dimension_number = 1
order by 1
"""
_AGGREGATES = """
select view_name as relation, hypertable_name as source
from timescaledb_information.continuous_aggregates
where view_schema = $1
order by 1
"""
# A refresh policy belongs to the aggregate's hidden hypertable; later versions say the aggregate itself.
_JOBS = """
select
    j.proc_name as procedure,
    coalesce(a.view_name, j.hypertable_name) as relation,
    j.schedule_interval as every,
    (j.config ->> 'compress_after')::interval as compress_after,
    (j.config ->> 'drop_after')::interval as drop_after,
    (j.config ->> 'start_offset')::interval as start_offset,
    (j.config ->> 'end_offset')::interval as end_offset,
    (j.config ->> 'window')::interval as window,
    j.config ->> 'gap_factor' as gap_factor,
    j.config ->> 'max_days' as max_days,
    j.config ->> 'index_name' as index_name
from timescaledb_information.jobs as j
left join timescaledb_information.continuous_aggregates as a
    on a.materialization_hypertable_schema = j.hypertable_schema
    and a.materialization_hypertable_name = j.hypertable_name
where $1 in (j.hypertable_schema, j.proc_schema, a.view_schema)
order by 2, 1
"""
_SETTINGS = (
    "compress_after",
    "drop_after",
    "start_offset",
    "end_offset",
    "window",
    "gap_factor",
    "max_days",
    "index_name",
)


async def read_catalog(dsn: str, database: Database) -> Catalog:
    """Read schema *database* of the database at *dsn*."""
    connection = await asyncpg.connect(dsn)
    try:
        await read_spans(connection)
        schema = database.schema
        relations = {row["name"]: Relation(**row) for row in await connection.fetch(_RELATIONS, schema)}
        for row in await connection.fetch(_COLUMNS, schema):
            relations[row["relation"]].columns.append(Column(**_rest(row)))
        for row in await connection.fetch(_INDEXES, schema):
            index = _rest(row) | {"columns": tuple(row["columns"])}
            relations[row["relation"]].indexes.append(Index(**index))
        for row in await connection.fetch(_FOREIGN_KEYS, schema):
            key = ForeignKey(
                tuple(row["columns"]), row["target"], tuple(row["target_columns"]), row["on_delete"]
            )
            relations[row["relation"]].foreign_keys.append(key)
        for row in await connection.fetch(_GRANTS, schema):
            grant = Grant(row["role"], row["privilege"], row["column_name"])
            relations[row["relation"]].grants.append(grant)
        for row in await connection.fetch(_TRIGGERS, schema):
            relations[row["relation"]].triggers.append(row["function"])
        routines = [
            Routine(row["signature"], row["comment"], tuple(row["executors"]))
            for row in await connection.fetch(_ROUTINES, schema)
        ]
        jobs: Sequence[Job] = ()
        if database is Database.TIMESERIES:
            jobs = await _read_timescale(connection, schema, relations)
    finally:
        await connection.close()
    return Catalog(schema, relations, routines, list(jobs))


async def _read_timescale(
    connection: asyncpg.Connection[asyncpg.Record], schema: str, relations: dict[str, Relation]
) -> list[Job]:
    """Add to *relations* what TimescaleDB knows of them; return the jobs."""
    for row in await connection.fetch(_HYPERTABLES, schema):
        relations[row["relation"]].hypertable = Hypertable(**_rest(row))
    for row in await connection.fetch(_AGGREGATES, schema):
        relations[row["relation"]].kind = "aggregate"
        relations[row["relation"]].source = row["source"]
    return [
        Job(
            row["procedure"],
            row["relation"],
            row["every"],
            {name: str(row[name]) for name in _SETTINGS if row[name] is not None},
        )
        for row in await connection.fetch(_JOBS, schema)
    ]


def _rest(row: asyncpg.Record) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "relation"}
