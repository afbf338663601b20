-- Purpose: takes V12 back. Refuses while a catalog holds more than the 62 rows V12 put there.
-- Locks:   ACCESS EXCLUSIVE on the six catalogs; nothing refers to them any more once V13 and V12_1 are undone.
-- Time:    under 1 s.
-- Undo:    V12__create_catalog_tables.sql.

do $$
begin
    if (
        (select count(*) from metadata.units)
        + (select count(*) from metadata.sensor_types)
        + (select count(*) from metadata.actuator_types)
        + (select count(*) from metadata.actuator_states)
        + (select count(*) from metadata.alert_severities)
        + (select count(*) from metadata.alert_types)
    ) > 62 then
        raise exception 'the catalogs hold rows that were added since: undoing would lose them'
            using hint = 'Delete them first if they are not needed.';
    end if;
end;
$$;

drop table metadata.alert_types;
drop table metadata.alert_severities;
drop table metadata.actuator_states;
drop table metadata.actuator_types;
drop table metadata.sensor_types;
drop table metadata.units;
