"""The statements of `ingest normalize`, put together from their common parts. Text only, no I/O.

A batch is the legacy rows of one greenhouse between two times of one chunk, those of one type id or those
without one: what the unique index finds at once, before rows have ids and after. All rows of one key are
in the same batch, whatever their spelling.
"""

from __future__ import annotations

SESSION_SQL = """
    set timescaledb.max_tuples_decompressed_per_dml_transaction = 0;
    set plan_cache_mode = force_custom_plan;
    set jit = off;
    set synchronous_commit = off;
    set lock_timeout = '30s'
"""
"""No limit of rows: 53400 would only stop it half-way. Planned each time, so that the times of a batch leave
one chunk to look at; compiled never, which takes longer than the batch. A batch
that a crash of the server takes back is done by the next run."""
BY_INDEX_SQL = "set enable_seqscan = off; set enable_nestloop = off"
"""For batches: without statistics of a new index the planner expects one row, reads the whole chunk for it,
and compares each row with each spelling."""
BY_ANY_SCAN_SQL = "reset enable_seqscan; reset enable_nestloop"
"""For what looks at a whole chunk."""

LEGACY_COLUMNS_SQL = """
    select count(*)
    from pg_attribute
    where attrelid = 'iot.sensor_readings'::regclass
        and attname in ('sensor_type', 'unit')
        and not attisdropped
"""
"""How many of the columns with names there are; none after `--drop-legacy-columns`."""

CHUNKS_SQL = """
    select
        format('%I.%I', c.chunk_schema, c.chunk_name) as chunk,
        c.range_start,
        c.range_end,
        c.is_compressed,
        c.range_end < now() - (
            select min((j.config ->> 'compress_after')::interval)
            from timescaledb_information.jobs as j
            where j.hypertable_schema = 'iot'
                and j.hypertable_name = 'sensor_readings'
                and j.proc_name = 'policy_compression'
        ) as compression_due
    from timescaledb_information.chunks as c
    where c.hypertable_schema = 'iot'
        and c.hypertable_name = 'sensor_readings'
    order by c.range_start
"""

IS_COMPRESSED_SQL = """
    select c.is_compressed
    from timescaledb_information.chunks as c
    where format('%I.%I', c.chunk_schema, c.chunk_name) = $1
"""
DECOMPRESS_SQL = "select decompress_chunk($1::text::regclass, if_compressed => true)"
COMPRESS_SQL = "select compress_chunk($1::text::regclass, if_not_compressed => true)"

# A sensor id counts only where a name is blank and the sensor's registration may stand in.
_ASKED_SENSOR = r"""
            case
                when btrim(coalesce(r.sensor_type, ''), E' \t\r\n') = ''
                    or btrim(coalesce(r.unit, ''), E' \t\r\n') = ''
                    then r.sensor_id
            end"""

CENSUS_SQL = """
    select
        r.greenhouse_id,
        r.tenant_id,
        r.sensor_type_id,
        r.unit_id,
        coalesce(r.sensor_type, '') as sensor_type,
        coalesce(r.unit, '') as unit,
        {asked sensor} as sensor_id,
        count(*) as rows,
        count(*) filter (where r.sensor_id is null) as no_sensor,
        min(r.time) as first,
        max(r.time) as last
    from iot.sensor_readings as r
    where r.time >= $1
        and r.time < $2
        and (r.tenant_id is null or r.sensor_type_id is null or r.unit_id is null)
    group by 1, 2, 3, 4, 5, 6, 7
    order by 1, 3 nulls first, 5, 6, 7
""".replace("{asked sensor}", _ASKED_SENSOR)

# Ordered as the index is, read backwards: that all type ids are alike is not seen where they are NULL.
_BOUNDARY = """
    select max(b.time)
    from (
        select r.time
        from iot.sensor_readings as r
        where r.greenhouse_id = $1
            and r.sensor_type_id {type}
            and r.time >= $2
            and r.time < $3
            and (r.tenant_id is null or r.sensor_type_id is null or r.unit_id is null)
        order by r.sensor_type_id desc, r.time
        limit $4
    ) as b
"""
BOUNDARY_UNTYPED_SQL = _BOUNDARY.replace("{type}", "is null")
BOUNDARY_TYPED_SQL = _BOUNDARY.replace("{type}", "= $5")

# $1 greenhouse, $2 and $3 the times, $4 tenant, $5 to $9 what each spelling stands for; where the rows have
# their type, $10 is its id.
_NAMES = """
    with names as (
        select *
        from unnest($5::text[], $6::text[], $7::uuid[], $8::smallint[], $9::smallint[])
            as n (sensor_type, unit, sensor_id, type_id, unit_id)
    )
"""
_NAMED = (
    """
            coalesce(r.sensor_type, '') = n.sensor_type
            and coalesce(r.unit, '') = n.unit
            and coalesce("""
    + _ASKED_SENSOR
    + ", '00000000-0000-0000-0000-000000000000') = n.sensor_id"
)
_IN_BATCH = """
            r.greenhouse_id = $1
            and r.time >= $2
            and r.time < $3
"""
_UNTYPED = " and r.sensor_type_id is null"
_TYPED = " and r.sensor_type_id = $10"

# Which row of one key gets it: one that has ids already, else by its text, so that a rehearsal, a run and a
# repeated run choose alike. Another row is the same reading when value and unit are equal and it says
# nothing else.
_RANKED = (
    """
    , keyed as materialized (
        select
            r.tableoid as chunk,
            r.ctid as place_in_chunk,
            r.time,
            r.sensor_id,
            r.sensor_type_id is not null as has_id,
            coalesce(r.sensor_type_id, n.type_id) as type_id,
            coalesce(r.unit_id, n.unit_id) as unit_id,
            coalesce(r.tenant_id, $4) is not null and coalesce(r.unit_id, n.unit_id) is not null as complete,
            coalesce(r.sensor_type, '') as sensor_type,
            coalesce(r.unit, '') as unit,
            r.value,
            r.metadata
        from iot.sensor_readings as r
        left join names as n on r.sensor_type_id is null and """
    + _NAMED
    + """
        where """
    + _IN_BATCH
    + """
            and r.sensor_id is not null
            and coalesce(r.sensor_type_id, n.type_id) is not null
    ), ranked as materialized (
        select
            k.*,
            row_number() over one as place,
            first_value(k.value) over one as kept_value,
            k.value is not distinct from first_value(k.value) over one
                and k.unit_id is not distinct from first_value(k.unit_id) over one
                and (k.unit_id is not null or k.unit = first_value(k.unit) over one)
                and (k.metadata is null or k.metadata is not distinct from first_value(k.metadata) over one)
                as is_same
        from keyed as k
        window one as (
            partition by k.type_id, k.time, k.sensor_id
            order by
                k.has_id desc,
                k.unit_id nulls last,
                k.value,
                k.metadata::text nulls last,
                k.sensor_type,
                k.unit,
                k.place_in_chunk
        )
    )
"""
)
_MERGED = """
    , merged as (
        delete from iot.sensor_readings as r
        using ranked as k
        where r.tableoid = k.chunk
            and r.ctid = k.place_in_chunk
            and k.place > 1
            and k.is_same
            and not k.has_id
            and r.time >= $2
            and r.time < $3
        returning k.complete
    )
"""
_MOVED = (
    """
    , moved as (
        update iot.sensor_readings as r
        set tenant_id = coalesce(r.tenant_id, $4),
            sensor_type_id = coalesce(r.sensor_type_id, n.type_id),
            unit_id = coalesce(r.unit_id, n.unit_id)
        from names as n
        where """
    + _IN_BATCH
    + "            and "
    + _NAMED
    + """
            and (
                (r.tenant_id is null and $4::uuid is not null)
                or (r.sensor_type_id is null and n.type_id is not null)
                or (r.unit_id is null and n.unit_id is not null)
            )"""
)
_ONLY_FIRST = """
            and (
                r.sensor_id is null
                or n.type_id is null
                or r.ctid in (select k.place_in_chunk from ranked as k where k.place = 1)
            )"""
# The hours are noted with the rows, in one transaction: whatever is cut off, no aggregate misses what moved.
_NOTED = """
        returning
            r.time,
            r.sensor_type_id,
            r.tenant_id is not null and r.sensor_type_id is not null and r.unit_id is not null as complete,
            r.sensor_id is null as no_sensor
    ), noted as (
        insert into iot.ingest_late_buckets as stored (bucket, greenhouse_id, sensor_type_id, rows)
        select date_trunc('hour', m.time, 'UTC'), $1, m.sensor_type_id, count(*)
        from moved as m
        where m.complete
        group by 1, 3
        order by 1, 3
        on conflict (bucket, greenhouse_id, sensor_type_id) do update
            set rows = stored.rows + excluded.rows, noted_at = now()
    )
"""
_COUNTED = """
    select
        (select count(*) from moved as m where m.complete) as complete,
        (select count(*) from moved as m where not m.complete) as partial,
        (select count(*) from moved as m where m.complete and m.no_sensor) as no_sensor
"""
_COLLISIONS = """
        count(*) filter (where k.is_same and k.complete) as merged,
        count(*) filter (where k.is_same and not k.complete) as merged_partial,
        count(*) filter (where not k.is_same and k.complete) as differing,
        count(*) filter (where not k.is_same and not k.complete) as differing_partial,
        (
            select jsonb_agg(e)::text
            from (
                select x.time, x.sensor_id, x.sensor_type, x.unit, x.value, x.kept_value
                from ranked as x
                where x.place > 1
                    and not x.is_same
                    and not x.has_id
                order by x.time
                limit 20
            ) as e
        ) as examples
    from ranked as k
    where k.place > 1
        and not k.has_id
"""

MOVE_UNTYPED_SQL = _NAMES + _MOVED + _UNTYPED + _NOTED + _COUNTED
"""Fast: fails with 23505 as a whole when two rows of the batch, or one and another's, come to one key."""
MOVE_TYPED_SQL = _NAMES + _MOVED + _TYPED + _NOTED + _COUNTED
"""Rows that have their type, and so their key, and lack the unit or the tenant."""
MOVE_APART_SQL = (
    _NAMES + _RANKED + _MERGED + _MOVED + _UNTYPED + _ONLY_FIRST + _NOTED + _COUNTED + "," + _COLLISIONS
)
"""For rows that come to one key: the same reading is deleted, a differing one left as it is."""
REHEARSE_SQL = _NAMES + _RANKED.replace("r.ctid", "null::tid") + "select" + _COLLISIONS
"""What MOVE_APART_SQL would find, writing nothing; a compressed chunk's rows have no place to be found at."""

LATE_JOB_SQL = """
    select job_id
    from timescaledb_information.jobs
    where proc_schema = 'iot'
        and proc_name = 'recompute_late_buckets'
"""
RUN_JOB_SQL = "call run_job($1)"
NOTES_SQL = "select count(*), min(bucket) from iot.ingest_late_buckets"
