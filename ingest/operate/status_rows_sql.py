"""The statements of `ingest status` on readings: ids, silence, what no aggregate has, rows a day.

None writes. Each looks between two times that stand in the statement when it is planned, so that only the
chunks between them are opened.
"""

from __future__ import annotations

from typing import Final

# What of the readings' ids may be NULL at all: nothing once `ingest normalize --drop-legacy-columns` has run.
ID_COLUMNS: Final = """
    select
        count(*) filter (
            where attname in ('tenant_id', 'sensor_type_id', 'unit_id') and not attnotnull
        ) as nullable,
        count(*) filter (where attname in ('sensor_type', 'unit')) as names
    from pg_attribute
    where attrelid = 'iot.sensor_readings'::regclass
        and attnum > 0
        and not attisdropped
"""

READINGS: Final = """
    select
        count(*) as rows,
        count(*) filter (
            where r.tenant_id is null
                or r.sensor_type_id is null
                or r.unit_id is null
        ) as lacking
    from iot.sensor_readings as r
    where r.time >= $1
        and r.time < $2
"""

READINGS_BY_NAME: Final = """
    select
        r.sensor_type,
        r.unit,
        count(*) filter (where r.sensor_type_id is null) as no_type,
        count(*) filter (where r.unit_id is null) as no_unit,
        count(*) filter (where r.tenant_id is null) as no_tenant,
        count(*) as rows
    from iot.sensor_readings as r
    where r.time >= $1
        and r.time < $2
        and (r.tenant_id is null or r.sensor_type_id is null or r.unit_id is null)
    group by r.sensor_type, r.unit
"""

# Whether there is a reading for an aggregate between two times; which readings it takes follows from its
# name.
UNMATERIALISED: Final = """
    select exists (
        select
        from iot.sensor_readings as r
        where r.time >= $1
            and r.time < $2
            and r.tenant_id is not null
            and r.sensor_type_id is not null
            and (r.unit_id is not null or $3::text not like '%readings%')
            and (r.sensor_id is not null or $3 not like '%health%')
            and (r.sensor_type_id in (1, 2, 3, 5) or $3 not like '%realtime')
    )
"""

LATE_HOURS: Final = """
    select
        count(*) as hours,
        min(noted_at) as since
    from iot.ingest_late_buckets
"""

PATIENCE: Final = """
    select
        count(*) as sensors,
        max(expected_interval_s) as longest_s
    from iot.sensor_intervals
"""

# $1 the earliest time that matters to any of them, $2 intervals, $3 seconds at least, $4 the time so many
# seconds ago. Nobody is silent who is not watched for so long yet, or was heard since $4: one look at the
# last minutes of each greenhouse and type, as the index is. Of the others those that have longer are looked
# for one by one, from their latest reading backwards.
SILENT: Final = """
    with registered as materialized (
        select
            s.sensor_id,
            s.greenhouse_id,
            s.expected_interval_s,
            s.watched_since,
            now() - make_interval(secs => greatest(s.expected_interval_s * $2::double precision, $3)) as since
        from iot.sensor_intervals as s
    ), heard as materialized (
        select distinct r.sensor_id
        from (
            select distinct greenhouse_id
            from registered
        ) as g
        cross join iot.sensor_types as t
        cross join lateral (
            select h.sensor_id
            from iot.sensor_readings as h
            where h.greenhouse_id = g.greenhouse_id
                and h.sensor_type_id = t.id
                and h.time > $4
                and h.time < now() + interval '1 day'
        ) as r
    ), quiet as materialized (
        select
            s.sensor_id,
            s.greenhouse_id,
            s.expected_interval_s,
            s.since
        from registered as s
        where s.since >= $1
            and s.watched_since < s.since
            and not exists (
                select
                from heard as h
                where h.sensor_id = s.sensor_id
            )
    )
    select
        q.sensor_id,
        q.greenhouse_id,
        q.expected_interval_s,
        (
            select max(p.last_reading_at)
            from iot.sensor_performance_daily as p
            where p.greenhouse_id = q.greenhouse_id
                and p.sensor_id = q.sensor_id
                and p.bucket > now() - interval '30 days'
        ) as last_at
    from quiet as q
    where q.since >= $4
        or not exists (
            select
            from iot.sensor_types as t
            cross join lateral (
                select
                from iot.sensor_readings as h
                where h.greenhouse_id = q.greenhouse_id
                    and h.sensor_type_id = t.id
                    and h.sensor_id = q.sensor_id
                    and h.time > $1
                    and h.time > q.since
                order by h.time desc
                limit 1
            ) as r
        )
    order by 4 nulls first, q.sensor_id
"""

# Rows of the last seven days by the workers' own books, and how much of that time they cover.
WRITTEN: Final = """
    select
        coalesce(sum(rows), 0)::bigint as rows,
        extract(epoch from now() - min(hour))::double precision as seconds
    from iot.ingest_written_hours
    where hour >= date_trunc('hour', now() - interval '7 days', 'UTC')
        and hour <= now()
"""
# The same by the rollups, where nobody keeps such books.
ROLLED_UP: Final = """
    select
        coalesce(sum(count_readings), 0)::bigint as rows,
        extract(epoch from now() - min(bucket))::double precision as seconds
    from iot.sensor_readings_hourly
    where bucket >= date_trunc('hour', now() - interval '7 days', 'UTC')
        and bucket <= now()
"""
