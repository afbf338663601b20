"""The statements of `ingest status` on hypertables, aggregates, jobs and indexes; none writes.

What they ask TimescaleDB for is there from 2.20 on. With 10 000 chunks a query on the whole hypertable plans
for seconds and needs more locks than a server has by default: sizes, chunks and rows come from the catalogs.
"""

from __future__ import annotations

from typing import Final

# What `ingest maintain` looks after, of tables t in namespaces n: ours, and our chunks. A hypertable itself
# holds nothing, and the rest of its schema TimescaleDB keeps.
OURS: Final = """
        t.relkind = 'r'
        and (
            n.nspname in ('iot', 'metadata')
            or (n.nspname = '_timescaledb_internal' and t.relname ~ '^_hyper_\\d+_\\d+_chunk$')
        )
        and not exists (
            select
            from _timescaledb_catalog.hypertable as h
            where h.schema_name = n.nspname
                and h.table_name = t.relname
        )"""
# Of a job j; only its owner may see it.
LAST_ERROR: Final = """(
            select e.err_message
            from timescaledb_information.job_errors as e
            where e.job_id = j.job_id
            order by e.start_time desc nulls last
            limit 1
        )"""

SERVER: Final = """
    select
        current_setting('server_version') as postgresql,
        x.extversion as timescaledb,
        pg_database_size(current_database()) as bytes
    from pg_extension as x
    where x.extname = 'timescaledb'
"""

# One row a hypertable. $1 seconds that a chunk may be late: of compression as its policy, or else the
# settings ($2 names, $3 ages), say.
HYPERTABLES: Final = """
    with wanted as (
        select w.name, w.compress_after::interval as compress_after
        from unnest($2::text[], $3::text[]) as w (name, compress_after)
    ), policies as (
        select
            j.hypertable_name as name,
            max((j.config ->> 'compress_after')::interval) as compress_after,
            max((j.config ->> 'drop_after')::interval) as drop_after
        from timescaledb_information.jobs as j
        where j.hypertable_schema = 'iot'
            and j.proc_name in ('policy_compression', 'policy_retention')
        group by j.hypertable_name
    ), due as (
        select
            coalesce(w.name, p.name) as name,
            now() - make_interval(secs => $1)
                - coalesce(p.compress_after, w.compress_after) as compressed_before,
            now() - make_interval(secs => $1) - p.drop_after as dropped_before,
            p.drop_after
        from wanted as w
        full join policies as p on p.name = w.name
    ), chunks as (
        select
            c.hypertable_name as name,
            count(*) as chunks,
            count(*) filter (where c.is_compressed) as compressed,
            count(*) filter (where not c.is_compressed and c.range_end < d.compressed_before) as overdue,
            count(*) filter (where c.range_end < d.dropped_before) as outlived,
            min(c.range_start) as oldest,
            max(c.range_end) as newest
        from timescaledb_information.chunks as c
        left join due as d on d.name = c.hypertable_name
        where c.hypertable_schema = 'iot'
        group by c.hypertable_name
    ), packed as (
        select
            h.table_name as name,
            sum(s.numrows_pre_compression)::bigint as rows,
            sum(
                s.uncompressed_heap_size + s.uncompressed_toast_size + s.uncompressed_index_size
            )::bigint as before,
            sum(
                s.compressed_heap_size + s.compressed_toast_size + s.compressed_index_size
            )::bigint as after
        from _timescaledb_catalog.compression_chunk_size as s
        join _timescaledb_catalog.chunk as c on c.id = s.chunk_id
        join _timescaledb_catalog.hypertable as h on h.id = c.hypertable_id
        where h.schema_name = 'iot'
        group by h.table_name
    )
    select
        h.hypertable_name as name,
        coalesce(c.chunks, 0) as chunks,
        coalesce(c.compressed, 0) as compressed,
        coalesce(c.overdue, 0) as overdue,
        coalesce(c.outlived, 0) as outlived,
        c.oldest,
        c.newest,
        d.drop_after::text as retain_for,
        extract(epoch from d.drop_after)::double precision as retain_for_s,
        coalesce(p.rows, 0) as packed_rows,
        coalesce(p.before, 0) as before_bytes,
        coalesce(p.after, 0) as after_bytes
    from timescaledb_information.hypertables as h
    left join chunks as c on c.name = h.hypertable_name
    left join due as d on d.name = h.hypertable_name
    left join packed as p on p.name = h.hypertable_name
    where h.hypertable_schema = 'iot'
    order by h.hypertable_name
"""

# Bytes of each hypertable and aggregate, with indexes and TOAST. Compressed chunks at what they were when
# they were compressed: to measure 10 000 of them takes two seconds, and hypertable_detailed_size() takes as
# long for each table.
SIZES: Final = """
    with measured as (
        select
            c.hypertable_schema as schema,
            c.hypertable_name as name,
            sum(pg_total_relation_size(to_regclass(format('%I.%I', c.chunk_schema, c.chunk_name)))) as bytes
        from timescaledb_information.chunks as c
        where not c.is_compressed
        group by 1, 2
        union all
        select
            h.schema_name,
            h.table_name,
            sum(s.compressed_heap_size + s.compressed_toast_size + s.compressed_index_size)
        from _timescaledb_catalog.compression_chunk_size as s
        join _timescaledb_catalog.chunk as c on c.id = s.chunk_id
        join _timescaledb_catalog.hypertable as h on h.id = c.hypertable_id
        group by 1, 2
    )
    select
        coalesce(a.view_name, m.name) as name,
        sum(m.bytes)::bigint as bytes
    from measured as m
    left join timescaledb_information.continuous_aggregates as a
        on a.materialization_hypertable_schema = m.schema
        and a.materialization_hypertable_name = m.name
    where 'iot' in (m.schema, a.view_schema)
    group by 1
"""

# One row an aggregate: how far it is materialised, and up to where it should be by now: to the last bucket
# that was over before the last $1 runs of its policy began. $2 names, $3 their buckets; else an hour.
AGGREGATES: Final = """
    select
        a.view_name as name,
        case
            when w.watermark_us > 0 then _timescaledb_functions.to_timestamp(w.watermark_us)
        end as watermark,
        time_bucket(coalesce(b.bucket::interval, '1 hour'), s.before) as wanted,
        j.job_id,
        j.scheduled,
        nullif(t.last_run_started_at, '-infinity') as last_run_started_at,
        t.last_run_status as status,
        extract(epoch from t.last_run_duration)::double precision as duration_s,
        coalesce(t.total_runs, 0) as runs,
        coalesce(t.total_failures, 0) as failures
    from timescaledb_information.continuous_aggregates as a
    join _timescaledb_catalog.continuous_agg as g
        on g.user_view_schema = a.view_schema
        and g.user_view_name = a.view_name
    left join unnest($2::text[], $3::text[]) as b (name, bucket) on b.name = a.view_name
    left join timescaledb_information.jobs as j
        on j.proc_name = 'policy_refresh_continuous_aggregate'
        and (j.config ->> 'mat_hypertable_id')::integer = g.mat_hypertable_id
    left join timescaledb_information.job_stats as t on t.job_id = j.job_id
    cross join lateral (
        select _timescaledb_functions.cagg_watermark(g.mat_hypertable_id) as watermark_us
    ) as w
    cross join lateral (
        select now()
            - coalesce((j.config ->> 'end_offset')::interval, '1 hour')
            - $1::double precision * coalesce(j.schedule_interval, '1 hour') as before
    ) as s
    where a.view_schema = 'iot'
    order by a.view_name
"""

# A job's run is due from next_start on; what the scheduler has never run has none. $1: runs that may be
# missed.
JOBS: Final = """
    select
        j.job_id,
        j.proc_name as procedure,
        coalesce(a.view_name, j.hypertable_name, j.proc_name) as subject,
        j.scheduled,
        extract(epoch from j.schedule_interval)::double precision as every_s,
        nullif(t.last_run_started_at, '-infinity') as last_run_started_at,
        t.last_run_status as status,
        extract(epoch from t.last_run_duration)::double precision as duration_s,
        nullif(t.next_start, '-infinity') as next_start,
        coalesce(t.total_runs, 0) as runs,
        coalesce(t.total_failures, 0) as failures,
        t.job_status = 'Running' as running,
        t.next_start + $1::double precision * j.schedule_interval < now() as missed,
        {last error} as error
    from timescaledb_information.jobs as j
    left join timescaledb_information.job_stats as t on t.job_id = j.job_id
    left join timescaledb_information.continuous_aggregates as a
        on a.materialization_hypertable_schema = j.hypertable_schema
        and a.materialization_hypertable_name = j.hypertable_name
    where 'iot' in (j.hypertable_schema, j.proc_schema, a.view_schema)
    order by j.job_id
""".replace("{last error}", LAST_ERROR)

# Indexes that a build or rebuild left unusable, as far as `ingest maintain` mends them.
INVALID_INDEXES: Final = """
    select format('%I.%I', n.nspname, x.relname) as name
    from pg_index as i
    join pg_class as x on x.oid = i.indexrelid and x.relkind = 'i'
    join pg_class as t on t.oid = i.indrelid
    join pg_namespace as n on n.oid = t.relnamespace
    where {ours}
        and not i.indisvalid
    order by 1
""".replace("{ours}", OURS)

CHUNKS: Final = """
    select c.range_start, c.range_end
    from timescaledb_information.chunks as c
    where c.hypertable_schema = 'iot'
        and c.hypertable_name = 'sensor_readings'
    order by c.range_start
"""
