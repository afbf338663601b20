-- Purpose: five continuous aggregates over the readings, with their refresh policies. They show what has arrived up
--          to now (materialized_only = false): materialised buckets, and the readings themselves after those.
--          Readings without ids (legacy rows that `ingest normalize` has not been at) are in none of them.
--          Buckets are hours, days and months of UTC, see V12. What arrives later than the policies look back is
--          computed again by iot.recompute_late_buckets (V16).
-- Locks:   SHARE ROW EXCLUSIVE on iot.sensor_readings for a moment, to have its changes noted.
-- Time:    under 1 s: nothing is computed here. The policies' first runs fill the time they look back; what is
--          older has iot.note_late_buckets(from, to) computed (V16).
-- Undo:    U13__create_continuous_aggregates.sql; it refuses where an aggregate is older than the readings left.

-- timescaledb: begin

-- What dashboards read: one greenhouse, one type, a time range. Grouped by unit too, so that °C and °F never meet in
-- one mean. Each is made of the readings themselves: a median of medians would be none.

create materialized view if not exists iot.cagg_sensor_readings_hourly
with (timescaledb.continuous, timescaledb.materialized_only = false) as
select
    time_bucket(interval '1 hour', r.time) as bucket,
    r.greenhouse_id,
    r.tenant_id,
    r.sensor_type_id,
    r.unit_id,
    avg(r.value) as avg_value,
    min(r.value) as min_value,
    max(r.value) as max_value,
    stddev_samp(r.value) as stddev_value,
    percentile_cont(0.5) within group (order by r.value) as median_value,
    percentile_cont(0.05) within group (order by r.value) as p5_value,
    percentile_cont(0.95) within group (order by r.value) as p95_value,
    count(*) as count_readings,
    count(*) filter (where r.value is null) as null_count,
    min(r.time) as first_reading_at,
    max(r.time) as last_reading_at
from iot.sensor_readings as r
where r.tenant_id is not null
    and r.sensor_type_id is not null
    and r.unit_id is not null
group by 1, 2, 3, 4, 5
with no data;

-- start 3 days: the oldest reading that is not noted as late is two days old, and a run may come a while later.
-- end 1 hour: an hour is computed once it is over; until then it is read from the readings.
select remove_continuous_aggregate_policy('iot.cagg_sensor_readings_hourly', if_exists => true);
select add_continuous_aggregate_policy(
    'iot.cagg_sensor_readings_hourly',
    start_offset => interval '3 days',
    end_offset => interval '1 hour',
    schedule_interval => interval '30 minutes'
);

comment on view iot.cagg_sensor_readings_hourly is
    'Readings by hour, greenhouse, tenant, type and unit.';
comment on column iot.cagg_sensor_readings_hourly.bucket is 'Start of the hour.';
comment on column iot.cagg_sensor_readings_hourly.greenhouse_id is 'metadata.greenhouses.id.';
comment on column iot.cagg_sensor_readings_hourly.tenant_id is 'metadata.tenants.id, as the readings have it.';
comment on column iot.cagg_sensor_readings_hourly.sensor_type_id is 'iot.sensor_types.id.';
comment on column iot.cagg_sensor_readings_hourly.unit_id is
    'iot.units.id, the unit of the values: readings in two units are never averaged together.';
comment on column iot.cagg_sensor_readings_hourly.avg_value is 'Mean, in the unit.';
comment on column iot.cagg_sensor_readings_hourly.min_value is 'Lowest value, in the unit.';
comment on column iot.cagg_sensor_readings_hourly.max_value is 'Highest value, in the unit.';
comment on column iot.cagg_sensor_readings_hourly.stddev_value is
    'Sample standard deviation, in the unit; NULL for a single reading.';
comment on column iot.cagg_sensor_readings_hourly.median_value is 'Median, in the unit.';
comment on column iot.cagg_sensor_readings_hourly.p5_value is '5th percentile (interpolated), in the unit.';
comment on column iot.cagg_sensor_readings_hourly.p95_value is '95th percentile (interpolated), in the unit.';
comment on column iot.cagg_sensor_readings_hourly.count_readings is 'Readings, those without a value included.';
comment on column iot.cagg_sensor_readings_hourly.null_count is 'Readings without a value (legacy only).';
comment on column iot.cagg_sensor_readings_hourly.first_reading_at is 'Time of the first reading.';
comment on column iot.cagg_sensor_readings_hourly.last_reading_at is 'Time of the last reading.';

create materialized view if not exists iot.cagg_sensor_readings_daily
with (timescaledb.continuous, timescaledb.materialized_only = false) as
select
    time_bucket(interval '1 day', r.time) as bucket,
    r.greenhouse_id,
    r.tenant_id,
    r.sensor_type_id,
    r.unit_id,
    avg(r.value) as avg_value,
    min(r.value) as min_value,
    max(r.value) as max_value,
    stddev_samp(r.value) as stddev_value,
    percentile_cont(0.5) within group (order by r.value) as median_value,
    percentile_cont(0.05) within group (order by r.value) as p5_value,
    percentile_cont(0.95) within group (order by r.value) as p95_value,
    count(*) as count_readings,
    count(*) filter (where r.value is null) as null_count,
    min(r.time) as first_reading_at,
    max(r.time) as last_reading_at,
    count(distinct date_trunc('hour', r.time at time zone 'UTC')) as hours_with_data
from iot.sensor_readings as r
where r.tenant_id is not null
    and r.sensor_type_id is not null
    and r.unit_id is not null
group by 1, 2, 3, 4, 5
with no data;

-- start 4 days: only whole buckets within are computed, so that it always covers the last 3 full days.
select remove_continuous_aggregate_policy('iot.cagg_sensor_readings_daily', if_exists => true);
select add_continuous_aggregate_policy(
    'iot.cagg_sensor_readings_daily',
    start_offset => interval '4 days',
    end_offset => interval '1 hour',
    schedule_interval => interval '6 hours'
);

comment on view iot.cagg_sensor_readings_daily is
    'Readings by day (UTC), greenhouse, tenant, type and unit.';
comment on column iot.cagg_sensor_readings_daily.bucket is 'Start of the day, UTC.';
comment on column iot.cagg_sensor_readings_daily.greenhouse_id is 'metadata.greenhouses.id.';
comment on column iot.cagg_sensor_readings_daily.tenant_id is 'metadata.tenants.id, as the readings have it.';
comment on column iot.cagg_sensor_readings_daily.sensor_type_id is 'iot.sensor_types.id.';
comment on column iot.cagg_sensor_readings_daily.unit_id is
    'iot.units.id, the unit of the values: readings in two units are never averaged together.';
comment on column iot.cagg_sensor_readings_daily.avg_value is 'Mean, in the unit.';
comment on column iot.cagg_sensor_readings_daily.min_value is 'Lowest value, in the unit.';
comment on column iot.cagg_sensor_readings_daily.max_value is 'Highest value, in the unit.';
comment on column iot.cagg_sensor_readings_daily.stddev_value is
    'Sample standard deviation, in the unit; NULL for a single reading.';
comment on column iot.cagg_sensor_readings_daily.median_value is 'Median, in the unit.';
comment on column iot.cagg_sensor_readings_daily.p5_value is '5th percentile (interpolated), in the unit.';
comment on column iot.cagg_sensor_readings_daily.p95_value is '95th percentile (interpolated), in the unit.';
comment on column iot.cagg_sensor_readings_daily.count_readings is 'Readings, those without a value included.';
comment on column iot.cagg_sensor_readings_daily.null_count is 'Readings without a value (legacy only).';
comment on column iot.cagg_sensor_readings_daily.first_reading_at is 'Time of the first reading.';
comment on column iot.cagg_sensor_readings_daily.last_reading_at is 'Time of the last reading.';
comment on column iot.cagg_sensor_readings_daily.hours_with_data is 'Hours of the day with a reading, 0 to 24.';

create materialized view if not exists iot.cagg_sensor_readings_monthly
with (timescaledb.continuous, timescaledb.materialized_only = false) as
select
    time_bucket(interval '1 month', r.time) as bucket,
    r.greenhouse_id,
    r.tenant_id,
    r.sensor_type_id,
    r.unit_id,
    avg(r.value) as avg_value,
    min(r.value) as min_value,
    max(r.value) as max_value,
    stddev_samp(r.value) as stddev_value,
    percentile_cont(0.5) within group (order by r.value) as median_value,
    percentile_cont(0.05) within group (order by r.value) as p5_value,
    percentile_cont(0.95) within group (order by r.value) as p95_value,
    count(*) as count_readings,
    count(*) filter (where r.value is null) as null_count,
    min(r.time) as first_reading_at,
    max(r.time) as last_reading_at,
    count(distinct date_trunc('day', r.time at time zone 'UTC')) as days_with_data
from iot.sensor_readings as r
where r.tenant_id is not null
    and r.sensor_type_id is not null
    and r.unit_id is not null
group by 1, 2, 3, 4, 5
with no data;

-- start 3 months: covers at least the last 2 full months. A month is computed once, when it is over: at 4.3 million
-- readings a day that is 130 million, once a month.
select remove_continuous_aggregate_policy('iot.cagg_sensor_readings_monthly', if_exists => true);
select add_continuous_aggregate_policy(
    'iot.cagg_sensor_readings_monthly',
    start_offset => interval '3 months',
    end_offset => interval '1 hour',
    schedule_interval => interval '1 day'
);

comment on view iot.cagg_sensor_readings_monthly is
    'Readings by month (UTC), greenhouse, tenant, type and unit.';
comment on column iot.cagg_sensor_readings_monthly.bucket is 'Start of the month, UTC.';
comment on column iot.cagg_sensor_readings_monthly.greenhouse_id is 'metadata.greenhouses.id.';
comment on column iot.cagg_sensor_readings_monthly.tenant_id is 'metadata.tenants.id, as the readings have it.';
comment on column iot.cagg_sensor_readings_monthly.sensor_type_id is 'iot.sensor_types.id.';
comment on column iot.cagg_sensor_readings_monthly.unit_id is
    'iot.units.id, the unit of the values: readings in two units are never averaged together.';
comment on column iot.cagg_sensor_readings_monthly.avg_value is 'Mean, in the unit.';
comment on column iot.cagg_sensor_readings_monthly.min_value is 'Lowest value, in the unit.';
comment on column iot.cagg_sensor_readings_monthly.max_value is 'Highest value, in the unit.';
comment on column iot.cagg_sensor_readings_monthly.stddev_value is
    'Sample standard deviation, in the unit; NULL for a single reading.';
comment on column iot.cagg_sensor_readings_monthly.median_value is 'Median, in the unit.';
comment on column iot.cagg_sensor_readings_monthly.p5_value is '5th percentile (interpolated), in the unit.';
comment on column iot.cagg_sensor_readings_monthly.p95_value is '95th percentile (interpolated), in the unit.';
comment on column iot.cagg_sensor_readings_monthly.count_readings is 'Readings, those without a value included.';
comment on column iot.cagg_sensor_readings_monthly.null_count is 'Readings without a value (legacy only).';
comment on column iot.cagg_sensor_readings_monthly.first_reading_at is 'Time of the first reading.';
comment on column iot.cagg_sensor_readings_monthly.last_reading_at is 'Time of the last reading.';
comment on column iot.cagg_sensor_readings_monthly.days_with_data is 'Days of the month with a reading.';

-- The ids are those of the shipped catalogs (V11_1), the same in every installation: types 1 TEMPERATURE, 2 HUMIDITY,
-- 3 LIGHT, 5 CO2; units 1 °C, 2 °F, 3 %, 4 lux, 6 ppm. A reading of such a type in another unit is left out.
create materialized view if not exists iot.cagg_greenhouse_conditions_realtime
with (timescaledb.continuous, timescaledb.materialized_only = false) as
select
    time_bucket(interval '15 minutes', r.time) as bucket,
    r.greenhouse_id,
    r.tenant_id,
    avg(case r.unit_id when 2 then (r.value - 32) / 1.8 else r.value end) filter (
        where r.sensor_type_id = 1 and r.unit_id in (1, 2)
    ) as temperature_avg,
    min(case r.unit_id when 2 then (r.value - 32) / 1.8 else r.value end) filter (
        where r.sensor_type_id = 1 and r.unit_id in (1, 2)
    ) as temperature_min,
    max(case r.unit_id when 2 then (r.value - 32) / 1.8 else r.value end) filter (
        where r.sensor_type_id = 1 and r.unit_id in (1, 2)
    ) as temperature_max,
    count(r.value) filter (where r.sensor_type_id = 1 and r.unit_id in (1, 2)) as temperature_readings,
    avg(r.value) filter (where r.sensor_type_id = 2 and r.unit_id = 3) as humidity_avg,
    min(r.value) filter (where r.sensor_type_id = 2 and r.unit_id = 3) as humidity_min,
    max(r.value) filter (where r.sensor_type_id = 2 and r.unit_id = 3) as humidity_max,
    count(r.value) filter (where r.sensor_type_id = 2 and r.unit_id = 3) as humidity_readings,
    avg(r.value) filter (where r.sensor_type_id = 3 and r.unit_id = 4) as light_avg,
    min(r.value) filter (where r.sensor_type_id = 3 and r.unit_id = 4) as light_min,
    max(r.value) filter (where r.sensor_type_id = 3 and r.unit_id = 4) as light_max,
    count(r.value) filter (where r.sensor_type_id = 3 and r.unit_id = 4) as light_readings,
    avg(r.value) filter (where r.sensor_type_id = 5 and r.unit_id = 6) as co2_avg,
    min(r.value) filter (where r.sensor_type_id = 5 and r.unit_id = 6) as co2_min,
    max(r.value) filter (where r.sensor_type_id = 5 and r.unit_id = 6) as co2_max,
    count(r.value) filter (where r.sensor_type_id = 5 and r.unit_id = 6) as co2_readings
from iot.sensor_readings as r
where r.tenant_id is not null
    and r.sensor_type_id in (1, 2, 3, 5)
group by 1, 2, 3
with no data;

-- every 5 minutes, end 15 minutes: at most two quarters of an hour are read from the readings.
select remove_continuous_aggregate_policy('iot.cagg_greenhouse_conditions_realtime', if_exists => true);
select add_continuous_aggregate_policy(
    'iot.cagg_greenhouse_conditions_realtime',
    start_offset => interval '3 days',
    end_offset => interval '15 minutes',
    schedule_interval => interval '5 minutes'
);

comment on view iot.cagg_greenhouse_conditions_realtime is
    'Temperature, humidity, light and CO2 of a greenhouse, side by side, by quarter of an hour.';
comment on column iot.cagg_greenhouse_conditions_realtime.bucket is 'Start of the quarter of an hour.';
comment on column iot.cagg_greenhouse_conditions_realtime.greenhouse_id is 'metadata.greenhouses.id.';
comment on column iot.cagg_greenhouse_conditions_realtime.tenant_id is
    'metadata.tenants.id, as the readings have it.';
comment on column iot.cagg_greenhouse_conditions_realtime.temperature_avg is 'Mean, in °C; °F is converted.';
comment on column iot.cagg_greenhouse_conditions_realtime.temperature_min is 'Lowest, in °C; °F is converted.';
comment on column iot.cagg_greenhouse_conditions_realtime.temperature_max is 'Highest, in °C; °F is converted.';
comment on column iot.cagg_greenhouse_conditions_realtime.temperature_readings is 'Readings these are made of.';
comment on column iot.cagg_greenhouse_conditions_realtime.humidity_avg is 'Mean, in %.';
comment on column iot.cagg_greenhouse_conditions_realtime.humidity_min is 'Lowest, in %.';
comment on column iot.cagg_greenhouse_conditions_realtime.humidity_max is 'Highest, in %.';
comment on column iot.cagg_greenhouse_conditions_realtime.humidity_readings is 'Readings these are made of.';
comment on column iot.cagg_greenhouse_conditions_realtime.light_avg is 'Mean, in lux.';
comment on column iot.cagg_greenhouse_conditions_realtime.light_min is 'Lowest, in lux.';
comment on column iot.cagg_greenhouse_conditions_realtime.light_max is 'Highest, in lux.';
comment on column iot.cagg_greenhouse_conditions_realtime.light_readings is 'Readings these are made of.';
comment on column iot.cagg_greenhouse_conditions_realtime.co2_avg is 'Mean, in ppm.';
comment on column iot.cagg_greenhouse_conditions_realtime.co2_min is 'Lowest, in ppm.';
comment on column iot.cagg_greenhouse_conditions_realtime.co2_max is 'Highest, in ppm.';
comment on column iot.cagg_greenhouse_conditions_realtime.co2_readings is 'Readings these are made of.';

-- Times without a reading cannot be told here (continuous aggregates take no window functions): they are in
-- iot.sensor_performance_daily, and minutes_with_data is their complement.
create materialized view if not exists iot.cagg_sensor_health_hourly
with (timescaledb.continuous, timescaledb.materialized_only = false) as
select
    time_bucket(interval '1 hour', r.time) as bucket,
    r.greenhouse_id,
    r.tenant_id,
    r.sensor_id,
    r.sensor_type_id,
    case when min(r.unit_id) = max(r.unit_id) then min(r.unit_id) end as unit_id,
    count(*) as readings,
    count(*) filter (where r.value is null) as null_count,
    count(distinct date_trunc('minute', r.time at time zone 'UTC')) as minutes_with_data,
    min(r.time) as first_reading_at,
    max(r.time) as last_reading_at,
    avg(r.value) as avg_value,
    min(r.value) as min_value,
    max(r.value) as max_value
from iot.sensor_readings as r
where r.tenant_id is not null
    and r.sensor_id is not null
    and r.sensor_type_id is not null
group by 1, 2, 3, 4, 5
with no data;

select remove_continuous_aggregate_policy('iot.cagg_sensor_health_hourly', if_exists => true);
select add_continuous_aggregate_policy(
    'iot.cagg_sensor_health_hourly',
    start_offset => interval '3 days',
    end_offset => interval '1 hour',
    schedule_interval => interval '1 hour'
);

comment on view iot.cagg_sensor_health_hourly is
    'What each sensor delivered, by hour, sensor and type.';
comment on column iot.cagg_sensor_health_hourly.bucket is 'Start of the hour.';
comment on column iot.cagg_sensor_health_hourly.greenhouse_id is 'metadata.greenhouses.id.';
comment on column iot.cagg_sensor_health_hourly.tenant_id is 'metadata.tenants.id, as the readings have it.';
comment on column iot.cagg_sensor_health_hourly.sensor_id is
    'metadata.sensors.id, or the UUIDv5 of an unregistered sensor.';
comment on column iot.cagg_sensor_health_hourly.sensor_type_id is 'iot.sensor_types.id.';
comment on column iot.cagg_sensor_health_hourly.unit_id is
    'iot.units.id; NULL where it sent more than one unit, and then the values mean nothing.';
comment on column iot.cagg_sensor_health_hourly.readings is 'Readings, those without a value included.';
comment on column iot.cagg_sensor_health_hourly.null_count is 'Readings without a value (legacy only).';
comment on column iot.cagg_sensor_health_hourly.minutes_with_data is 'Minutes of the hour with a reading, 0 to 60.';
comment on column iot.cagg_sensor_health_hourly.first_reading_at is 'Time of the first reading.';
comment on column iot.cagg_sensor_health_hourly.last_reading_at is 'Time of the last reading.';
comment on column iot.cagg_sensor_health_hourly.avg_value is 'Mean, in the unit.';
comment on column iot.cagg_sensor_health_hourly.min_value is 'Lowest value, in the unit.';
comment on column iot.cagg_sensor_health_hourly.max_value is 'Highest value, in the unit.';
-- timescaledb: end
