-- Purpose: the hypertable of readings in its legacy form (type and unit as text). Creates it on a new database
--          and leaves a live one, its chunk interval and its indexes as they are.
-- Locks:   none on an existing table.
-- Time:    under 1 s.
-- Undo:    none: dropping the table loses the readings. Restore a dump instead.

-- timescaledb: begin
create extension if not exists timescaledb;
-- timescaledb: end

-- `create schema if not exists` would ask for CREATE on the database even where the schema is there.
do $$
begin
    if to_regnamespace('iot') is null then
        create schema iot;
    end if;
end;
$$;

comment on schema iot is
    'What sensors measured, what is computed from it, and what the ingestion worker keeps to deliver it once.';

create table if not exists iot.sensor_readings (
    time timestamptz not null,
    greenhouse_id uuid not null,
    sensor_id uuid,
    sensor_type varchar(50),
    unit varchar(20),
    value double precision,
    metadata jsonb
);

comment on table iot.sensor_readings is 'One row a reading, as the gateway sent it; never updated by the worker.';
comment on column iot.sensor_readings.time is
    'When it was measured; where the payload says no time, when the worker received the message.';
comment on column iot.sensor_readings.greenhouse_id is 'metadata.greenhouses.id.';
comment on column iot.sensor_readings.sensor_id is
    'metadata.sensors.id, or the UUIDv5 of greenhouse and label of an unregistered sensor; NULL in legacy rows only.';
comment on column iot.sensor_readings.sensor_type is 'Legacy: the type as text; NULL in rows the worker wrote.';
comment on column iot.sensor_readings.unit is 'Legacy: the unit as text; NULL in rows the worker wrote.';
comment on column iot.sensor_readings.value is 'The measurement, in its unit; booleans are 1 and 0.';
comment on column iot.sensor_readings.metadata is 'What else the payload said of the reading; NULL when nothing.';

-- One chunk a day: at the reference load of 4.3 million rows a day and 222 bytes a row it is 0.95 GB with its
-- index, which fits in memory while it is written.
-- No default index on time alone: each further index costs COPY, 305 000 rows/s with one and 131 000 with five,
-- and a time range is already narrowed to its chunks.
-- timescaledb: begin
select create_hypertable(
    'iot.sensor_readings',
    by_range('time', interval '1 day'),
    create_default_indexes => false,
    if_not_exists => true
);
-- timescaledb: end
