"""The statements of `ingest maintain` that only the owner of the tables may run, and the looks before them.

A look gives one row a task; where a name has to stand in the statement itself, the server puts it there
(format), as `statement`.
"""

from __future__ import annotations

from typing import Final

from ingest.operate.status_sql import LAST_ERROR, OURS

SESSION: Final = """
    set plan_cache_mode = force_custom_plan;
    set jit = off;
    set lock_timeout = '30s'
"""
"""Nobody waits for a lock behind us for longer than that."""

# Chunks older than their policy, else the settings ($1 names, $2 ages), compress them. The oldest first.
DUE: Final = """
    select
        format('%I.%I', c.chunk_schema, c.chunk_name) as chunk,
        c.hypertable_name,
        c.range_start
    from timescaledb_information.chunks as c
    left join unnest($1::text[], $2::text[]) as w (name, compress_after) on w.name = c.hypertable_name
    left join timescaledb_information.jobs as j
        on j.hypertable_schema = c.hypertable_schema
        and j.hypertable_name = c.hypertable_name
        and j.proc_name = 'policy_compression'
    where c.hypertable_schema = 'iot'
        and not c.is_compressed
        and c.range_end < now() - coalesce(j.config ->> 'compress_after', w.compress_after)::interval
    order by c.range_start, c.hypertable_name
"""

# By week of the readings: what compression made of them. $1 weeks.
BY_WEEK: Final = """
    select
        date_trunc('week', c.range_start, 'UTC') as week,
        count(*) as chunks,
        sum(s.before_compression_total_bytes)::bigint as before,
        sum(s.after_compression_total_bytes)::bigint as after
    from timescaledb_information.chunks as c
    join chunk_columnstore_stats(format('%I.%I', 'iot', 'sensor_readings')::regclass) as s
        on s.chunk_schema = c.chunk_schema
        and s.chunk_name = c.chunk_name
    where s.compression_status = 'Compressed'
    group by 1
    order by 1 desc
    limit $1
"""
# Compressed chunks that got rows since (8, partially compressed), or are compressed in another way than the
# hypertable says by now.
RECOMPRESSIBLE: Final = """
    select
        p.chunk,
        p.hypertable_name,
        p.range_start,
        p.partial
    from (
        select
            format('%I.%I', c.chunk_schema, c.chunk_name) as chunk,
            format('%I.%I', c.hypertable_schema, c.hypertable_name) as hypertable,
            c.hypertable_name,
            c.range_start,
            _timescaledb_functions.chunk_status(
                format('%I.%I', c.chunk_schema, c.chunk_name)::regclass
            ) & 8 > 0 as partial
        from timescaledb_information.chunks as c
        where c.hypertable_schema = 'iot'
            and c.is_compressed
    ) as p
    join timescaledb_information.hypertable_columnstore_settings as h on h.hypertable = p.hypertable::regclass
    left join timescaledb_information.chunk_columnstore_settings as s on s.chunk = p.chunk::regclass
    where p.partial
        or (s.chunk is not null and (s.segmentby, s.orderby) is distinct from (h.segmentby, h.orderby))
    order by p.range_start, p.hypertable_name
"""
RECOMPRESS: Final = "select compress_chunk($1::text::regclass, recompress => true)"

REFRESH: Final = """
    call refresh_continuous_aggregate(('iot.' || $1::text)::regclass, $2::timestamptz, $3::timestamptz)
"""

START_JOB: Final = "select alter_job($1, next_start => now())"
JOB_RECORD: Final = """
    select
        j.last_run_status as status,
        nullif(j.last_run_started_at, '-infinity') as started_at,
        {last error} as error
    from timescaledb_information.job_stats as j
    where j.job_id = $1
""".replace("{last error}", LAST_ERROR)
RETENTION_JOBS: Final = """
    select
        j.hypertable_name as name,
        j.job_id,
        (
            select count(*)
            from timescaledb_information.chunks as c
            where c.hypertable_schema = j.hypertable_schema
                and c.hypertable_name = j.hypertable_name
                and c.range_end < now() - (j.config ->> 'drop_after')::interval
        ) as chunks
    from timescaledb_information.jobs as j
    where j.hypertable_schema = 'iot'
        and j.proc_name = 'policy_retention'
    order by j.hypertable_name
"""

# Tables and uncompressed chunks of ours that changed by a tenth since they were analysed, or never were.
UNANALYSED: Final = """
    select
        format('%I.%I', n.nspname, t.relname) as name,
        format('analyze %I.%I', n.nspname, t.relname) as statement,
        pg_has_role(t.relowner, 'usage') as mine
    from pg_class as t
    join pg_namespace as n on n.oid = t.relnamespace
    where {ours}
        and pg_relation_size(t.oid) > 0
        and (t.reltuples < 0 or pg_stat_get_mod_since_analyze(t.oid) > 50 + 0.1 * t.reltuples)
    order by 1
""".replace("{ours}", OURS)

# What an interrupted rebuild left behind, other indexes that are not usable, then those of $1 bytes and more
# that are written to for good: of tables, and of the aggregates' chunks. A chunk of a hypertable loses its
# indexes when it is compressed.
REBUILDABLE: Final = """
    select
        format('%I.%I', n.nspname, x.relname) as name,
        pg_relation_size(x.oid) as bytes,
        i.indisvalid as valid,
        not i.indisvalid and x.relname ~ '_cc(new|old)\\d*$' as leftover,
        format('drop index concurrently if exists %I.%I', n.nspname, x.relname) as drop_beside,
        format('drop index if exists %I.%I', n.nspname, x.relname) as drop_alone,
        format('reindex index concurrently %I.%I', n.nspname, x.relname) as rebuild_beside,
        format('reindex index %I.%I', n.nspname, x.relname) as rebuild_alone
    from pg_index as i
    join pg_class as x on x.oid = i.indexrelid and x.relkind = 'i'
    join pg_class as t on t.oid = i.indrelid
    join pg_namespace as n on n.oid = t.relnamespace
    where {ours}
        and (
            not i.indisvalid
            or (
                pg_relation_size(x.oid) >= $1
                and not exists (
                    select
                    from timescaledb_information.chunks as c
                    join timescaledb_information.hypertables as h
                        on h.hypertable_schema = c.hypertable_schema
                        and h.hypertable_name = c.hypertable_name
                    where c.chunk_schema = n.nspname
                        and c.chunk_name = t.relname
                        and h.compression_enabled
                )
            )
        )
    order by i.indisvalid, leftover desc, 1
""".replace("{ours}", OURS)

# Whether this is a server of one session, which does not even list itself.
ALONE: Final = """
    select not exists (
        select
        from pg_stat_activity
        where pid = pg_backend_pid()
    )
"""
