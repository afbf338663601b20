-- Purpose: takes V13 back: writes the names that only the ids say, then drops the ids. Refuses while a name would
--          stay that says something else than its id, and while a sensor has an expected interval.
-- Locks:   ACCESS EXCLUSIVE on sensors, actuators and alerts until it commits.
-- Time:    under 1 s; up to a minute per million alerts that have no names.
-- Undo:    V13__normalize_existing_tables.sql.

do $$
declare
    lost text;
begin
    select string_agg(format('%s.%s %L (id: %s, %s rows)', table_name, column_name, value, mapped_to, rows), '; ')
    into lost
    from metadata.v_unmapped_names
    where mapped_to is not null;
    if lost is not null then
        raise exception 'names that say something else than their ids: undoing would lose the ids: %', lost
            using hint = 'Set the name to NULL where the id is right (it is then written from the id), or the id to NULL.';
    end if;
    if exists (select from metadata.sensors where expected_interval_s is not null) then
        raise exception 'sensors have an expected interval: undoing would lose it'
            using hint = 'Set expected_interval_s to NULL first if it is not needed.';
    end if;
end;
$$;

drop view metadata.v_unmapped_names;
drop view metadata.v_alerts_denormalized;
drop view metadata.v_actuators_denormalized;
drop view metadata.v_sensors_denormalized;
drop trigger alerts_fill_ids on metadata.alerts;
drop trigger actuators_fill_ids on metadata.actuators;
drop trigger sensors_fill_ids on metadata.sensors;

update metadata.sensors as s
set sensor_type = t.name
from metadata.sensor_types as t
where t.id = s.sensor_type_id and metadata.name_key(s.sensor_type) is null;

update metadata.sensors as s
set unit = u.symbol
from metadata.units as u
where u.id = s.unit_id and metadata.name_key(s.unit) is null;

update metadata.actuators as a
set actuator_type = t.name
from metadata.actuator_types as t
where t.id = a.actuator_type_id and metadata.name_key(a.actuator_type) is null;

update metadata.actuators as a
set unit = u.symbol
from metadata.units as u
where u.id = a.unit_id and metadata.name_key(a.unit) is null;

update metadata.actuators as a
set current_state = s.name
from metadata.actuator_states as s
where s.id = a.state_id and metadata.name_key(a.current_state) is null;

update metadata.alerts as a
set alert_type = t.name
from metadata.alert_types as t
where t.id = a.alert_type_id and metadata.name_key(a.alert_type) is null;

update metadata.alerts as a
set severity = s.name
from metadata.alert_severities as s
where s.id = a.severity_id and metadata.name_key(a.severity) is null;

-- As V12_1 made it.
create or replace trigger sensors_notify_sensor_changed
    after insert or delete or update of
        id,
        greenhouse_id,
        sensor_code,
        device_id,
        sensor_type,
        mqtt_field_name,
        unit,
        is_active
    on metadata.sensors
    for each row execute function metadata.notify_sensor_changed();

alter table metadata.alerts
    drop column alert_type_id,
    drop column severity_id;

alter table metadata.actuators
    drop column actuator_type_id,
    drop column unit_id,
    drop column state_id;

alter table metadata.sensors
    drop column sensor_type_id,
    drop column unit_id,
    drop column expected_interval_s;

drop function metadata.fill_alert_ids();
drop function metadata.fill_actuator_ids();
drop function metadata.fill_sensor_ids();
drop function metadata.map_names();
drop function metadata.alert_severity_id_of(text);
drop function metadata.alert_type_id_of(text);
drop function metadata.actuator_state_id_of(text);
drop function metadata.actuator_type_id_of(text);
drop function metadata.unit_id_of(text);
drop function metadata.sensor_type_id_of(text);
drop function metadata.name_key(text);
