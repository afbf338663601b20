-- Purpose: SMALLINT ids in place of names: the columns, the two small catalogs that give the names back, and what
--          each registered sensor is expected to send, all without asking the other database. The worker keeps the
--          three tables in step with metadata.
-- Locks:   ACCESS EXCLUSIVE on iot.sensor_readings, three times for the moment of adding a nullable column: no
--          rewrite, 0.25 ms a chunk. One transaction for all three would hold it three times as long.
-- Time:    under 1 s once the lock is there, also on compressed chunks.
-- Undo:    U11_1__add_normalized_columns.sql; it refuses once a row carries an id.
-- transaction: none

-- A table of another shape under one of these names would otherwise be found out half-way.
do $$
declare
    v_table text;
begin
    v_table := (
        select min(w.table_name)
        from (
            values
                ('units', 'id', 'smallint'),
                ('units', 'symbol', 'character varying'),
                ('sensor_types', 'id', 'smallint'),
                ('sensor_types', 'name', 'character varying'),
                ('sensor_intervals', 'sensor_id', 'uuid'),
                ('sensor_intervals', 'greenhouse_id', 'uuid'),
                ('sensor_intervals', 'expected_interval_s', 'integer'),
                ('sensor_intervals', 'watched_since', 'timestamp with time zone')
        ) as w (table_name, column_name, data_type)
        where to_regclass('iot.' || w.table_name) is not null
            and not exists (
                select
                from pg_attribute as a
                where a.attrelid = to_regclass('iot.' || w.table_name)
                    and a.attname = w.column_name
                    and format_type(a.atttypid, null) = w.data_type
                    and not a.attisdropped
            )
    );
    if v_table is not null then
        raise exception 'iot.% is in the way: it is not the mirror that belongs there', v_table
            using hint = 'Rename or drop it, then migrate again.';
    end if;
end;
$$;

create table if not exists iot.units (
    id smallint not null,
    symbol varchar(20) not null,
    constraint units_pkey primary key (id),
    -- Judged at the end of a statement: two units may exchange their symbols.
    constraint units_symbol_key unique (symbol) deferrable
);

comment on table iot.units is 'Mirror of metadata.units.';
comment on column iot.units.id is 'The id it has in metadata.units.';
comment on column iot.units.symbol is 'As shown: °C, %, hPa.';

insert into iot.units (id, symbol) values
    (1, '°C'),
    (2, '°F'),
    (3, '%'),
    (4, 'lux'),
    (5, 'hPa'),
    (6, 'ppm'),
    (7, 'W/m²'),
    (8, 'm/s'),
    (9, 'mm'),
    (10, 'unit'),
    (11, 'value')
on conflict (id) do nothing;

create table if not exists iot.sensor_types (
    id smallint not null,
    name varchar(50) not null,
    constraint sensor_types_pkey primary key (id),
    constraint sensor_types_name_key unique (name) deferrable
);

comment on table iot.sensor_types is 'Mirror of metadata.sensor_types.';
comment on column iot.sensor_types.id is 'The id it has in metadata.sensor_types.';
comment on column iot.sensor_types.name is 'Upper-case English name.';

insert into iot.sensor_types (id, name) values
    (1, 'TEMPERATURE'),
    (2, 'HUMIDITY'),
    (3, 'LIGHT'),
    (4, 'SOIL_MOISTURE'),
    (5, 'CO2'),
    (6, 'PRESSURE'),
    (7, 'WIND_SPEED'),
    (8, 'PRECIPITATION'),
    (9, 'SOLAR_RADIATION'),
    (10, 'SETPOINT'),
    (11, 'SENSOR')
on conflict (id) do nothing;

-- What completeness is measured against. Empty until the worker has filled it; a sensor that is not in it is measured
-- against the median of its own intervals.
create table if not exists iot.sensor_intervals (
    sensor_id uuid not null,
    greenhouse_id uuid not null,
    expected_interval_s integer not null,
    watched_since timestamptz not null default now(),
    constraint sensor_intervals_pkey primary key (sensor_id),
    constraint sensor_intervals_positive check (expected_interval_s > 0)
);

-- The worker brings the mirror in step greenhouse by greenhouse.
create index if not exists sensor_intervals_greenhouse_id_idx on iot.sensor_intervals (greenhouse_id);

comment on table iot.sensor_intervals is
    'Mirror of metadata.sensors: the active ones with an expected interval.';
comment on column iot.sensor_intervals.sensor_id is 'metadata.sensors.id.';
comment on column iot.sensor_intervals.greenhouse_id is 'metadata.greenhouses.id of its greenhouse.';
comment on column iot.sensor_intervals.expected_interval_s is 'Time from one reading to the next, in seconds.';
comment on column iot.sensor_intervals.watched_since is
    'When a worker first mirrored it: a sensor that is new is not silent yet.';

-- Nullable, because legacy rows have no ids until `ingest normalize` has filled them. No foreign keys: the
-- worker resolves every id before it writes, and a check a row would slow COPY.
-- One statement a column: a hypertable that has compressed chunks takes no more in one.
alter table iot.sensor_readings
    add column if not exists tenant_id uuid;
alter table iot.sensor_readings
    add column if not exists sensor_type_id smallint;
alter table iot.sensor_readings
    add column if not exists unit_id smallint;

comment on column iot.sensor_readings.tenant_id is
    'metadata.tenants.id of the greenhouse''s tenant; NULL in legacy rows only.';
comment on column iot.sensor_readings.sensor_type_id is 'iot.sensor_types.id; NULL in legacy rows only.';
comment on column iot.sensor_readings.unit_id is 'iot.units.id, the unit of value; NULL in legacy rows only.';
