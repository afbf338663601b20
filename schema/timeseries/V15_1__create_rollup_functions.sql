-- Purpose: how the rollups of readings and greenhouses are computed: functions that upsert, from the continuous
--          aggregates, what differs, so that a call more changes nothing. The jobs of V16 call them; their owner may,
--          for any range.
-- Locks:   none.
-- Time:    under 1 s.
-- Undo:    U15_1__create_rollup_functions.sql.

-- timescaledb: begin

create or replace function iot.roll_up_sensor_readings_hourly(
    first_bucket timestamptz,
    before timestamptz,
    greenhouses uuid[] default null,
    sensor_types smallint[] default null
)
returns bigint
language plpgsql
set timescaledb.max_tuples_decompressed_per_dml_transaction = 0
as $$
declare
    v_changed bigint;
begin
    insert into iot.sensor_readings_hourly as stored (
        bucket, greenhouse_id, tenant_id, sensor_type_id, unit_id, avg_value, min_value, max_value,
        stddev_value, median_value, p5_value, p95_value, count_readings, null_count, first_reading_at,
        last_reading_at, computed_at
    )
    select
        a.bucket, a.greenhouse_id, a.tenant_id, a.sensor_type_id, a.unit_id, a.avg_value, a.min_value,
        a.max_value, a.stddev_value, a.median_value, a.p5_value, a.p95_value, a.count_readings, a.null_count,
        a.first_reading_at, a.last_reading_at, now()
    from iot.cagg_sensor_readings_hourly as a
    where a.bucket >= first_bucket
        and a.bucket < before
        and (greenhouses is null or a.greenhouse_id = any (greenhouses))
        and (sensor_types is null or a.sensor_type_id = any (sensor_types))
    order by a.greenhouse_id, a.sensor_type_id, a.bucket
    on conflict (greenhouse_id, sensor_type_id, bucket, tenant_id, unit_id) do update
        set (
            avg_value, min_value, max_value, stddev_value, median_value, p5_value, p95_value, count_readings,
            null_count, first_reading_at, last_reading_at, computed_at
        ) = (
            excluded.avg_value, excluded.min_value, excluded.max_value, excluded.stddev_value,
            excluded.median_value, excluded.p5_value, excluded.p95_value, excluded.count_readings,
            excluded.null_count, excluded.first_reading_at, excluded.last_reading_at, excluded.computed_at
        )
        where (
            stored.avg_value, stored.min_value, stored.max_value, stored.stddev_value, stored.median_value,
            stored.p5_value, stored.p95_value, stored.count_readings, stored.null_count,
            stored.first_reading_at, stored.last_reading_at
        ) is distinct from (
            excluded.avg_value, excluded.min_value, excluded.max_value, excluded.stddev_value,
            excluded.median_value, excluded.p5_value, excluded.p95_value, excluded.count_readings,
            excluded.null_count, excluded.first_reading_at, excluded.last_reading_at
        );
    get diagnostics v_changed = row_count;
    return v_changed;
end;
$$;

comment on function iot.roll_up_sensor_readings_hourly(timestamptz, timestamptz, uuid[], smallint[]) is
    'Upserts the hours from first_bucket up to before, of these greenhouses and types or of all, from '
    'iot.cagg_sensor_readings_hourly; returns the rows that changed.';

create or replace function iot.roll_up_sensor_readings_daily(
    first_bucket timestamptz,
    before timestamptz,
    greenhouses uuid[] default null,
    sensor_types smallint[] default null
)
returns bigint
language plpgsql
set timescaledb.max_tuples_decompressed_per_dml_transaction = 0
as $$
declare
    v_changed bigint;
begin
    insert into iot.sensor_readings_daily as stored (
        bucket, greenhouse_id, tenant_id, sensor_type_id, unit_id, avg_value, min_value, max_value,
        stddev_value, median_value, p5_value, p95_value, count_readings, null_count, first_reading_at,
        last_reading_at, hours_with_data, computed_at
    )
    select
        a.bucket, a.greenhouse_id, a.tenant_id, a.sensor_type_id, a.unit_id, a.avg_value, a.min_value,
        a.max_value, a.stddev_value, a.median_value, a.p5_value, a.p95_value, a.count_readings, a.null_count,
        a.first_reading_at, a.last_reading_at, a.hours_with_data, now()
    from iot.cagg_sensor_readings_daily as a
    where a.bucket >= first_bucket
        and a.bucket < before
        and (greenhouses is null or a.greenhouse_id = any (greenhouses))
        and (sensor_types is null or a.sensor_type_id = any (sensor_types))
    order by a.greenhouse_id, a.sensor_type_id, a.bucket
    on conflict (greenhouse_id, sensor_type_id, bucket, tenant_id, unit_id) do update
        set (
            avg_value, min_value, max_value, stddev_value, median_value, p5_value, p95_value, count_readings,
            null_count, first_reading_at, last_reading_at, hours_with_data, computed_at
        ) = (
            excluded.avg_value, excluded.min_value, excluded.max_value, excluded.stddev_value,
            excluded.median_value, excluded.p5_value, excluded.p95_value, excluded.count_readings,
            excluded.null_count, excluded.first_reading_at, excluded.last_reading_at, excluded.hours_with_data,
            excluded.computed_at
        )
        where (
            stored.avg_value, stored.min_value, stored.max_value, stored.stddev_value, stored.median_value,
            stored.p5_value, stored.p95_value, stored.count_readings, stored.null_count,
            stored.first_reading_at, stored.last_reading_at, stored.hours_with_data
        ) is distinct from (
            excluded.avg_value, excluded.min_value, excluded.max_value, excluded.stddev_value,
            excluded.median_value, excluded.p5_value, excluded.p95_value, excluded.count_readings,
            excluded.null_count, excluded.first_reading_at, excluded.last_reading_at, excluded.hours_with_data
        );
    get diagnostics v_changed = row_count;
    return v_changed;
end;
$$;

comment on function iot.roll_up_sensor_readings_daily(timestamptz, timestamptz, uuid[], smallint[]) is
    'Upserts the days from first_bucket up to before, of these greenhouses and types or of all, from '
    'iot.cagg_sensor_readings_daily; returns the rows that changed.';

create or replace function iot.roll_up_sensor_readings_monthly(
    first_bucket timestamptz,
    before timestamptz,
    greenhouses uuid[] default null,
    sensor_types smallint[] default null
)
returns bigint
language plpgsql
set timescaledb.max_tuples_decompressed_per_dml_transaction = 0
as $$
declare
    v_changed bigint;
begin
    insert into iot.sensor_readings_monthly as stored (
        bucket, greenhouse_id, tenant_id, sensor_type_id, unit_id, avg_value, min_value, max_value,
        stddev_value, median_value, p5_value, p95_value, count_readings, null_count, first_reading_at,
        last_reading_at, days_with_data, computed_at
    )
    select
        a.bucket, a.greenhouse_id, a.tenant_id, a.sensor_type_id, a.unit_id, a.avg_value, a.min_value,
        a.max_value, a.stddev_value, a.median_value, a.p5_value, a.p95_value, a.count_readings, a.null_count,
        a.first_reading_at, a.last_reading_at, a.days_with_data, now()
    from iot.cagg_sensor_readings_monthly as a
    where a.bucket >= first_bucket
        and a.bucket < before
        and (greenhouses is null or a.greenhouse_id = any (greenhouses))
        and (sensor_types is null or a.sensor_type_id = any (sensor_types))
    order by a.greenhouse_id, a.sensor_type_id, a.bucket
    on conflict (greenhouse_id, sensor_type_id, bucket, tenant_id, unit_id) do update
        set (
            avg_value, min_value, max_value, stddev_value, median_value, p5_value, p95_value, count_readings,
            null_count, first_reading_at, last_reading_at, days_with_data, computed_at
        ) = (
            excluded.avg_value, excluded.min_value, excluded.max_value, excluded.stddev_value,
            excluded.median_value, excluded.p5_value, excluded.p95_value, excluded.count_readings,
            excluded.null_count, excluded.first_reading_at, excluded.last_reading_at, excluded.days_with_data,
            excluded.computed_at
        )
        where (
            stored.avg_value, stored.min_value, stored.max_value, stored.stddev_value, stored.median_value,
            stored.p5_value, stored.p95_value, stored.count_readings, stored.null_count,
            stored.first_reading_at, stored.last_reading_at, stored.days_with_data
        ) is distinct from (
            excluded.avg_value, excluded.min_value, excluded.max_value, excluded.stddev_value,
            excluded.median_value, excluded.p5_value, excluded.p95_value, excluded.count_readings,
            excluded.null_count, excluded.first_reading_at, excluded.last_reading_at, excluded.days_with_data
        );
    get diagnostics v_changed = row_count;
    return v_changed;
end;
$$;

comment on function iot.roll_up_sensor_readings_monthly(timestamptz, timestamptz, uuid[], smallint[]) is
    'Upserts the months from first_bucket up to before, of these greenhouses and types or of all, from '
    'iot.cagg_sensor_readings_monthly; returns the rows that changed.';

create or replace function iot.roll_up_greenhouse_summary(
    first_bucket timestamptz,
    before timestamptz,
    greenhouses uuid[] default null
)
returns bigint
language plpgsql
set timescaledb.max_tuples_decompressed_per_dml_transaction = 0
as $$
declare
    v_changed bigint;
begin
    with conditions as (
        select
            date_trunc('day', c.bucket, 'UTC') as day,
            c.greenhouse_id,
            c.tenant_id,
            sum(c.temperature_avg * c.temperature_readings) / nullif(sum(c.temperature_readings), 0) as temperature_avg,
            min(c.temperature_min) as temperature_min,
            max(c.temperature_max) as temperature_max,
            sum(c.humidity_avg * c.humidity_readings) / nullif(sum(c.humidity_readings), 0) as humidity_avg,
            min(c.humidity_min) as humidity_min,
            max(c.humidity_max) as humidity_max,
            sum(c.light_avg * c.light_readings) / nullif(sum(c.light_readings), 0) as light_avg,
            min(c.light_min) as light_min,
            max(c.light_max) as light_max,
            sum(c.co2_avg * c.co2_readings) / nullif(sum(c.co2_readings), 0) as co2_avg,
            min(c.co2_min) as co2_min,
            max(c.co2_max) as co2_max
        from iot.cagg_greenhouse_conditions_realtime as c
        where c.bucket >= first_bucket
            and c.bucket < before
            and (greenhouses is null or c.greenhouse_id = any (greenhouses))
        group by 1, 2, 3
    ), delivered as (
        select
            a.bucket as day,
            a.greenhouse_id,
            a.tenant_id,
            sum(a.count_readings)::bigint as readings
        from iot.cagg_sensor_readings_daily as a
        where a.bucket >= first_bucket
            and a.bucket < before
            and (greenhouses is null or a.greenhouse_id = any (greenhouses))
        group by 1, 2, 3
    ), heard as (
        select
            date_trunc('day', h.bucket, 'UTC') as day,
            h.greenhouse_id,
            h.tenant_id,
            count(distinct h.sensor_id)::integer as sensors
        from iot.cagg_sensor_health_hourly as h
        where h.bucket >= first_bucket
            and h.bucket < before
            and (greenhouses is null or h.greenhouse_id = any (greenhouses))
        group by 1, 2, 3
    )
    insert into iot.greenhouse_daily_summary as stored (
        bucket, greenhouse_id, tenant_id, temperature_avg, temperature_min, temperature_max, humidity_avg,
        humidity_min, humidity_max, light_avg, light_min, light_max, co2_avg, co2_min, co2_max, readings,
        sensors, computed_at
    )
    select
        d.day, d.greenhouse_id, d.tenant_id, c.temperature_avg, c.temperature_min, c.temperature_max,
        c.humidity_avg, c.humidity_min, c.humidity_max, c.light_avg, c.light_min, c.light_max, c.co2_avg,
        c.co2_min, c.co2_max, d.readings, coalesce(h.sensors, 0), now()
    from delivered as d
    left join conditions as c using (day, greenhouse_id, tenant_id)
    left join heard as h using (day, greenhouse_id, tenant_id)
    on conflict (greenhouse_id, bucket, tenant_id) do update
        set (
            temperature_avg, temperature_min, temperature_max, humidity_avg, humidity_min, humidity_max,
            light_avg, light_min, light_max, co2_avg, co2_min, co2_max, readings, sensors, computed_at
        ) = (
            excluded.temperature_avg, excluded.temperature_min, excluded.temperature_max,
            excluded.humidity_avg, excluded.humidity_min, excluded.humidity_max, excluded.light_avg,
            excluded.light_min, excluded.light_max, excluded.co2_avg, excluded.co2_min, excluded.co2_max,
            excluded.readings, excluded.sensors, excluded.computed_at
        )
        where (
            stored.temperature_avg, stored.temperature_min, stored.temperature_max, stored.humidity_avg,
            stored.humidity_min, stored.humidity_max, stored.light_avg, stored.light_min, stored.light_max,
            stored.co2_avg, stored.co2_min, stored.co2_max, stored.readings, stored.sensors
        ) is distinct from (
            excluded.temperature_avg, excluded.temperature_min, excluded.temperature_max,
            excluded.humidity_avg, excluded.humidity_min, excluded.humidity_max, excluded.light_avg,
            excluded.light_min, excluded.light_max, excluded.co2_avg, excluded.co2_min, excluded.co2_max,
            excluded.readings, excluded.sensors
        );
    get diagnostics v_changed = row_count;
    return v_changed;
end;
$$;

comment on function iot.roll_up_greenhouse_summary(timestamptz, timestamptz, uuid[]) is
    'Upserts iot.greenhouse_daily_summary for the days from first_bucket up to before, of these greenhouses or of all; '
    'returns the rows that changed.';
-- timescaledb: end
