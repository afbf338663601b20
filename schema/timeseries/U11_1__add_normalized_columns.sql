-- Purpose: takes V11_1 back. Refuses once a reading carries an id, since its name stands nowhere else.
-- Locks:   ACCESS EXCLUSIVE on iot.sensor_readings; reads it once to look for ids.
-- Time:    seconds a million rows for the look, under 1 s for the rest.
-- Undo:    V11_1__add_normalized_columns.sql.

do $$
begin
    if exists (
        select
        from iot.sensor_readings
        where tenant_id is not null
            or sensor_type_id is not null
            or unit_id is not null
    ) then
        raise exception 'there are readings with ids: undoing would lose what they measured'
            using hint = 'Restore a dump taken before the migration instead.';
    end if;
end;
$$;

alter table iot.sensor_readings
    drop column tenant_id;
alter table iot.sensor_readings
    drop column sensor_type_id;
alter table iot.sensor_readings
    drop column unit_id;
drop table iot.sensor_intervals;
drop table iot.sensor_types;
drop table iot.units;
