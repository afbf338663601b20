-- Purpose: what makes the hypertable small and quick: compression, one unique index that is idempotency key and
--          dashboard index at once, the policies, and the view that shows names in place of ids. On a live database
--          writers go on while the index is built, chunk by chunk.
-- Locks:   SHARE, then ACCESS EXCLUSIVE, on iot.sensor_readings for a moment each. SHARE UPDATE EXCLUSIVE on a chunk
--          while its index is built: readers and writers go on.
-- Time:    under 1 s on an empty table; on live data 1.5 s a million rows that are not compressed, and as long as the
--          oldest open transaction lasts.
-- Undo:    U14__optimize_sensor_readings.sql; TimescaleDB refuses it while a chunk is compressed.
-- transaction: none

-- What is in the way is found out before anything is changed. `if not exists` below asks for the name of the index
-- alone, and under another index of that name readings would be stored twice.
do $$
begin
    if exists (
        select
        from pg_class as c
        left join pg_index as i on i.indexrelid = c.oid
        where c.oid = to_regclass('iot.sensor_readings_key')
            and (
                i.indrelid is distinct from to_regclass('iot.sensor_readings')
                or not i.indisunique
                or pg_get_indexdef(c.oid) not like '%(greenhouse_id, sensor_type_id, "time" DESC, sensor_id)'
            )
    ) then
        raise exception 'iot.sensor_readings_key is in the way: it is not the idempotency key of the readings'
            using hint = 'Rename or drop it, then migrate again.';
    end if;
    if exists (
        select
        from pg_class as c
        where c.oid = to_regclass('iot.v_sensor_readings_denormalized')
            and c.relkind <> 'v'
    ) then
        raise exception 'iot.v_sensor_readings_denormalized is in the way: it is no view'
            using hint = 'Rename or drop it, then migrate again.';
    end if;
end;
$$;

-- segmentby: each segment is one greenhouse, tenant and type of a day, which is what dashboards ask for; 50 sensors
-- at one reading in 10 s make 432 000 rows a day, 432 full batches of 1 000. A segment a sensor would hold
-- 8 640 rows, 9 batches, for six times the segments. Measured: 222 bytes a row before, 9.6 after.
-- orderby: sensor_id after time, so that the unique index below is checked within few batches.
-- timescaledb: begin
alter table iot.sensor_readings set (
    timescaledb.enable_columnstore,
    timescaledb.segmentby = 'greenhouse_id, tenant_id, sensor_type_id',
    timescaledb.orderby = 'time desc, sensor_id'
);
-- timescaledb: end

-- The idempotency key: a reading sent again with its time meets it and is absorbed. Rows whose sensor_id is NULL
-- (legacy only) are never equal to one another, nor are those without ids: two legacy rows of one time and sensor do
-- not stop this; `ingest normalize` deals with them.
-- On the hypertable only: chunks made from now on have it too, and those that are there get it below. Built on all of
-- them at once it would stop every writer, for 10.6 s at 4.8 million rows; TimescaleDB refuses `concurrently` for a
-- hypertable, and takes it for a chunk.
create unique index if not exists sensor_readings_key
    on only iot.sensor_readings (
        greenhouse_id,
        sensor_type_id,
        time desc,
        sensor_id
    );

-- For each chunk that lacks it: what an interrupted build has left behind is dropped, then it is built. TimescaleDB
-- knows a chunk's index as the hypertable's by its definition, so that dropping, reordering by and renaming work.
-- A chunk of less than 1 MB (10 000 rows, built in 15 ms) is not worth two waits for every open transaction.
-- Whoever is no superuser needs CREATE on the schema of the chunks for it (deploy/prepare-database.sql).
-- timescaledb: begin
-- each row: a statement to run
select s.statement
from pg_inherits as h
join pg_class as c on c.oid = h.inhrelid and c.relkind = 'r'
join pg_namespace as n on n.oid = c.relnamespace
cross join lateral (
    select
        i.indisvalid as is_valid,
        pg_get_indexdef(i.indexrelid) as definition,
        i.indexrelid::regclass as name
    from pg_index as i
    join pg_class as x on x.oid = i.indexrelid
    where i.indrelid = c.oid
        and x.relname = c.relname || '_sensor_readings_key'
    union all
    select null, null, null
    order by 1 nulls last
    limit 1
) as found
cross join lateral (
    values
        (1, case when not found.is_valid then format('drop index %s', found.name) end),
        (2, format(
            'create unique index %s %I on %I.%I (greenhouse_id, sensor_type_id, time desc, sensor_id)',
            case when pg_relation_size(c.oid) >= 1048576 then 'concurrently' end,
            c.relname || '_sensor_readings_key',
            n.nspname,
            c.relname
        ))
) as s (place, statement)
where h.inhparent = 'iot.sensor_readings'::regclass
    and found.is_valid is not true
    and s.statement is not null
order by c.oid, s.place;
-- timescaledb: end

comment on index iot.sensor_readings_key is
    'Idempotency key of a reading, and the index of the dashboards: one greenhouse, one type, latest first.';

-- After 3 days: gateways that buffered through an outage deliver within that, and rows landing in a compressed
-- chunk cost (48 000 a second against 305 000). Replaces a policy of any other age.
-- timescaledb: begin
call remove_columnstore_policy('iot.sensor_readings', if_exists => true);
call add_columnstore_policy('iot.sensor_readings', after => interval '3 days');
-- timescaledb: end

-- Puts each chunk in the order of the key once it is no longer written (the two latest are left alone), so that a
-- day of one greenhouse and type is read from neighbouring pages until it is compressed.
-- timescaledb: begin
select remove_reorder_policy('iot.sensor_readings', if_exists => true);
select add_reorder_policy('iot.sensor_readings', 'sensor_readings_key');
-- timescaledb: end

create or replace view iot.v_sensor_readings_denormalized as
select
    r.time,
    r.greenhouse_id,
    r.tenant_id,
    r.sensor_id,
    r.sensor_type_id,
    coalesce(r.sensor_type, t.name) as sensor_type,
    r.unit_id,
    coalesce(r.unit, u.symbol) as unit,
    r.value,
    r.metadata
from iot.sensor_readings as r
left join iot.sensor_types as t on t.id = r.sensor_type_id
left join iot.units as u on u.id = r.unit_id;

comment on view iot.v_sensor_readings_denormalized is
    'Readings with names: the text of legacy rows as it is, else the name the id stands for.';
comment on column iot.v_sensor_readings_denormalized.time is 'When it was measured.';
comment on column iot.v_sensor_readings_denormalized.greenhouse_id is 'metadata.greenhouses.id.';
comment on column iot.v_sensor_readings_denormalized.tenant_id is 'metadata.tenants.id.';
comment on column iot.v_sensor_readings_denormalized.sensor_id is 'Sensor, registered or not.';
comment on column iot.v_sensor_readings_denormalized.sensor_type_id is 'iot.sensor_types.id.';
comment on column iot.v_sensor_readings_denormalized.sensor_type is 'Name of the type.';
comment on column iot.v_sensor_readings_denormalized.unit_id is 'iot.units.id.';
comment on column iot.v_sensor_readings_denormalized.unit is 'Symbol of the unit of value.';
comment on column iot.v_sensor_readings_denormalized.value is 'The measurement, in its unit.';
comment on column iot.v_sensor_readings_denormalized.metadata is 'What else the payload said of the reading.';
