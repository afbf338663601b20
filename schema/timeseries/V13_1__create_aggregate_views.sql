-- Purpose: the views over the continuous aggregates: names in place of ids, completeness against each sensor's own
--          interval, the latest conditions of each greenhouse, the sensors to look after.
-- Locks:   none.
-- Time:    under 1 s.
-- Undo:    U13_1__create_aggregate_views.sql.

-- timescaledb: begin

-- The same with names in place of ids, under the columns the dashboards ask for.
create or replace view iot.v_sensor_readings_hourly as
select
    a.bucket,
    a.greenhouse_id,
    a.tenant_id,
    a.sensor_type_id,
    t.name as sensor_type,
    a.unit_id,
    u.symbol as unit,
    a.avg_value,
    a.min_value,
    a.max_value,
    a.stddev_value,
    a.median_value,
    a.p5_value,
    a.p95_value,
    a.count_readings,
    a.null_count,
    a.first_reading_at,
    a.last_reading_at
from iot.cagg_sensor_readings_hourly as a
left join iot.sensor_types as t on t.id = a.sensor_type_id
left join iot.units as u on u.id = a.unit_id;

comment on view iot.v_sensor_readings_hourly is
    'iot.cagg_sensor_readings_hourly with the names of type and unit.';
comment on column iot.v_sensor_readings_hourly.bucket is 'Start of the hour.';
comment on column iot.v_sensor_readings_hourly.greenhouse_id is 'metadata.greenhouses.id.';
comment on column iot.v_sensor_readings_hourly.tenant_id is 'metadata.tenants.id, as the readings have it.';
comment on column iot.v_sensor_readings_hourly.sensor_type_id is 'iot.sensor_types.id.';
comment on column iot.v_sensor_readings_hourly.sensor_type is 'Name of the type.';
comment on column iot.v_sensor_readings_hourly.unit_id is
    'iot.units.id, the unit of the values: readings in two units are never averaged together.';
comment on column iot.v_sensor_readings_hourly.unit is 'Symbol of the unit.';
comment on column iot.v_sensor_readings_hourly.avg_value is 'Mean, in the unit.';
comment on column iot.v_sensor_readings_hourly.min_value is 'Lowest value, in the unit.';
comment on column iot.v_sensor_readings_hourly.max_value is 'Highest value, in the unit.';
comment on column iot.v_sensor_readings_hourly.stddev_value is
    'Sample standard deviation, in the unit; NULL for a single reading.';
comment on column iot.v_sensor_readings_hourly.median_value is 'Median, in the unit.';
comment on column iot.v_sensor_readings_hourly.p5_value is '5th percentile (interpolated), in the unit.';
comment on column iot.v_sensor_readings_hourly.p95_value is '95th percentile (interpolated), in the unit.';
comment on column iot.v_sensor_readings_hourly.count_readings is 'Readings, those without a value included.';
comment on column iot.v_sensor_readings_hourly.null_count is 'Readings without a value (legacy only).';
comment on column iot.v_sensor_readings_hourly.first_reading_at is 'Time of the first reading.';
comment on column iot.v_sensor_readings_hourly.last_reading_at is 'Time of the last reading.';

create or replace view iot.v_sensor_readings_daily as
select
    a.bucket,
    a.greenhouse_id,
    a.tenant_id,
    a.sensor_type_id,
    t.name as sensor_type,
    a.unit_id,
    u.symbol as unit,
    a.avg_value,
    a.min_value,
    a.max_value,
    a.stddev_value,
    a.median_value,
    a.p5_value,
    a.p95_value,
    a.count_readings,
    a.null_count,
    a.first_reading_at,
    a.last_reading_at,
    a.hours_with_data
from iot.cagg_sensor_readings_daily as a
left join iot.sensor_types as t on t.id = a.sensor_type_id
left join iot.units as u on u.id = a.unit_id;

comment on view iot.v_sensor_readings_daily is
    'iot.cagg_sensor_readings_daily with the names of type and unit.';
comment on column iot.v_sensor_readings_daily.bucket is 'Start of the day, UTC.';
comment on column iot.v_sensor_readings_daily.greenhouse_id is 'metadata.greenhouses.id.';
comment on column iot.v_sensor_readings_daily.tenant_id is 'metadata.tenants.id, as the readings have it.';
comment on column iot.v_sensor_readings_daily.sensor_type_id is 'iot.sensor_types.id.';
comment on column iot.v_sensor_readings_daily.sensor_type is 'Name of the type.';
comment on column iot.v_sensor_readings_daily.unit_id is
    'iot.units.id, the unit of the values: readings in two units are never averaged together.';
comment on column iot.v_sensor_readings_daily.unit is 'Symbol of the unit.';
comment on column iot.v_sensor_readings_daily.avg_value is 'Mean, in the unit.';
comment on column iot.v_sensor_readings_daily.min_value is 'Lowest value, in the unit.';
comment on column iot.v_sensor_readings_daily.max_value is 'Highest value, in the unit.';
comment on column iot.v_sensor_readings_daily.stddev_value is
    'Sample standard deviation, in the unit; NULL for a single reading.';
comment on column iot.v_sensor_readings_daily.median_value is 'Median, in the unit.';
comment on column iot.v_sensor_readings_daily.p5_value is '5th percentile (interpolated), in the unit.';
comment on column iot.v_sensor_readings_daily.p95_value is '95th percentile (interpolated), in the unit.';
comment on column iot.v_sensor_readings_daily.count_readings is 'Readings, those without a value included.';
comment on column iot.v_sensor_readings_daily.null_count is 'Readings without a value (legacy only).';
comment on column iot.v_sensor_readings_daily.first_reading_at is 'Time of the first reading.';
comment on column iot.v_sensor_readings_daily.last_reading_at is 'Time of the last reading.';
comment on column iot.v_sensor_readings_daily.hours_with_data is 'Hours of the day with a reading, 0 to 24.';

create or replace view iot.v_sensor_readings_monthly as
select
    a.bucket,
    a.greenhouse_id,
    a.tenant_id,
    a.sensor_type_id,
    t.name as sensor_type,
    a.unit_id,
    u.symbol as unit,
    a.avg_value,
    a.min_value,
    a.max_value,
    a.stddev_value,
    a.median_value,
    a.p5_value,
    a.p95_value,
    a.count_readings,
    a.null_count,
    a.first_reading_at,
    a.last_reading_at,
    a.days_with_data
from iot.cagg_sensor_readings_monthly as a
left join iot.sensor_types as t on t.id = a.sensor_type_id
left join iot.units as u on u.id = a.unit_id;

comment on view iot.v_sensor_readings_monthly is
    'iot.cagg_sensor_readings_monthly with the names of type and unit.';
comment on column iot.v_sensor_readings_monthly.bucket is 'Start of the month, UTC.';
comment on column iot.v_sensor_readings_monthly.greenhouse_id is 'metadata.greenhouses.id.';
comment on column iot.v_sensor_readings_monthly.tenant_id is 'metadata.tenants.id, as the readings have it.';
comment on column iot.v_sensor_readings_monthly.sensor_type_id is 'iot.sensor_types.id.';
comment on column iot.v_sensor_readings_monthly.sensor_type is 'Name of the type.';
comment on column iot.v_sensor_readings_monthly.unit_id is
    'iot.units.id, the unit of the values: readings in two units are never averaged together.';
comment on column iot.v_sensor_readings_monthly.unit is 'Symbol of the unit.';
comment on column iot.v_sensor_readings_monthly.avg_value is 'Mean, in the unit.';
comment on column iot.v_sensor_readings_monthly.min_value is 'Lowest value, in the unit.';
comment on column iot.v_sensor_readings_monthly.max_value is 'Highest value, in the unit.';
comment on column iot.v_sensor_readings_monthly.stddev_value is
    'Sample standard deviation, in the unit; NULL for a single reading.';
comment on column iot.v_sensor_readings_monthly.median_value is 'Median, in the unit.';
comment on column iot.v_sensor_readings_monthly.p5_value is '5th percentile (interpolated), in the unit.';
comment on column iot.v_sensor_readings_monthly.p95_value is '95th percentile (interpolated), in the unit.';
comment on column iot.v_sensor_readings_monthly.count_readings is 'Readings, those without a value included.';
comment on column iot.v_sensor_readings_monthly.null_count is 'Readings without a value (legacy only).';
comment on column iot.v_sensor_readings_monthly.first_reading_at is 'Time of the first reading.';
comment on column iot.v_sensor_readings_monthly.last_reading_at is 'Time of the last reading.';
comment on column iot.v_sensor_readings_monthly.days_with_data is 'Days of the month with a reading.';

create or replace view iot.v_sensor_health_hourly as
select
    h.bucket,
    h.greenhouse_id,
    h.tenant_id,
    h.sensor_id,
    h.sensor_type_id,
    h.unit_id,
    h.readings,
    h.null_count,
    h.minutes_with_data,
    h.first_reading_at,
    h.last_reading_at,
    h.avg_value,
    h.min_value,
    h.max_value,
    i.interval_s as expected_interval_s,
    round(least(
        100,
        100 * h.readings * i.interval_s
            / greatest(extract(epoch from least(h.bucket + interval '1 hour', now()) - h.bucket), i.interval_s)
    )::numeric, 2) as completeness_pct
from iot.cagg_sensor_health_hourly as h
left join iot.sensor_intervals as s on s.sensor_id = h.sensor_id
left join lateral (
    select p.observed_interval_s
    from iot.sensor_performance_daily as p
    where p.greenhouse_id = h.greenhouse_id
        and p.sensor_type_id = h.sensor_type_id
        and p.sensor_id = h.sensor_id
        and p.bucket between h.bucket - interval '7 days' and h.bucket
        and p.observed_interval_s is not null
    order by p.bucket desc
    limit 1
) as o on s.sensor_id is null
cross join lateral (
    select coalesce(s.expected_interval_s::double precision, o.observed_interval_s) as interval_s
) as i;

comment on view iot.v_sensor_health_hourly is
    'iot.cagg_sensor_health_hourly with completeness against the sensor''s own interval.';
comment on column iot.v_sensor_health_hourly.bucket is 'Start of the hour.';
comment on column iot.v_sensor_health_hourly.greenhouse_id is 'metadata.greenhouses.id.';
comment on column iot.v_sensor_health_hourly.tenant_id is 'metadata.tenants.id, as the readings have it.';
comment on column iot.v_sensor_health_hourly.sensor_id is
    'metadata.sensors.id, or the UUIDv5 of an unregistered sensor.';
comment on column iot.v_sensor_health_hourly.sensor_type_id is 'iot.sensor_types.id.';
comment on column iot.v_sensor_health_hourly.unit_id is
    'iot.units.id; NULL where it sent more than one unit, and then the values mean nothing.';
comment on column iot.v_sensor_health_hourly.readings is 'Readings, those without a value included.';
comment on column iot.v_sensor_health_hourly.null_count is 'Readings without a value (legacy only).';
comment on column iot.v_sensor_health_hourly.minutes_with_data is 'Minutes of the hour with a reading, 0 to 60.';
comment on column iot.v_sensor_health_hourly.first_reading_at is 'Time of the first reading.';
comment on column iot.v_sensor_health_hourly.last_reading_at is 'Time of the last reading.';
comment on column iot.v_sensor_health_hourly.avg_value is 'Mean, in the unit.';
comment on column iot.v_sensor_health_hourly.min_value is 'Lowest value, in the unit.';
comment on column iot.v_sensor_health_hourly.max_value is 'Highest value, in the unit.';
comment on column iot.v_sensor_health_hourly.expected_interval_s is
    'iot.sensor_intervals, else the median it kept in the last 7 days, in seconds; NULL where neither is known.';
comment on column iot.v_sensor_health_hourly.completeness_pct is
    'Readings in per cent of those expected up to now, at most 100.';

create or replace view iot.v_latest_greenhouse_conditions as
select
    c.greenhouse_id,
    c.tenant_id,
    max(c.bucket) as bucket,
    last(c.temperature_avg, c.bucket) filter (where c.temperature_avg is not null) as temperature_avg,
    max(c.bucket) filter (where c.temperature_avg is not null) as temperature_bucket,
    last(c.humidity_avg, c.bucket) filter (where c.humidity_avg is not null) as humidity_avg,
    max(c.bucket) filter (where c.humidity_avg is not null) as humidity_bucket,
    last(c.light_avg, c.bucket) filter (where c.light_avg is not null) as light_avg,
    max(c.bucket) filter (where c.light_avg is not null) as light_bucket,
    last(c.co2_avg, c.bucket) filter (where c.co2_avg is not null) as co2_avg,
    max(c.bucket) filter (where c.co2_avg is not null) as co2_bucket
from iot.cagg_greenhouse_conditions_realtime as c
where c.bucket > now() - interval '1 day'
group by c.greenhouse_id, c.tenant_id;

comment on view iot.v_latest_greenhouse_conditions is
    'Each greenhouse of the last 24 hours: the latest there is of each quantity, and of when.';
comment on column iot.v_latest_greenhouse_conditions.greenhouse_id is 'metadata.greenhouses.id.';
comment on column iot.v_latest_greenhouse_conditions.tenant_id is 'metadata.tenants.id, as the readings have it.';
comment on column iot.v_latest_greenhouse_conditions.bucket is
    'Start of the latest quarter of an hour with a reading.';
comment on column iot.v_latest_greenhouse_conditions.temperature_avg is
    'Mean of the latest quarter of an hour that has one, in °C; °F is converted.';
comment on column iot.v_latest_greenhouse_conditions.temperature_bucket is 'Start of that quarter of an hour.';
comment on column iot.v_latest_greenhouse_conditions.humidity_avg is
    'Mean of the latest quarter of an hour that has one, in %.';
comment on column iot.v_latest_greenhouse_conditions.humidity_bucket is 'Start of that quarter of an hour.';
comment on column iot.v_latest_greenhouse_conditions.light_avg is
    'Mean of the latest quarter of an hour that has one, in lux.';
comment on column iot.v_latest_greenhouse_conditions.light_bucket is 'Start of that quarter of an hour.';
comment on column iot.v_latest_greenhouse_conditions.co2_avg is
    'Mean of the latest quarter of an hour that has one, in ppm.';
comment on column iot.v_latest_greenhouse_conditions.co2_bucket is 'Start of that quarter of an hour.';

-- Silent: nothing for 3 of its intervals, and never less than 15 minutes, which is what gateways need to reconnect.
-- Incomplete: under 80 % in the last 24 full hours. Hours without a reading count as 0 %.
create or replace view iot.v_sensors_needing_attention as
with recent as (
    select
        h.greenhouse_id,
        h.tenant_id,
        h.sensor_id,
        h.sensor_type_id,
        max(h.last_reading_at) as last_reading_at,
        max(h.expected_interval_s) as expected_interval_s,
        sum(h.readings) filter (
            where h.bucket < date_trunc('hour', now(), 'UTC')
        ) as readings
    from iot.v_sensor_health_hourly as h
    where h.bucket >= date_trunc('hour', now(), 'UTC') - interval '24 hours'
    group by h.greenhouse_id, h.tenant_id, h.sensor_id, h.sensor_type_id
), judged as (
    select
        coalesce(r.greenhouse_id, s.greenhouse_id) as greenhouse_id,
        r.tenant_id,
        coalesce(r.sensor_id, s.sensor_id) as sensor_id,
        r.sensor_type_id,
        coalesce(r.expected_interval_s, s.expected_interval_s) as expected_interval_s,
        r.last_reading_at,
        round(least(100, coalesce(r.readings, 0)
            * coalesce(r.expected_interval_s, s.expected_interval_s) / 864)::numeric, 2) as completeness_pct
    from recent as r
    full join iot.sensor_intervals as s on s.sensor_id = r.sensor_id
)
select
    j.greenhouse_id,
    j.tenant_id,
    j.sensor_id,
    j.sensor_type_id,
    case
        when j.last_reading_at is null then 'NO_DATA'
        when j.last_reading_at
            < now() - greatest(interval '15 minutes', 3 * coalesce(j.expected_interval_s, 0) * interval '1 second')
            then 'SILENT'
        else 'INCOMPLETE'
    end as reason,
    j.expected_interval_s,
    j.last_reading_at,
    j.completeness_pct
from judged as j
where j.last_reading_at is null
    or j.last_reading_at
        < now() - greatest(interval '15 minutes', 3 * coalesce(j.expected_interval_s, 0) * interval '1 second')
    or j.completeness_pct < 80;

comment on view iot.v_sensors_needing_attention is
    'Sensors of the last 24 hours, and registered ones, that do not deliver what they should.';
comment on column iot.v_sensors_needing_attention.greenhouse_id is 'metadata.greenhouses.id.';
comment on column iot.v_sensors_needing_attention.tenant_id is 'metadata.tenants.id; NULL for NO_DATA.';
comment on column iot.v_sensors_needing_attention.sensor_id is
    'metadata.sensors.id, or the UUIDv5 of an unregistered sensor.';
comment on column iot.v_sensors_needing_attention.sensor_type_id is 'iot.sensor_types.id; NULL for NO_DATA.';
comment on column iot.v_sensors_needing_attention.reason is
    'NO_DATA: registered, none in 24 hours. SILENT: none for 3 intervals (15 minutes at least). INCOMPLETE: under 80 %.';
comment on column iot.v_sensors_needing_attention.expected_interval_s is
    'iot.sensor_intervals, else the median it was seen to keep, in seconds.';
comment on column iot.v_sensors_needing_attention.last_reading_at is 'Time of the last reading; NULL for NO_DATA.';
comment on column iot.v_sensors_needing_attention.completeness_pct is
    'Readings in per cent of those expected in the last 24 full hours; NULL without an interval.';
-- timescaledb: end
