-- Purpose: fills the record: audit_log from fourteen tables, and the histories of actuators, sensors, alerts and
--          greenhouses. An application says who acts, in its transaction:
--              set local greenhouse.user_id = '<users.id>'         set local greenhouse.username = '<name>'
--              set local greenhouse.reason = '<why>'               set local greenhouse.session_id = '<its session>'
--              set local greenhouse.ip_address = '<of its client>' set local greenhouse.user_agent = '<of its client>'
--          each optional; else the database login counts. What an application says is believed, not checked.
--          The functions are `security definer`: who changes a row needs no grant on the record, and so cannot forge it.
-- Locks:   SHARE ROW EXCLUSIVE on the fourteen tables for the moment of creating the triggers.
-- Time:    under 1 s. Afterwards 0.13 ms of CPU a changed row; 0.01 ms where only last_seen and updated_at change, which
--          calls no function.
-- Undo:    U15__create_audit_triggers.sql; what is recorded stays.

-- 1. Who acts.

create function metadata.acting_user_id() returns uuid
language sql stable
return case
    -- Malformed is unknown: an audit setting never stops a write.
    when current_setting('greenhouse.user_id', true)
        ~ '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$'
        then current_setting('greenhouse.user_id', true)::uuid
end;

comment on function metadata.acting_user_id() is 'greenhouse.user_id of this transaction or session; NULL when it is no UUID.';

create function metadata.username_of(user_id uuid) returns text
language sql stable
return (
    select u.username
    from metadata.users as u
    where u.id = user_id
);

comment on function metadata.username_of(uuid) is 'Sign-in name of a user; NULL when there is none.';

create function metadata.acting_username() returns text
language sql stable
return coalesce(
    nullif(current_setting('greenhouse.username', true), ''),
    metadata.username_of(metadata.acting_user_id()),
    -- Not current_user, which in a `security definer` function is its owner.
    session_user
);

comment on function metadata.acting_username() is
    'greenhouse.username, else the name of greenhouse.user_id, else the database login.';

create function metadata.acting_setting(setting text) returns text
language sql stable
return nullif(current_setting('greenhouse.' || setting, true), '');

comment on function metadata.acting_setting(text) is 'greenhouse.<setting>; NULL when it is not set.';

create function metadata.acting_ip_address() returns inet
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if metadata.acting_setting('ip_address') is not null then
        begin
            return metadata.acting_setting('ip_address')::inet;
        exception
            when invalid_text_representation then
                null;
        end;
    end if;
    return inet_client_addr();
end;
$$;

comment on function metadata.acting_ip_address() is
    'greenhouse.ip_address, else the address of the database connection; NULL over a socket.';

-- 2. audit_log.

create function metadata.record_change() returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    key_column constant text := tg_argv[0];
    old_row jsonb;
    new_row jsonb;
    fields text[];
begin
    if tg_op <> 'INSERT' then
        old_row := to_jsonb(old);
    end if;
    if tg_op <> 'DELETE' then
        new_row := to_jsonb(new);
    end if;
    if tg_op = 'UPDATE' then
        select array_agg(field.key order by field.key)
        into fields
        from jsonb_each(new_row) as field
        where field.value is distinct from old_row -> field.key
            and field.key not in ('last_seen', 'updated_at');
    end if;
    -- After the comparison: that a password changed is recorded, neither hash is.
    if old_row ? 'password_hash' then
        old_row := old_row || '{"password_hash": "[redacted]"}';
    end if;
    if new_row ? 'password_hash' then
        new_row := new_row || '{"password_hash": "[redacted]"}';
    end if;
    insert into metadata.audit_log (
        table_name,
        record_id,
        operation,
        old_values,
        new_values,
        changed_fields,
        changed_by,
        changed_by_username,
        change_reason,
        ip_address,
        user_agent,
        session_id
    ) values (
        tg_table_name,
        -- A changed key: the record goes on under the old one, and new_values has the new one.
        coalesce(old_row, new_row) ->> key_column,
        tg_op,
        old_row,
        new_row,
        fields,
        metadata.acting_user_id(),
        metadata.acting_username(),
        metadata.acting_setting('reason'),
        metadata.acting_ip_address(),
        coalesce(metadata.acting_setting('user_agent'), nullif(current_setting('application_name'), '')),
        metadata.acting_setting('session_id')
    );
    return null;
end;
$$;

comment on function metadata.record_change() is
    'Row trigger: writes the change to audit_log. Its argument is the name of the key column.';

create function metadata.record_truncate() returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    emptied bigint;
begin
    execute format('select count(*) from metadata.%I', tg_table_name) into emptied;
    if emptied = 0 then
        return null;
    end if;
    insert into metadata.audit_log (
        table_name,
        record_id,
        operation,
        old_values,
        changed_by,
        changed_by_username,
        change_reason,
        ip_address,
        user_agent,
        session_id
    ) values (
        tg_table_name,
        '*',
        tg_op,
        jsonb_build_object('rows', emptied),
        metadata.acting_user_id(),
        metadata.acting_username(),
        metadata.acting_setting('reason'),
        metadata.acting_ip_address(),
        coalesce(metadata.acting_setting('user_agent'), nullif(current_setting('application_name'), '')),
        metadata.acting_setting('session_id')
    );
    return null;
end;
$$;

comment on function metadata.record_truncate() is
    'Statement trigger, before: writes to audit_log that a table is emptied, and of how many rows.';

-- Two row triggers a table, because only an update has both rows to compare: the condition spares the call of the
-- function for the updates that change nothing, or only what changes with each reading.
do $$
declare
    audited record;
begin
    for audited in
        select *
        from (
            values
                ('tenants', 'id'),
                ('greenhouses', 'id'),
                ('sensors', 'id'),
                ('actuators', 'id'),
                ('alerts', 'id'),
                ('users', 'id'),
                ('units', 'id'),
                ('sensor_types', 'id'),
                ('actuator_types', 'id'),
                ('actuator_states', 'id'),
                ('alert_severities', 'id'),
                ('alert_types', 'id'),
                ('unit_aliases', 'alias'),
                ('sensor_type_aliases', 'alias')
        ) as tables (table_name, key_column)
    loop
        execute format(
            'create trigger %I after insert or delete on metadata.%I '
            'for each row execute function metadata.record_change(%L)',
            audited.table_name || '_audit', audited.table_name, audited.key_column
        );
        execute format(
            'create trigger %I after update on metadata.%I for each row '
            'when ((to_jsonb(old) - array[''last_seen'', ''updated_at'']) '
            'is distinct from (to_jsonb(new) - array[''last_seen'', ''updated_at''])) '
            'execute function metadata.record_change(%L)',
            audited.table_name || '_audit_update', audited.table_name, audited.key_column
        );
        execute format(
            'create trigger %I before truncate on metadata.%I '
            'for each statement execute function metadata.record_truncate()',
            audited.table_name || '_audit_truncate', audited.table_name
        );
    end loop;
end;
$$;

-- 3. Actuators: what was commanded.

create function metadata.record_actuator_command() returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    old_state constant text := coalesce(
        (select s.name from metadata.actuator_states as s where s.id = old.state_id), old.current_state
    );
    new_state constant text := coalesce(
        (select s.name from metadata.actuator_states as s where s.id = new.state_id), new.current_state
    );
    state_changed constant boolean := old_state is distinct from new_state;
    value_changed constant boolean := old.current_value is distinct from new.current_value;
begin
    if not state_changed and not value_changed then
        return null;
    end if;
    insert into metadata.actuator_command_history (
        actuator_id,
        greenhouse_id,
        tenant_id,
        actuator_code,
        command,
        source,
        old_state,
        new_state,
        old_value,
        new_value,
        unit,
        commanded_by,
        commanded_by_username,
        reason,
        session_id
    ) values (
        new.id,
        new.greenhouse_id,
        new.tenant_id,
        new.actuator_code,
        case
            when state_changed and value_changed then 'SET_STATE_AND_VALUE'
            when state_changed then 'SET_STATE'
            else 'SET_VALUE'
        end,
        case
            when metadata.acting_user_id() is null and metadata.acting_setting('username') is null then 'SYSTEM'
            else 'USER'
        end,
        old_state,
        new_state,
        old.current_value,
        new.current_value,
        coalesce((select u.symbol from metadata.units as u where u.id = new.unit_id), new.unit),
        metadata.acting_user_id(),
        metadata.acting_username(),
        metadata.acting_setting('reason'),
        metadata.acting_setting('session_id')
    );
    return null;
end;
$$;

comment on function metadata.record_actuator_command() is
    'Row trigger of actuators: a changed state or value goes to actuator_command_history.';

create trigger actuators_command_history
    after update on metadata.actuators
    for each row
    when (
        old.state_id is distinct from new.state_id
        or old.current_state is distinct from new.current_state
        or old.current_value is distinct from new.current_value
    )
    execute function metadata.record_actuator_command();

-- 4. Sensors: how they were configured. A sensor registered with a configuration begins its history with it.

create function metadata.record_sensor_configuration() returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    before metadata.sensors;
    thresholds_changed boolean;
    calibration_changed boolean;
    interval_changed boolean;
begin
    if tg_op = 'UPDATE' then
        before := old;
    end if;
    thresholds_changed := before.min_threshold is distinct from new.min_threshold
        or before.max_threshold is distinct from new.max_threshold;
    calibration_changed := before.calibration_data is distinct from new.calibration_data;
    interval_changed := before.expected_interval_s is distinct from new.expected_interval_s;
    if not thresholds_changed and not calibration_changed and not interval_changed then
        return null;
    end if;
    insert into metadata.sensor_configuration_history (
        sensor_id,
        greenhouse_id,
        tenant_id,
        sensor_code,
        change_type,
        old_min_threshold,
        new_min_threshold,
        old_max_threshold,
        new_max_threshold,
        old_calibration_data,
        new_calibration_data,
        old_expected_interval_s,
        new_expected_interval_s,
        unit,
        changed_by,
        changed_by_username,
        reason,
        session_id
    ) values (
        new.id,
        new.greenhouse_id,
        new.tenant_id,
        new.sensor_code,
        case
            when thresholds_changed::integer + calibration_changed::integer + interval_changed::integer > 1
                then 'SEVERAL'
            when thresholds_changed then 'THRESHOLDS'
            when calibration_changed then 'CALIBRATION'
            else 'INTERVAL'
        end,
        before.min_threshold,
        new.min_threshold,
        before.max_threshold,
        new.max_threshold,
        before.calibration_data,
        new.calibration_data,
        before.expected_interval_s,
        new.expected_interval_s,
        coalesce((select u.symbol from metadata.units as u where u.id = new.unit_id), new.unit),
        metadata.acting_user_id(),
        metadata.acting_username(),
        metadata.acting_setting('reason'),
        metadata.acting_setting('session_id')
    );
    return null;
end;
$$;

comment on function metadata.record_sensor_configuration() is
    'Row trigger of sensors: changed thresholds, calibration or interval go to sensor_configuration_history.';

create trigger sensors_configuration_history
    after insert or update of min_threshold, max_threshold, calibration_data, expected_interval_s
    on metadata.sensors
    for each row execute function metadata.record_sensor_configuration();

-- 5. Alerts: when they were dealt with, and by whom. One that is inserted resolved was never open here.

create function metadata.record_alert_resolution() returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    resolved constant boolean := new.is_resolved;
    acted_at constant timestamptz := case when resolved then coalesce(new.resolved_at, now()) else now() end;
    acted_by constant uuid := coalesce(case when resolved then new.resolved_by end, metadata.acting_user_id());
begin
    insert into metadata.alert_resolution_history (
        alert_id,
        tenant_id,
        greenhouse_id,
        sensor_id,
        action,
        alert_type,
        severity,
        raised_at,
        acted_at,
        open_s,
        acted_by,
        acted_by_username,
        reason,
        alert
    ) values (
        new.id,
        new.tenant_id,
        new.greenhouse_id,
        new.sensor_id,
        case when resolved then 'RESOLVED' else 'REOPENED' end,
        coalesce((select t.name from metadata.alert_types as t where t.id = new.alert_type_id), new.alert_type),
        coalesce((select s.name from metadata.alert_severities as s where s.id = new.severity_id), new.severity),
        new.created_at,
        acted_at,
        case when resolved then extract(epoch from acted_at - new.created_at) end,
        acted_by,
        coalesce(metadata.username_of(acted_by), metadata.acting_username()),
        metadata.acting_setting('reason'),
        to_jsonb(new)
    );
    return null;
end;
$$;

comment on function metadata.record_alert_resolution() is
    'Row trigger of alerts: resolving and reopening go to alert_resolution_history.';

create trigger alerts_resolution_history
    after update on metadata.alerts
    for each row
    when (old.is_resolved is distinct from new.is_resolved)
    execute function metadata.record_alert_resolution();

-- 6. Greenhouses: how one looked.

create function metadata.write_greenhouse_snapshot(greenhouse metadata.greenhouses, snapshot_type text, reason text)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    sensors constant jsonb := (
        select coalesce(jsonb_agg(to_jsonb(s) order by s.sensor_code), '[]')
        from metadata.sensors as s
        where s.greenhouse_id = greenhouse.id
    );
    actuators constant jsonb := (
        select coalesce(jsonb_agg(to_jsonb(a) order by a.actuator_code), '[]')
        from metadata.actuators as a
        where a.greenhouse_id = greenhouse.id
    );
    open_alerts constant jsonb := (
        select coalesce(jsonb_agg(to_jsonb(a) order by a.created_at), '[]')
        from metadata.alerts as a
        where a.greenhouse_id = greenhouse.id and not a.is_resolved
    );
    snapshot_id bigint;
begin
    insert into metadata.greenhouse_snapshot (
        greenhouse_id,
        tenant_id,
        greenhouse_code,
        snapshot_type,
        reason,
        taken_by,
        taken_by_username,
        greenhouse,
        sensors,
        actuators,
        open_alerts,
        sensor_count,
        actuator_count,
        open_alert_count
    ) values (
        greenhouse.id,
        greenhouse.tenant_id,
        greenhouse.greenhouse_code,
        snapshot_type,
        coalesce(reason, metadata.acting_setting('reason')),
        metadata.acting_user_id(),
        metadata.acting_username(),
        to_jsonb(greenhouse),
        sensors,
        actuators,
        open_alerts,
        jsonb_array_length(sensors),
        jsonb_array_length(actuators),
        jsonb_array_length(open_alerts)
    )
    returning id into snapshot_id;
    return snapshot_id;
end;
$$;

comment on function metadata.write_greenhouse_snapshot(metadata.greenhouses, text, text) is
    'Writes a row of greenhouse_snapshot and returns its id; called by the two functions below.';

create function metadata.take_greenhouse_snapshot(greenhouse_id uuid, reason text default null) returns bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    greenhouse metadata.greenhouses;
begin
    select g.*
    into greenhouse
    from metadata.greenhouses as g
    where g.id = take_greenhouse_snapshot.greenhouse_id;
    if not found then
        raise exception 'there is no greenhouse %', greenhouse_id
            using errcode = 'no_data_found', hint = 'ingest catalog list greenhouses shows the ids.';
    end if;
    return metadata.write_greenhouse_snapshot(greenhouse, 'MANUAL', reason);
end;
$$;

comment on function metadata.take_greenhouse_snapshot(uuid, text) is
    'Records how a greenhouse, its devices and open alerts are now; returns greenhouse_snapshot.id.';

create function metadata.record_greenhouse_deletion() returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform metadata.write_greenhouse_snapshot(old, 'BEFORE_DELETE', null);
    return old;
end;
$$;

comment on function metadata.record_greenhouse_deletion() is
    'Row trigger of greenhouses, before: the last snapshot of one that is deleted.';

create trigger greenhouses_snapshot_before_delete
    before delete on metadata.greenhouses
    for each row execute function metadata.record_greenhouse_deletion();

-- Everybody may execute a new function, and attach a trigger function to a temporary table of their own: these would
-- write the record with the rights of their owner. The triggers above need no such privilege to fire.
revoke execute on function
    metadata.record_change(),
    metadata.record_truncate(),
    metadata.record_actuator_command(),
    metadata.record_sensor_configuration(),
    metadata.record_alert_resolution(),
    metadata.record_greenhouse_deletion(),
    metadata.take_greenhouse_snapshot(uuid, text)
from public;
