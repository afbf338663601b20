-- Purpose: takes V12_1 back. Refuses while there are more aliases than V12_1 put there.
-- Locks:   ACCESS EXCLUSIVE on tenants, greenhouses, sensors, sensor_types and units for the moment of dropping
--          the triggers.
-- Time:    under 1 s.
-- Undo:    V12_1__create_aliases_and_notifications.sql.

do $$
begin
    if (
        (select count(*) from metadata.unit_aliases)
        + (select count(*) from metadata.sensor_type_aliases)
    ) > 322 then
        raise exception 'there are aliases that were added since: undoing would lose them'
            using hint = 'Delete them first if they are not needed.';
    end if;
end;
$$;

drop trigger tenants_notify_catalog_changed on metadata.tenants;
drop trigger greenhouses_notify_catalog_changed on metadata.greenhouses;
drop trigger greenhouses_notify_greenhouse_changed on metadata.greenhouses;
drop trigger sensors_notify_catalog_changed on metadata.sensors;
drop trigger sensors_notify_sensor_changed on metadata.sensors;
drop trigger sensor_types_notify_catalog_changed on metadata.sensor_types;
drop trigger units_notify_catalog_changed on metadata.units;
drop table metadata.unit_aliases;
drop table metadata.sensor_type_aliases;
drop function metadata.notify_sensor_changed();
drop function metadata.notify_greenhouse_changed();
drop function metadata.announce_greenhouse(uuid, name);
drop function metadata.notify_catalog_changed();
