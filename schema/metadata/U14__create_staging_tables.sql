-- Purpose: takes V14 back. Refuses while one of the seven tables holds a row: it is nowhere else.
-- Locks:   ACCESS EXCLUSIVE on the seven tables.
-- Time:    under 1 s.
-- Undo:    V14__create_staging_tables.sql.

do $$
declare
    filled text;
begin
    select string_agg(name, ', ')
    into filled
    from (
        select 'audit_log' as name where exists (select from metadata.audit_log)
        union all
        select 'actuator_command_history' where exists (select from metadata.actuator_command_history)
        union all
        select 'sensor_configuration_history' where exists (select from metadata.sensor_configuration_history)
        union all
        select 'alert_resolution_history' where exists (select from metadata.alert_resolution_history)
        union all
        select 'greenhouse_snapshot' where exists (select from metadata.greenhouse_snapshot)
        union all
        select 'bulk_operation_log' where exists (select from metadata.bulk_operation_log)
        union all
        select 'data_quality_log' where exists (select from metadata.data_quality_log)
    ) as tables;
    if filled is not null then
        raise exception 'there are records in %: undoing would lose them', filled
            using hint = 'Dump the tables and empty them first if the records are not needed here.';
    end if;
end;
$$;

drop function metadata.note_unmapped_names();
drop table metadata.data_quality_log;
drop table metadata.bulk_operation_log;
drop table metadata.greenhouse_snapshot;
drop table metadata.alert_resolution_history;
drop table metadata.sensor_configuration_history;
drop table metadata.actuator_command_history;
drop table metadata.audit_log;
