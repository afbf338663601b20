"""The statements of a replay's account: what is there of what was published. None of them writes."""

from __future__ import annotations

from typing import Final

# $1 to $4 keys, a column each; $5 and $6 the earliest and the latest time of them, so that other
# chunks stay shut.
VALUES: Final = """
    select
        k.number - 1 as number,
        r.value
    from unnest($1::uuid[], $2::smallint[], $3::timestamptz[], $4::uuid[]) with ordinality
        as k (greenhouse_id, sensor_type_id, time, sensor_id, number)
    join iot.sensor_readings as r
        on r.greenhouse_id = k.greenhouse_id
        and r.sensor_type_id = k.sensor_type_id
        and r.time = k.time
        and r.sensor_id = k.sensor_id
    where r.time >= $5
        and r.time <= $6
"""

# $1 to $3 sensors, a column each; $4 since when.
SENSOR_ROWS: Final = """
    select
        r.greenhouse_id,
        r.sensor_type_id,
        r.sensor_id,
        array_agg((date_part('epoch', r.time) * 1000000)::bigint) as times_us,
        array_agg(r.value) as values
    from unnest($1::uuid[], $2::smallint[], $3::uuid[]) as p (greenhouse_id, sensor_type_id, sensor_id)
    join iot.sensor_readings as r
        on r.greenhouse_id = p.greenhouse_id
        and r.sensor_type_id = p.sensor_type_id
        and r.sensor_id = p.sensor_id
    where r.time >= $4
    group by r.greenhouse_id, r.sensor_type_id, r.sensor_id
"""

# As above.
SENSOR_COUNT: Final = """
    select count(*)
    from unnest($1::uuid[], $2::smallint[], $3::uuid[]) as p (greenhouse_id, sensor_type_id, sensor_id)
    join iot.sensor_readings as r
        on r.greenhouse_id = p.greenhouse_id
        and r.sensor_type_id = p.sensor_type_id
        and r.sensor_id = p.sensor_id
    where r.time >= $4
"""

# $1 to $3 a sensor, $4 since when, $5 a value
SENSOR_VALUE: Final = """
    select 1
    from iot.sensor_readings
    where greenhouse_id = $1
        and sensor_type_id = $2
        and sensor_id = $3
        and time >= $4
        and value = $5
    limit 1
"""

# $1 since when, $2 the beginnings of topics, as their index has them
LETTERS: Final = """
    select
        topic,
        coalesce(payload_sha256, sha256(payload)) as digest,
        rejected,
        rejected_count
    from iot.ingest_dead_letters
    where received_at >= $1
        and left(topic, 200) = any ($2::text[])
"""

# $1 since when
OVERFLOW: Final = """
    select
        topic,
        sum(readings)::bigint as readings
    from iot.ingest_dead_letter_overflow
    where hour >= date_trunc('hour', $1::timestamptz)
    group by topic
"""

# $1 greenhouses; $2 and $3 the earliest and the latest time
ROWS_BY_TYPE: Final = """
    select
        t.name as sensor_type,
        count(*) as rows
    from iot.sensor_readings as r
    join iot.sensor_types as t on t.id = r.sensor_type_id
    where r.greenhouse_id = any ($1::uuid[])
        and r.time >= $2
        and r.time <= $3
    group by t.name
    order by rows desc, t.name
"""

# as above; $4 the width of a part of the time between. A legacy row may hold NaN, which is larger than all.
TIME_OF_TYPES: Final = """
    select
        t.name as sensor_type,
        u.symbol as unit,
        (date_part('epoch', date_bin($4, r.time, $2) + $4 / 2) * 1000000)::bigint as at_us,
        percentile_cont(array[0.1, 0.5, 0.9]) within group (order by r.value) as shares
    from iot.sensor_readings as r
    join iot.sensor_types as t on t.id = r.sensor_type_id
    join iot.units as u on u.id = r.unit_id
    where r.greenhouse_id = any ($1::uuid[])
        and r.time >= $2
        and r.time <= $3
        and abs(r.value) < 'infinity'
    group by 1, 2, 3
    order by 1, 2, 3
"""

NOW: Final = "select clock_timestamp()"
