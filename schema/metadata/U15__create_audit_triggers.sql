-- Purpose: takes V15 back: changes are recorded no longer; what is recorded stays.
-- Locks:   ACCESS EXCLUSIVE on the fourteen audited tables for the moment of dropping the triggers.
-- Time:    under 1 s.
-- Undo:    V15__create_audit_triggers.sql.

drop trigger greenhouses_snapshot_before_delete on metadata.greenhouses;
drop trigger alerts_resolution_history on metadata.alerts;
drop trigger sensors_configuration_history on metadata.sensors;
drop trigger actuators_command_history on metadata.actuators;

do $$
declare
    audit record;
begin
    for audit in
        select t.tgname, c.relname
        from pg_catalog.pg_trigger as t
        join pg_catalog.pg_class as c on c.oid = t.tgrelid
        join pg_catalog.pg_proc as p on p.oid = t.tgfoid
        where p.pronamespace = 'metadata'::regnamespace
            and p.proname in ('record_change', 'record_truncate')
    loop
        execute format('drop trigger %I on metadata.%I', audit.tgname, audit.relname);
    end loop;
end;
$$;

drop function metadata.record_greenhouse_deletion();
drop function metadata.take_greenhouse_snapshot(uuid, text);
drop function metadata.write_greenhouse_snapshot(metadata.greenhouses, text, text);
drop function metadata.record_alert_resolution();
drop function metadata.record_sensor_configuration();
drop function metadata.record_actuator_command();
drop function metadata.record_truncate();
drop function metadata.record_change();
drop function metadata.acting_ip_address();
drop function metadata.acting_setting(text);
drop function metadata.acting_username();
drop function metadata.username_of(uuid);
drop function metadata.acting_user_id();
