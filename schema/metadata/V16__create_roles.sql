-- Purpose: who may do what with schema metadata: four group roles without login, made for the whole server if they are
--          not there; give them to logins: grant greenhouse_worker to ingest. Each grant below is there because a
--          statement of that role needs it.
--          worker    reads what the catalog snapshot holds; adds to data_quality_log and bulk_operation_log, goes on
--                    with the workers' own issues, and ends the bulk operations that its own login began.
--          operator  `ingest catalog`: adds and changes tenants, devices, catalogs; resolves alerts; reads the record.
--                    Deletes nothing.
--          reader    dashboards: reads all but password hashes and audit_log, which holds addresses and sessions.
--          migrator  makes objects in the schema, and records them; owns the schema where deploy/prepare-database.sql
--                    made it, and no table, as in schema iot: what a login made is that login's.
--          No default privileges: a later table is closed until its migration says who needs it, and
--          `ingest schema verify` misses a grant that is gone.
-- Locks:   none that waits for readers or writers.
-- Time:    under 1 s.
-- Undo:    U16__create_roles.sql; the roles themselves stay, other databases of the server may use them.

do $$
declare
    name text;
begin
    foreach name in array array[
        'greenhouse_migrator', 'greenhouse_worker', 'greenhouse_operator', 'greenhouse_reader'
    ] loop
        if not exists (select from pg_catalog.pg_roles where rolname = name) then
            begin
                execute format('create role %I nologin', name);
            exception
                when duplicate_object or unique_violation then
                    null;  -- the other database's migration was faster
                when insufficient_privilege then
                    raise exception 'role % is not there, and % may not create it', name, current_user
                        using errcode = 'insufficient_privilege',
                            hint = 'As an administrator: create role greenhouse_migrator nologin; create role '
                                'greenhouse_worker nologin; create role greenhouse_operator nologin; create role '
                                'greenhouse_reader nologin; then migrate again.';
            end;
        end if;
        if (select rolsuper or rolbypassrls from pg_catalog.pg_roles where rolname = name) then
            raise exception 'role % is a superuser or passes row security: the grants would mean nothing', name
                using hint = format('alter role %I nosuperuser nobypassrls, then migrate again.', name);
        end if;
    end loop;
    -- Everybody may connect, unless this installation took that from PUBLIC.
    foreach name in array array['greenhouse_worker', 'greenhouse_operator', 'greenhouse_reader'] loop
        if not has_database_privilege(name, current_database(), 'connect') then
            execute format('grant connect on database %I to %I', current_database(), name);
        end if;
    end loop;
    -- Made by our runner before the first file; not there where Flyway runs the files. The worker and the operator
    -- compare versions, the migrator records them.
    if to_regclass('metadata.schema_history') is not null then
        grant select on metadata.schema_history to greenhouse_worker, greenhouse_operator;
        grant select, insert on metadata.schema_history to greenhouse_migrator;
    end if;
end;
$$;

grant usage on schema metadata to
    greenhouse_migrator,
    greenhouse_worker,
    greenhouse_operator,
    greenhouse_reader;
grant create on schema metadata to greenhouse_migrator;

-- The worker: the seven tables of the catalog snapshot.
grant select on
    metadata.tenants,
    metadata.greenhouses,
    metadata.sensors,
    metadata.units,
    metadata.sensor_types,
    metadata.unit_aliases,
    metadata.sensor_type_aliases
to greenhouse_worker;

grant insert on
    metadata.data_quality_log,
    metadata.bulk_operation_log
to greenhouse_worker;
grant usage on sequence
    metadata.data_quality_log_id_seq,
    metadata.bulk_operation_log_id_seq
to greenhouse_worker;
-- What finding the open row of an issue, adding to it and resolving it read and change: workers' rows have a key.
-- `excluded.column` counts as reading the column.
grant select (
    data_source,
    quality_issue_type,
    severity,
    greenhouse_id,
    sensor_id,
    tenant_id,
    time_range_start,
    time_range_end,
    affected_records_count,
    description,
    sample_data,
    status
) on metadata.data_quality_log to greenhouse_worker;
grant update (
    data_source,
    severity,
    tenant_id,
    time_range_start,
    time_range_end,
    affected_records_count,
    description,
    sample_data,
    status
) on metadata.data_quality_log to greenhouse_worker;

alter table metadata.data_quality_log enable row level security;
create policy data_quality_log_read on metadata.data_quality_log
    for select
    using (true);
create policy data_quality_log_open on metadata.data_quality_log
    for insert
    with check (true);
create policy data_quality_log_go_on on metadata.data_quality_log
    for update
    to greenhouse_worker
    using (sample_data ? 'key')
    with check (sample_data ? 'key');
create policy data_quality_log_decide on metadata.data_quality_log
    for update
    to greenhouse_operator
    using (true)
    with check (true);

-- `returning id`, and `where id = …` of the update that ends it.
grant select (id) on metadata.bulk_operation_log to greenhouse_worker;
grant update (
    status,
    completed_at,
    total_records,
    successful_records,
    failed_records,
    skipped_records,
    error_summary
) on metadata.bulk_operation_log to greenhouse_worker, greenhouse_operator;

alter table metadata.bulk_operation_log enable row level security;
create policy bulk_operation_log_read on metadata.bulk_operation_log
    for select
    using (true);
create policy bulk_operation_log_begin on metadata.bulk_operation_log
    for insert
    with check (started_by = session_user);
create policy bulk_operation_log_end on metadata.bulk_operation_log
    for update
    using (started_by = session_user)
    with check (started_by = session_user);

-- The operator: `ingest catalog list`, `add` and `import`, and what is done in SQL by hand.
grant select, insert, update on
    metadata.tenants,
    metadata.greenhouses,
    metadata.sensors,
    metadata.actuators,
    metadata.units,
    metadata.sensor_types,
    metadata.actuator_types,
    metadata.actuator_states,
    metadata.alert_severities,
    metadata.alert_types,
    metadata.unit_aliases,
    metadata.sensor_type_aliases
to greenhouse_operator;
grant usage on sequence
    metadata.units_id_seq,
    metadata.sensor_types_id_seq,
    metadata.actuator_types_id_seq,
    metadata.actuator_states_id_seq,
    metadata.alert_severities_id_seq,
    metadata.alert_types_id_seq,
    metadata.bulk_operation_log_id_seq,
    metadata.data_quality_log_id_seq
to greenhouse_operator;

grant select on metadata.alerts to greenhouse_operator;
-- Resolving; and the ids, which map_names() fills.
grant update (
    alert_type_id,
    severity_id,
    is_resolved,
    resolved_at,
    resolved_by,
    updated_at
) on metadata.alerts to greenhouse_operator;

grant select, insert on
    metadata.data_quality_log,
    metadata.bulk_operation_log
to greenhouse_operator;
grant update (status) on metadata.data_quality_log to greenhouse_operator;

-- Written by triggers and functions only, with the rights of their owner.
grant select on
    metadata.audit_log,
    metadata.actuator_command_history,
    metadata.sensor_configuration_history,
    metadata.alert_resolution_history,
    metadata.greenhouse_snapshot
to greenhouse_operator;
grant execute on function metadata.take_greenhouse_snapshot(uuid, text) to greenhouse_operator;

-- The reader.
grant select on
    metadata.tenants,
    metadata.greenhouses,
    metadata.sensors,
    metadata.actuators,
    metadata.alerts,
    metadata.units,
    metadata.sensor_types,
    metadata.actuator_types,
    metadata.actuator_states,
    metadata.alert_severities,
    metadata.alert_types,
    metadata.unit_aliases,
    metadata.sensor_type_aliases,
    metadata.actuator_command_history,
    metadata.sensor_configuration_history,
    metadata.alert_resolution_history,
    metadata.greenhouse_snapshot,
    metadata.data_quality_log,
    metadata.bulk_operation_log
to greenhouse_reader;

-- All but password_hash.
grant select (
    id,
    tenant_id,
    username,
    email,
    role,
    is_active,
    created_at,
    updated_at
) on metadata.users to greenhouse_operator, greenhouse_reader;

grant select on
    metadata.v_sensors_denormalized,
    metadata.v_actuators_denormalized,
    metadata.v_alerts_denormalized,
    metadata.v_unmapped_names
to greenhouse_operator, greenhouse_reader;
