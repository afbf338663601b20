-- Purpose: the seven tables of the record: who changed what, what was commanded, configured, resolved, how a
--          greenhouse looked, which bulk operations ran, which data are doubtful. No foreign keys: a record outlives
--          what it tells of. V15's triggers fill the first five; `ingest catalog import` and the worker's bulk
--          commands bulk_operation_log; metadata.note_unmapped_names() and the worker data_quality_log.
-- Locks:   none: new tables only. It fails, changing nothing, where a table of one of these names exists.
-- Time:    under 1 s.
-- Undo:    U14__create_staging_tables.sql; it refuses once one of the tables holds a row.

create table metadata.audit_log (
    id bigserial not null,
    table_name varchar(63) not null,
    record_id text not null,
    operation varchar(10) not null,
    old_values jsonb,
    new_values jsonb,
    changed_fields text[],
    changed_by uuid,
    changed_by_username text not null,
    changed_at timestamptz not null default now(),
    change_reason text,
    ip_address inet,
    user_agent text,
    session_id text,
    constraint audit_log_pkey primary key (id),
    constraint audit_log_operation_check check (operation in ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE')),
    constraint audit_log_values_check check (
        case operation
            when 'INSERT' then old_values is null and new_values is not null
            when 'UPDATE' then old_values is not null and new_values is not null
            else old_values is not null and new_values is null
        end
    ),
    constraint audit_log_changed_fields_check check ((changed_fields is not null) = (operation = 'UPDATE'))
);

-- The history of one thing, the latest first.
create index audit_log_record_idx on metadata.audit_log (table_name, record_id, changed_at desc);
-- Everything that happened in a time.
create index audit_log_changed_at_idx on metadata.audit_log (changed_at);
-- Who ever changed max_threshold: changed_fields @> '{max_threshold}'.
create index audit_log_changed_fields_idx on metadata.audit_log using gin (changed_fields);
-- What became of a deleted thing, by what it was called: old_values @> '{"sensor_code": "DHT22-01"}'.
create index audit_log_old_values_idx on metadata.audit_log using gin (old_values jsonb_path_ops);

comment on table metadata.audit_log is
    'Every change of tenants, greenhouses, devices, alerts, users, catalogs and aliases; written by triggers only.';
comment on column metadata.audit_log.id is 'Key; ascending within a transaction.';
comment on column metadata.audit_log.table_name is 'Table in schema metadata.';
comment on column metadata.audit_log.record_id is 'Key of the row as text: UUID, SMALLINT or alias; * for TRUNCATE.';
comment on column metadata.audit_log.operation is 'INSERT, UPDATE, DELETE or TRUNCATE.';
comment on column metadata.audit_log.old_values is
    'The whole row before, password hashes redacted; for TRUNCATE how many rows there were.';
comment on column metadata.audit_log.new_values is 'The whole row after, password hashes redacted.';
comment on column metadata.audit_log.changed_fields is
    'Columns that differ, sorted, without last_seen and updated_at; NULL unless UPDATE.';
comment on column metadata.audit_log.changed_by is 'users.id, from greenhouse.user_id; NULL when nobody said.';
comment on column metadata.audit_log.changed_by_username is
    'greenhouse.username, else the user of changed_by, else the database login.';
comment on column metadata.audit_log.changed_at is 'Begin of the transaction.';
comment on column metadata.audit_log.change_reason is 'greenhouse.reason.';
comment on column metadata.audit_log.ip_address is
    'greenhouse.ip_address, else the address of the database connection; NULL over a socket.';
comment on column metadata.audit_log.user_agent is 'greenhouse.user_agent, else application_name.';
comment on column metadata.audit_log.session_id is 'greenhouse.session_id.';

create table metadata.actuator_command_history (
    id bigserial not null,
    actuator_id uuid not null,
    greenhouse_id uuid not null,
    tenant_id uuid not null,
    actuator_code varchar(50) not null,
    command varchar(20) not null,
    source varchar(10) not null,
    old_state varchar(20),
    new_state varchar(20),
    old_value double precision,
    new_value double precision,
    unit varchar(20),
    commanded_by uuid,
    commanded_by_username text not null,
    commanded_at timestamptz not null default now(),
    reason text,
    session_id text,
    constraint actuator_command_history_pkey primary key (id),
    constraint actuator_command_history_command_check check (
        command in ('SET_STATE', 'SET_VALUE', 'SET_STATE_AND_VALUE')
    ),
    constraint actuator_command_history_source_check check (source in ('USER', 'SYSTEM'))
);

create index actuator_command_history_actuator_idx
    on metadata.actuator_command_history (actuator_id, commanded_at desc);
create index actuator_command_history_greenhouse_idx
    on metadata.actuator_command_history (greenhouse_id, commanded_at desc);

comment on table metadata.actuator_command_history is
    'Every change of an actuator''s state or value; written by a trigger of actuators.';
comment on column metadata.actuator_command_history.id is 'Key.';
comment on column metadata.actuator_command_history.actuator_id is 'actuators.id.';
comment on column metadata.actuator_command_history.greenhouse_id is 'greenhouses.id.';
comment on column metadata.actuator_command_history.tenant_id is 'tenants.id.';
comment on column metadata.actuator_command_history.actuator_code is 'Its code at that time.';
comment on column metadata.actuator_command_history.command is
    'What changed: SET_STATE, SET_VALUE or SET_STATE_AND_VALUE.';
comment on column metadata.actuator_command_history.source is
    'USER when greenhouse.username or greenhouse.user_id was set, else SYSTEM.';
comment on column metadata.actuator_command_history.old_state is 'State before, by name.';
comment on column metadata.actuator_command_history.new_state is 'State after, by name.';
comment on column metadata.actuator_command_history.old_value is 'Value before, in the unit.';
comment on column metadata.actuator_command_history.new_value is 'Value after, in the unit.';
comment on column metadata.actuator_command_history.unit is 'Unit of new_value, its symbol.';
comment on column metadata.actuator_command_history.commanded_by is 'users.id; NULL when nobody said.';
comment on column metadata.actuator_command_history.commanded_by_username is 'As audit_log.changed_by_username.';
comment on column metadata.actuator_command_history.commanded_at is 'Begin of the transaction.';
comment on column metadata.actuator_command_history.reason is 'greenhouse.reason.';
comment on column metadata.actuator_command_history.session_id is 'greenhouse.session_id.';

create table metadata.sensor_configuration_history (
    id bigserial not null,
    sensor_id uuid not null,
    greenhouse_id uuid not null,
    tenant_id uuid not null,
    sensor_code varchar(50) not null,
    change_type varchar(20) not null,
    old_min_threshold numeric(10, 2),
    new_min_threshold numeric(10, 2),
    old_max_threshold numeric(10, 2),
    new_max_threshold numeric(10, 2),
    old_calibration_data jsonb,
    new_calibration_data jsonb,
    old_expected_interval_s integer,
    new_expected_interval_s integer,
    unit varchar(20),
    changed_by uuid,
    changed_by_username text not null,
    changed_at timestamptz not null default now(),
    reason text,
    session_id text,
    constraint sensor_configuration_history_pkey primary key (id),
    constraint sensor_configuration_history_change_type_check check (
        change_type in ('THRESHOLDS', 'CALIBRATION', 'INTERVAL', 'SEVERAL')
    )
);

create index sensor_configuration_history_sensor_idx
    on metadata.sensor_configuration_history (sensor_id, changed_at desc);

comment on table metadata.sensor_configuration_history is
    'Every change of a sensor''s thresholds, calibration or interval; written by a trigger of sensors.';
comment on column metadata.sensor_configuration_history.id is 'Key.';
comment on column metadata.sensor_configuration_history.sensor_id is 'sensors.id.';
comment on column metadata.sensor_configuration_history.greenhouse_id is 'greenhouses.id.';
comment on column metadata.sensor_configuration_history.tenant_id is 'tenants.id.';
comment on column metadata.sensor_configuration_history.sensor_code is 'Its code at that time.';
comment on column metadata.sensor_configuration_history.change_type is
    'What changed: THRESHOLDS, CALIBRATION, INTERVAL or SEVERAL of them.';
comment on column metadata.sensor_configuration_history.old_min_threshold is 'Before; NULL: none, or registered just now.';
comment on column metadata.sensor_configuration_history.new_min_threshold is 'After, in the unit.';
comment on column metadata.sensor_configuration_history.old_max_threshold is 'Before; NULL: none, or registered just now.';
comment on column metadata.sensor_configuration_history.new_max_threshold is 'After, in the unit.';
comment on column metadata.sensor_configuration_history.old_calibration_data is 'Before.';
comment on column metadata.sensor_configuration_history.new_calibration_data is 'After.';
comment on column metadata.sensor_configuration_history.old_expected_interval_s is 'Before, in seconds.';
comment on column metadata.sensor_configuration_history.new_expected_interval_s is 'After, in seconds.';
comment on column metadata.sensor_configuration_history.unit is 'The sensor''s unit after the change, its symbol.';
comment on column metadata.sensor_configuration_history.changed_by is 'users.id; NULL when nobody said.';
comment on column metadata.sensor_configuration_history.changed_by_username is 'As audit_log.changed_by_username.';
comment on column metadata.sensor_configuration_history.changed_at is 'Begin of the transaction.';
comment on column metadata.sensor_configuration_history.reason is 'greenhouse.reason.';
comment on column metadata.sensor_configuration_history.session_id is 'greenhouse.session_id.';

create table metadata.alert_resolution_history (
    id bigserial not null,
    alert_id uuid not null,
    tenant_id uuid not null,
    greenhouse_id uuid not null,
    sensor_id uuid,
    action varchar(10) not null,
    alert_type varchar(50),
    severity varchar(20),
    raised_at timestamptz not null,
    acted_at timestamptz not null,
    open_s double precision,
    acted_by uuid,
    acted_by_username text not null,
    reason text,
    alert jsonb not null,
    constraint alert_resolution_history_pkey primary key (id),
    constraint alert_resolution_history_action_check check (action in ('RESOLVED', 'REOPENED')),
    constraint alert_resolution_history_open_s_check check ((open_s is not null) = (action = 'RESOLVED'))
);

create index alert_resolution_history_alert_idx on metadata.alert_resolution_history (alert_id, acted_at desc);
create index alert_resolution_history_greenhouse_idx
    on metadata.alert_resolution_history (greenhouse_id, acted_at desc);

comment on table metadata.alert_resolution_history is
    'Each time an alert was resolved or opened again; written by a trigger of alerts.';
comment on column metadata.alert_resolution_history.id is 'Key.';
comment on column metadata.alert_resolution_history.alert_id is 'alerts.id.';
comment on column metadata.alert_resolution_history.tenant_id is 'tenants.id.';
comment on column metadata.alert_resolution_history.greenhouse_id is 'greenhouses.id.';
comment on column metadata.alert_resolution_history.sensor_id is 'sensors.id; NULL when no sensor is concerned.';
comment on column metadata.alert_resolution_history.action is 'RESOLVED or REOPENED.';
comment on column metadata.alert_resolution_history.alert_type is 'By name.';
comment on column metadata.alert_resolution_history.severity is 'By name.';
comment on column metadata.alert_resolution_history.raised_at is 'alerts.created_at.';
comment on column metadata.alert_resolution_history.acted_at is 'alerts.resolved_at, else begin of the transaction.';
comment on column metadata.alert_resolution_history.open_s is 'Seconds from raised_at to acted_at; NULL when REOPENED.';
comment on column metadata.alert_resolution_history.acted_by is 'alerts.resolved_by, else greenhouse.user_id.';
comment on column metadata.alert_resolution_history.acted_by_username is
    'Name of acted_by, else as audit_log.changed_by_username.';
comment on column metadata.alert_resolution_history.reason is 'greenhouse.reason.';
comment on column metadata.alert_resolution_history.alert is 'The alert''s whole row after the change.';

create table metadata.greenhouse_snapshot (
    id bigserial not null,
    greenhouse_id uuid not null,
    tenant_id uuid not null,
    greenhouse_code varchar(50) not null,
    snapshot_type varchar(20) not null,
    reason text,
    taken_by uuid,
    taken_by_username text not null,
    taken_at timestamptz not null default now(),
    greenhouse jsonb not null,
    sensors jsonb not null,
    actuators jsonb not null,
    open_alerts jsonb not null,
    sensor_count integer not null,
    actuator_count integer not null,
    open_alert_count integer not null,
    constraint greenhouse_snapshot_pkey primary key (id),
    constraint greenhouse_snapshot_snapshot_type_check check (snapshot_type in ('MANUAL', 'BEFORE_DELETE'))
);

create index greenhouse_snapshot_greenhouse_idx on metadata.greenhouse_snapshot (greenhouse_id, taken_at desc);
-- In which snapshots a sensor is: sensors @> '[{"sensor_code": "DHT22-01"}]'.
create index greenhouse_snapshot_sensors_idx on metadata.greenhouse_snapshot using gin (sensors jsonb_path_ops);

comment on table metadata.greenhouse_snapshot is
    'A greenhouse with all its devices at one moment; written by metadata.take_greenhouse_snapshot() and before a '
    'greenhouse is deleted.';
comment on column metadata.greenhouse_snapshot.id is 'Key.';
comment on column metadata.greenhouse_snapshot.greenhouse_id is 'greenhouses.id.';
comment on column metadata.greenhouse_snapshot.tenant_id is 'tenants.id.';
comment on column metadata.greenhouse_snapshot.greenhouse_code is 'Its code at that time.';
comment on column metadata.greenhouse_snapshot.snapshot_type is 'MANUAL or BEFORE_DELETE.';
comment on column metadata.greenhouse_snapshot.reason is 'As given, else greenhouse.reason.';
comment on column metadata.greenhouse_snapshot.taken_by is 'users.id; NULL when nobody said.';
comment on column metadata.greenhouse_snapshot.taken_by_username is 'As audit_log.changed_by_username.';
comment on column metadata.greenhouse_snapshot.taken_at is 'Begin of the transaction.';
comment on column metadata.greenhouse_snapshot.greenhouse is 'Its row.';
comment on column metadata.greenhouse_snapshot.sensors is
    'Array of the sensors'' rows, by code. Before a deletion they are gone already: audit_log has them.';
comment on column metadata.greenhouse_snapshot.actuators is 'Array of the actuators'' rows, by code.';
comment on column metadata.greenhouse_snapshot.open_alerts is 'Array of the rows of alerts not resolved, the oldest first.';
comment on column metadata.greenhouse_snapshot.sensor_count is 'Length of sensors.';
comment on column metadata.greenhouse_snapshot.actuator_count is 'Length of actuators.';
comment on column metadata.greenhouse_snapshot.open_alert_count is 'Length of open_alerts.';

create table metadata.bulk_operation_log (
    id bigserial not null,
    operation_type varchar(20) not null,
    target_table varchar(63) not null,
    status varchar(10) not null default 'RUNNING',
    started_at timestamptz not null default clock_timestamp(),
    completed_at timestamptz,
    total_records bigint,
    successful_records bigint not null default 0,
    failed_records bigint not null default 0,
    skipped_records bigint not null default 0,
    records_per_second double precision generated always as (
        (successful_records + failed_records + skipped_records)
        / nullif(extract(epoch from completed_at - started_at)::double precision, 0)
    ) stored,
    source_file text,
    error_summary jsonb,
    started_by text not null default session_user,
    constraint bulk_operation_log_pkey primary key (id),
    constraint bulk_operation_log_operation_type_check check (
        operation_type in ('IMPORT', 'NORMALIZE', 'REPLAY', 'PURGE', 'BACKFILL', 'MAINTAIN')
    ),
    constraint bulk_operation_log_status_check check (
        status in ('RUNNING', 'COMPLETED', 'FAILED', 'PARTIAL', 'CANCELLED')
    ),
    constraint bulk_operation_log_completed_at_check check (
        (completed_at is null) = (status = 'RUNNING')
    ),
    constraint bulk_operation_log_records_check check (
        least(total_records, successful_records, failed_records, skipped_records) >= 0
    )
);

create index bulk_operation_log_started_at_idx on metadata.bulk_operation_log (started_at desc);

comment on table metadata.bulk_operation_log is
    'Operations over many rows: written by the command that runs one, when it begins and when it ends.';
comment on column metadata.bulk_operation_log.id is 'Key.';
comment on column metadata.bulk_operation_log.operation_type is 'IMPORT, NORMALIZE, REPLAY, PURGE, BACKFILL or MAINTAIN.';
comment on column metadata.bulk_operation_log.target_table is
    'What is written: catalog, or schema and table; of MAINTAIN the command.';
comment on column metadata.bulk_operation_log.status is
    'RUNNING, COMPLETED, FAILED (nothing was written), PARTIAL (some was) or CANCELLED.';
comment on column metadata.bulk_operation_log.started_at is 'When it began, by the clock.';
comment on column metadata.bulk_operation_log.completed_at is 'When it ended, by the clock; NULL while RUNNING.';
comment on column metadata.bulk_operation_log.total_records is 'How many there are to do; NULL: not known beforehand.';
comment on column metadata.bulk_operation_log.successful_records is 'How many were written.';
comment on column metadata.bulk_operation_log.failed_records is 'How many could not be.';
comment on column metadata.bulk_operation_log.skipped_records is 'How many needed nothing.';
comment on column metadata.bulk_operation_log.records_per_second is
    'Records of all three kinds a second; NULL while RUNNING. Computed.';
comment on column metadata.bulk_operation_log.source_file is 'File read, where there is one.';
comment on column metadata.bulk_operation_log.error_summary is 'Array of what went wrong, the first faults at least.';
comment on column metadata.bulk_operation_log.started_by is
    'Database login that runs it; only the same login may update the row.';

create table metadata.data_quality_log (
    id bigserial not null,
    data_source text not null,
    quality_issue_type varchar(20) not null,
    severity varchar(10) not null,
    greenhouse_id uuid,
    sensor_id uuid,
    tenant_id uuid,
    detected_at timestamptz not null default now(),
    time_range_start timestamptz,
    time_range_end timestamptz,
    affected_records_count bigint,
    description text not null,
    sample_data jsonb,
    status varchar(15) not null default 'OPEN',
    constraint data_quality_log_pkey primary key (id),
    constraint data_quality_log_quality_issue_type_check check (
        quality_issue_type in (
            'UNMAPPED_NAME',
            'MISSING_DATA',
            'OUT_OF_RANGE',
            'SPIKE',
            'DUPLICATE',
            'CONFLICTING_VALUE',
            'LATE_DATA',
            'BAD_TIMESTAMP',
            'OTHER'
        )
    ),
    constraint data_quality_log_severity_check check (severity in ('LOW', 'MEDIUM', 'HIGH', 'CRITICAL')),
    constraint data_quality_log_status_check check (status in ('OPEN', 'INVESTIGATING', 'RESOLVED', 'IGNORED')),
    constraint data_quality_log_time_range_check check (time_range_start <= time_range_end),
    constraint data_quality_log_affected_records_count_check check (affected_records_count >= 0)
);

-- What needs somebody; the few that do, among all that ever did.
create index data_quality_log_open_idx on metadata.data_quality_log (detected_at desc)
    where status in ('OPEN', 'INVESTIGATING');
create index data_quality_log_sensor_idx on metadata.data_quality_log (sensor_id, detected_at desc);
-- Which issues show a value: sample_data @> '{"value": "EXTRACTOR"}'.
create index data_quality_log_sample_data_idx on metadata.data_quality_log using gin (sample_data jsonb_path_ops);
-- The worker's issues have a key, and one open row each, however long they last and however many workers see them.
create unique index data_quality_log_key_idx on metadata.data_quality_log ((sample_data ->> 'key'))
    where status <> 'RESOLVED';

comment on table metadata.data_quality_log is
    'Data somebody should look at, open until RESOLVED or IGNORED; written by metadata.note_unmapped_names() and by '
    'the worker, which adds to an open row what it sees of the same issue later.';
comment on column metadata.data_quality_log.id is 'Key.';
comment on column metadata.data_quality_log.data_source is
    'Table, or table and column, the data are in; the worker''s are in schema iot of the readings'' database.';
comment on column metadata.data_quality_log.quality_issue_type is
    'UNMAPPED_NAME, MISSING_DATA, OUT_OF_RANGE, SPIKE, DUPLICATE, CONFLICTING_VALUE, LATE_DATA, BAD_TIMESTAMP or OTHER.';
comment on column metadata.data_quality_log.severity is
    'LOW, MEDIUM, HIGH or CRITICAL; of what lasts, the gravest so far.';
comment on column metadata.data_quality_log.greenhouse_id is 'greenhouses.id, where one is concerned.';
comment on column metadata.data_quality_log.sensor_id is
    'sensors.id, or the derived id of an unregistered sensor, where one is concerned.';
comment on column metadata.data_quality_log.tenant_id is 'tenants.id, where one is concerned.';
comment on column metadata.data_quality_log.detected_at is 'When it was found first.';
comment on column metadata.data_quality_log.time_range_start is 'Time of the first reading concerned.';
comment on column metadata.data_quality_log.time_range_end is 'Time of the last reading concerned.';
comment on column metadata.data_quality_log.affected_records_count is
    'How many rows or readings so far; of MISSING_DATA, how many did not come in time. NULL: not counted.';
comment on column metadata.data_quality_log.description is 'Text for people: what is wrong, and what to do.';
comment on column metadata.data_quality_log.sample_data is
    'An example, or the key of the issue; the worker''s hold both: key, first, worst, and what the kind has to tell.';
comment on column metadata.data_quality_log.status is
    'OPEN, INVESTIGATING, RESOLVED or IGNORED. Set by people; the worker resolves gaps once readings are back, and '
    'unmapped names once the catalog has them.';

create function metadata.note_unmapped_names() returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    opened bigint;
begin
    update metadata.data_quality_log as q
    set status = 'RESOLVED'
    where q.quality_issue_type = 'UNMAPPED_NAME'
        and q.data_source like 'metadata.%'  -- the worker's are names that gateways publish
        and q.status in ('OPEN', 'INVESTIGATING')
        and not exists (
            select
            from metadata.v_unmapped_names as n
            where q.data_source = format('metadata.%s.%s', n.table_name, n.column_name)
                and q.sample_data = jsonb_build_object('value', n.value, 'mapped_to', n.mapped_to)
        );

    insert into metadata.data_quality_log (
        data_source,
        quality_issue_type,
        severity,
        affected_records_count,
        description,
        sample_data
    )
    select
        format('metadata.%s.%s', n.table_name, n.column_name),
        'UNMAPPED_NAME',
        case n.table_name when 'sensors' then 'HIGH' else 'MEDIUM' end,
        n.rows,
        case
            when n.mapped_to is null
                then format('%L is not in the catalog: add it, or an alias, then metadata.map_names()', n.value)
            else format('%L has the id of %s: correct the one that is wrong', n.value, n.mapped_to)
        end,
        jsonb_build_object('value', n.value, 'mapped_to', n.mapped_to)
    from metadata.v_unmapped_names as n
    where not exists (
        select
        from metadata.data_quality_log as q
        where q.quality_issue_type = 'UNMAPPED_NAME'
            and q.status <> 'RESOLVED'
            and q.data_source = format('metadata.%s.%s', n.table_name, n.column_name)
            and q.sample_data = jsonb_build_object('value', n.value, 'mapped_to', n.mapped_to)
    )
    order by n.table_name, n.column_name, n.value;
    get diagnostics opened = row_count;
    return opened;
end;
$$;

comment on function metadata.note_unmapped_names() is
    'Opens an issue for each name in v_unmapped_names that has none, resolves those of its own whose name is gone, and '
    'returns how many it opened. Ignored ones stay ignored.';

-- What V13 could not move.
select metadata.note_unmapped_names();
