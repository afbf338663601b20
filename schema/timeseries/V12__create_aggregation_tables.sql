-- Purpose: five tables of rollups that outlive the readings they were made of, keyed by ids and upsertable; the jobs of
--          V16 fill them. Buckets are hours, days and months of UTC: what the gateways' clocks agree on, and the only
--          days that two greenhouses in different zones have in common. A dashboard that needs local days sums hours.
--          A live database has continuous aggregates under such names: they are renamed aside, with the suffix _v11,
--          and go on being refreshed.
-- Locks:   ACCESS EXCLUSIVE on the aggregates renamed, for a moment.
-- Time:    under 1 s.
-- Undo:    U12__create_aggregation_tables.sql; it refuses where a rollup is older than what is left of the readings.

-- timescaledb: begin
do $$
declare
    v_name text;
    v_kind "char";
    v_what text;
begin
    foreach v_name in array array['sensor_readings_hourly', 'sensor_readings_daily_by_tenant'] loop
        v_kind := (select c.relkind from pg_class as c where c.oid = to_regclass('iot.' || v_name));
        continue when v_kind is null;
        if to_regclass('iot.' || v_name || '_v11') is not null then
            raise exception 'iot.% is in the way, and so is iot.%_v11, where it would be put', v_name, v_name
                using hint = 'Rename or drop one of them, then migrate again.';
        end if;
        v_what := case
            when v_kind in ('r', 'p') then 'table'
            when v_kind = 'm' then 'materialized view'
            when exists (
                select
                from timescaledb_information.continuous_aggregates as a
                where a.view_schema = 'iot'
                    and a.view_name = v_name
            ) then 'materialized view'
            else 'view'
        end;
        execute format('alter %s iot.%I rename to %I', v_what, v_name, v_name || '_v11');
        raise notice 'iot.% was in the way: it is iot.%_v11 now', v_name, v_name;
    end loop;
end;
$$;
-- timescaledb: end

-- The primary keys begin with what dashboards ask for (one greenhouse, one type, a time range), so that no further
-- index is needed. tenant_id and unit_id are part of them: a greenhouse that changed hands, or a type measured in two
-- units, has a row for each.
create table iot.sensor_readings_hourly (
    bucket timestamptz not null,
    greenhouse_id uuid not null,
    tenant_id uuid not null,
    sensor_type_id smallint not null,
    unit_id smallint not null,
    avg_value double precision,
    min_value double precision,
    max_value double precision,
    stddev_value double precision,
    median_value double precision,
    p5_value double precision,
    p95_value double precision,
    count_readings bigint not null,
    null_count bigint not null,
    first_reading_at timestamptz not null,
    last_reading_at timestamptz not null,
    computed_at timestamptz not null default now(),
    constraint sensor_readings_hourly_pkey primary key (greenhouse_id, sensor_type_id, bucket, tenant_id, unit_id)
);

comment on table iot.sensor_readings_hourly is
    'Rollup of iot.sensor_readings: one row an hour, greenhouse, tenant, type and unit; filled by '
    'iot.fill_sensor_readings_hourly.';
comment on column iot.sensor_readings_hourly.bucket is 'Start of the hour.';
comment on column iot.sensor_readings_hourly.greenhouse_id is 'metadata.greenhouses.id.';
comment on column iot.sensor_readings_hourly.tenant_id is 'metadata.tenants.id, as the readings have it.';
comment on column iot.sensor_readings_hourly.sensor_type_id is 'iot.sensor_types.id.';
comment on column iot.sensor_readings_hourly.unit_id is
    'iot.units.id, the unit of the values: readings in two units are never averaged together.';
comment on column iot.sensor_readings_hourly.avg_value is 'Mean, in the unit.';
comment on column iot.sensor_readings_hourly.min_value is 'Lowest value, in the unit.';
comment on column iot.sensor_readings_hourly.max_value is 'Highest value, in the unit.';
comment on column iot.sensor_readings_hourly.stddev_value is
    'Sample standard deviation, in the unit; NULL for a single reading.';
comment on column iot.sensor_readings_hourly.median_value is 'Median, in the unit.';
comment on column iot.sensor_readings_hourly.p5_value is '5th percentile (interpolated), in the unit.';
comment on column iot.sensor_readings_hourly.p95_value is '95th percentile (interpolated), in the unit.';
comment on column iot.sensor_readings_hourly.count_readings is 'Readings, those without a value included.';
comment on column iot.sensor_readings_hourly.null_count is 'Readings without a value (legacy only).';
comment on column iot.sensor_readings_hourly.first_reading_at is 'Time of the first reading.';
comment on column iot.sensor_readings_hourly.last_reading_at is 'Time of the last reading.';
comment on column iot.sensor_readings_hourly.computed_at is 'When this row last changed.';

-- 1 day: the upserts of the last 3 days stay within 4 chunks. 7 days: nothing is compressed that the window of 3 days
-- still rewrites. A segment is one greenhouse and type, 24 rows a day.
-- timescaledb: begin
select create_hypertable(
    'iot.sensor_readings_hourly',
    by_range('bucket', interval '1 day'),
    create_default_indexes => false
);
alter table iot.sensor_readings_hourly set (
    timescaledb.enable_columnstore,
    timescaledb.segmentby = 'greenhouse_id, sensor_type_id',
    timescaledb.orderby = 'bucket desc, tenant_id, unit_id'
);
call add_columnstore_policy('iot.sensor_readings_hourly', after => interval '7 days');
-- timescaledb: end

create table iot.sensor_readings_daily (
    bucket timestamptz not null,
    greenhouse_id uuid not null,
    tenant_id uuid not null,
    sensor_type_id smallint not null,
    unit_id smallint not null,
    avg_value double precision,
    min_value double precision,
    max_value double precision,
    stddev_value double precision,
    median_value double precision,
    p5_value double precision,
    p95_value double precision,
    count_readings bigint not null,
    null_count bigint not null,
    first_reading_at timestamptz not null,
    last_reading_at timestamptz not null,
    hours_with_data integer not null,
    computed_at timestamptz not null default now(),
    constraint sensor_readings_daily_pkey primary key (greenhouse_id, sensor_type_id, bucket, tenant_id, unit_id)
);

comment on table iot.sensor_readings_daily is
    'Rollup of iot.sensor_readings: one row a day (UTC), greenhouse, tenant, type and unit; filled by '
    'iot.fill_sensor_readings_daily.';
comment on column iot.sensor_readings_daily.bucket is 'Start of the day, UTC.';
comment on column iot.sensor_readings_daily.greenhouse_id is 'metadata.greenhouses.id.';
comment on column iot.sensor_readings_daily.tenant_id is 'metadata.tenants.id, as the readings have it.';
comment on column iot.sensor_readings_daily.sensor_type_id is 'iot.sensor_types.id.';
comment on column iot.sensor_readings_daily.unit_id is
    'iot.units.id, the unit of the values: readings in two units are never averaged together.';
comment on column iot.sensor_readings_daily.avg_value is 'Mean, in the unit.';
comment on column iot.sensor_readings_daily.min_value is 'Lowest value, in the unit.';
comment on column iot.sensor_readings_daily.max_value is 'Highest value, in the unit.';
comment on column iot.sensor_readings_daily.stddev_value is
    'Sample standard deviation, in the unit; NULL for a single reading.';
comment on column iot.sensor_readings_daily.median_value is 'Median, in the unit.';
comment on column iot.sensor_readings_daily.p5_value is '5th percentile (interpolated), in the unit.';
comment on column iot.sensor_readings_daily.p95_value is '95th percentile (interpolated), in the unit.';
comment on column iot.sensor_readings_daily.count_readings is 'Readings, those without a value included.';
comment on column iot.sensor_readings_daily.null_count is 'Readings without a value (legacy only).';
comment on column iot.sensor_readings_daily.first_reading_at is 'Time of the first reading.';
comment on column iot.sensor_readings_daily.last_reading_at is 'Time of the last reading.';
comment on column iot.sensor_readings_daily.hours_with_data is 'Hours of the day with a reading, 0 to 24.';
comment on column iot.sensor_readings_daily.computed_at is 'When this row last changed.';

-- 30 days: 30 rows a segment, of 250 bytes each: 10 greenhouses of 10 types are 0.75 MB a chunk.
-- timescaledb: begin
select create_hypertable(
    'iot.sensor_readings_daily',
    by_range('bucket', interval '30 days'),
    create_default_indexes => false
);
alter table iot.sensor_readings_daily set (
    timescaledb.enable_columnstore,
    timescaledb.segmentby = 'greenhouse_id, sensor_type_id',
    timescaledb.orderby = 'bucket desc, tenant_id, unit_id'
);
call add_columnstore_policy('iot.sensor_readings_daily', after => interval '30 days');
-- timescaledb: end

create table iot.sensor_readings_monthly (
    bucket timestamptz not null,
    greenhouse_id uuid not null,
    tenant_id uuid not null,
    sensor_type_id smallint not null,
    unit_id smallint not null,
    avg_value double precision,
    min_value double precision,
    max_value double precision,
    stddev_value double precision,
    median_value double precision,
    p5_value double precision,
    p95_value double precision,
    count_readings bigint not null,
    null_count bigint not null,
    first_reading_at timestamptz not null,
    last_reading_at timestamptz not null,
    days_with_data integer not null,
    computed_at timestamptz not null default now(),
    constraint sensor_readings_monthly_pkey primary key (greenhouse_id, sensor_type_id, bucket, tenant_id, unit_id)
);

comment on table iot.sensor_readings_monthly is
    'Rollup of iot.sensor_readings: one row a month (UTC), greenhouse, tenant, type and unit; filled by '
    'iot.fill_sensor_readings_monthly.';
comment on column iot.sensor_readings_monthly.bucket is 'Start of the month, UTC.';
comment on column iot.sensor_readings_monthly.greenhouse_id is 'metadata.greenhouses.id.';
comment on column iot.sensor_readings_monthly.tenant_id is 'metadata.tenants.id, as the readings have it.';
comment on column iot.sensor_readings_monthly.sensor_type_id is 'iot.sensor_types.id.';
comment on column iot.sensor_readings_monthly.unit_id is
    'iot.units.id, the unit of the values: readings in two units are never averaged together.';
comment on column iot.sensor_readings_monthly.avg_value is 'Mean, in the unit.';
comment on column iot.sensor_readings_monthly.min_value is 'Lowest value, in the unit.';
comment on column iot.sensor_readings_monthly.max_value is 'Highest value, in the unit.';
comment on column iot.sensor_readings_monthly.stddev_value is
    'Sample standard deviation, in the unit; NULL for a single reading.';
comment on column iot.sensor_readings_monthly.median_value is 'Median, in the unit.';
comment on column iot.sensor_readings_monthly.p5_value is '5th percentile (interpolated), in the unit.';
comment on column iot.sensor_readings_monthly.p95_value is '95th percentile (interpolated), in the unit.';
comment on column iot.sensor_readings_monthly.count_readings is 'Readings, those without a value included.';
comment on column iot.sensor_readings_monthly.null_count is 'Readings without a value (legacy only).';
comment on column iot.sensor_readings_monthly.first_reading_at is 'Time of the first reading.';
comment on column iot.sensor_readings_monthly.last_reading_at is 'Time of the last reading.';
comment on column iot.sensor_readings_monthly.days_with_data is 'Days of the month with a reading.';
comment on column iot.sensor_readings_monthly.computed_at is 'When this row last changed.';

-- 90 days: 3 rows a segment; compressed 90 days after that, long after the window of 3 months has left it.
-- timescaledb: begin
select create_hypertable(
    'iot.sensor_readings_monthly',
    by_range('bucket', interval '90 days'),
    create_default_indexes => false
);
alter table iot.sensor_readings_monthly set (
    timescaledb.enable_columnstore,
    timescaledb.segmentby = 'greenhouse_id, sensor_type_id',
    timescaledb.orderby = 'bucket desc, tenant_id, unit_id'
);
call add_columnstore_policy('iot.sensor_readings_monthly', after => interval '90 days');
-- timescaledb: end

create table iot.greenhouse_daily_summary (
    bucket timestamptz not null,
    greenhouse_id uuid not null,
    tenant_id uuid not null,
    temperature_avg double precision,
    temperature_min double precision,
    temperature_max double precision,
    humidity_avg double precision,
    humidity_min double precision,
    humidity_max double precision,
    light_avg double precision,
    light_min double precision,
    light_max double precision,
    co2_avg double precision,
    co2_min double precision,
    co2_max double precision,
    readings bigint not null,
    sensors integer not null,
    computed_at timestamptz not null default now(),
    constraint greenhouse_daily_summary_pkey primary key (greenhouse_id, bucket, tenant_id)
);

comment on table iot.greenhouse_daily_summary is
    'What a greenhouse was like: one row a day (UTC), greenhouse and tenant; filled by '
    'iot.fill_greenhouse_daily_summary.';
comment on column iot.greenhouse_daily_summary.bucket is 'Start of the day, UTC.';
comment on column iot.greenhouse_daily_summary.greenhouse_id is 'metadata.greenhouses.id.';
comment on column iot.greenhouse_daily_summary.tenant_id is 'metadata.tenants.id, as the readings have it.';
comment on column iot.greenhouse_daily_summary.temperature_avg is
    'Mean of all readings, in °C; °F is converted; NULL without any.';
comment on column iot.greenhouse_daily_summary.temperature_min is 'Lowest, in °C; °F is converted.';
comment on column iot.greenhouse_daily_summary.temperature_max is 'Highest, in °C; °F is converted.';
comment on column iot.greenhouse_daily_summary.humidity_avg is 'Mean of all readings, in %; NULL without any.';
comment on column iot.greenhouse_daily_summary.humidity_min is 'Lowest, in %.';
comment on column iot.greenhouse_daily_summary.humidity_max is 'Highest, in %.';
comment on column iot.greenhouse_daily_summary.light_avg is 'Mean of all readings, in lux; NULL without any.';
comment on column iot.greenhouse_daily_summary.light_min is 'Lowest, in lux.';
comment on column iot.greenhouse_daily_summary.light_max is 'Highest, in lux.';
comment on column iot.greenhouse_daily_summary.co2_avg is 'Mean of all readings, in ppm; NULL without any.';
comment on column iot.greenhouse_daily_summary.co2_min is 'Lowest, in ppm.';
comment on column iot.greenhouse_daily_summary.co2_max is 'Highest, in ppm.';
comment on column iot.greenhouse_daily_summary.readings is 'Readings of all types, those above and the others.';
comment on column iot.greenhouse_daily_summary.sensors is 'Different sensors they came from.';
comment on column iot.greenhouse_daily_summary.computed_at is 'When this row last changed.';

-- 30 days: as the daily rollup.
-- timescaledb: begin
select create_hypertable(
    'iot.greenhouse_daily_summary',
    by_range('bucket', interval '30 days'),
    create_default_indexes => false
);
alter table iot.greenhouse_daily_summary set (
    timescaledb.enable_columnstore,
    timescaledb.segmentby = 'greenhouse_id',
    timescaledb.orderby = 'bucket desc, tenant_id'
);
call add_columnstore_policy('iot.greenhouse_daily_summary', after => interval '30 days');
-- timescaledb: end

create table iot.sensor_performance_daily (
    bucket timestamptz not null,
    sensor_id uuid not null,
    greenhouse_id uuid not null,
    tenant_id uuid not null,
    sensor_type_id smallint not null,
    unit_id smallint,
    readings bigint not null,
    expected_readings bigint,
    completeness_pct numeric(5, 2),
    expected_interval_s double precision,
    observed_interval_s double precision,
    gaps integer,
    longest_gap_s double precision,
    first_reading_at timestamptz,
    last_reading_at timestamptz,
    avg_value double precision,
    min_value double precision,
    max_value double precision,
    computed_at timestamptz not null default now(),
    constraint sensor_performance_daily_pkey primary key (greenhouse_id, sensor_type_id, bucket, sensor_id, tenant_id)
);

comment on table iot.sensor_performance_daily is
    'How well a sensor delivered: one row a day (UTC), sensor and type; filled by iot.fill_sensor_performance_daily.';
comment on column iot.sensor_performance_daily.bucket is 'Start of the day, UTC.';
comment on column iot.sensor_performance_daily.sensor_id is
    'metadata.sensors.id, or the UUIDv5 of an unregistered sensor.';
comment on column iot.sensor_performance_daily.greenhouse_id is 'metadata.greenhouses.id.';
comment on column iot.sensor_performance_daily.tenant_id is 'metadata.tenants.id, as the readings have it.';
comment on column iot.sensor_performance_daily.sensor_type_id is 'iot.sensor_types.id.';
comment on column iot.sensor_performance_daily.unit_id is
    'iot.units.id; NULL where the sensor sent more than one unit, and then the values mean nothing.';
comment on column iot.sensor_performance_daily.readings is
    'Readings; 0 on a day without any, noted for 7 days after a sensor fell silent.';
comment on column iot.sensor_performance_daily.expected_readings is
    'Readings a day of that interval has; of a day not over yet, up to its last reading.';
comment on column iot.sensor_performance_daily.completeness_pct is
    'Readings in per cent of those expected, at most 100; NULL where no interval is known.';
comment on column iot.sensor_performance_daily.expected_interval_s is
    'What it was measured against, in seconds: iot.sensor_intervals, else observed_interval_s.';
comment on column iot.sensor_performance_daily.observed_interval_s is
    'Median time from one reading to the next, in seconds; NULL below two readings.';
comment on column iot.sensor_performance_daily.gaps is
    'Times without a reading longer than twice expected_interval_s, the edges of the day included.';
comment on column iot.sensor_performance_daily.longest_gap_s is
    'Longest time without a reading, in seconds, the edges of the day included.';
comment on column iot.sensor_performance_daily.first_reading_at is 'Time of the first reading; NULL without any.';
comment on column iot.sensor_performance_daily.last_reading_at is 'Time of the last reading; NULL without any.';
comment on column iot.sensor_performance_daily.avg_value is 'Mean, in the unit.';
comment on column iot.sensor_performance_daily.min_value is 'Lowest value, in the unit.';
comment on column iot.sensor_performance_daily.max_value is 'Highest value, in the unit.';
comment on column iot.sensor_performance_daily.computed_at is 'When this row last changed.';

-- 30 days: 50 sensors are 1 500 rows a chunk. segmentby as the readings: a segment a sensor would hold 30 rows.
-- timescaledb: begin
select create_hypertable(
    'iot.sensor_performance_daily',
    by_range('bucket', interval '30 days'),
    create_default_indexes => false
);
alter table iot.sensor_performance_daily set (
    timescaledb.enable_columnstore,
    timescaledb.segmentby = 'greenhouse_id, sensor_type_id',
    timescaledb.orderby = 'bucket desc, sensor_id, tenant_id'
);
call add_columnstore_policy('iot.sensor_performance_daily', after => interval '30 days');
-- timescaledb: end
