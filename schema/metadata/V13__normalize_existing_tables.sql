-- Purpose: gives sensors, actuators and alerts the catalogs' SMALLINT ids beside their names, and moves what is
--          there: names are compared trimmed and in upper case with the catalog, then with its aliases. A name
--          that is in neither keeps its text and gets no id, and is reported: metadata.v_unmapped_names. Ids that
--          are there already are kept, so the file can be run again on what an earlier run left half done.
-- Locks:   ACCESS EXCLUSIVE on sensors, actuators and alerts until it commits; SHARE ROW EXCLUSIVE on the catalogs.
-- Time:    seconds per 100 000 sensors; up to a minute per million alerts, each of which is written once.
-- Undo:    U13__normalize_existing_tables.sql puts the names back; it refuses where that would lose something.

-- 1. Columns. An existing one of another type would make the ids of the two databases differ silently.

alter table metadata.sensors
    add column if not exists sensor_type_id smallint,
    add column if not exists unit_id smallint,
    add column if not exists expected_interval_s integer;

alter table metadata.actuators
    add column if not exists actuator_type_id smallint,
    add column if not exists unit_id smallint,
    add column if not exists state_id smallint;

alter table metadata.alerts
    add column if not exists alert_type_id smallint,
    add column if not exists severity_id smallint;

do $$
declare
    other text;
begin
    select string_agg(format('%s.%s %s', c.relname, a.attname, format_type(a.atttypid, null)), ', ')
    into other
    from pg_catalog.pg_attribute as a
    join pg_catalog.pg_class as c on c.oid = a.attrelid
    where c.relnamespace = 'metadata'::regnamespace
        and (
            c.relname = 'sensors' and a.attname in ('sensor_type_id', 'unit_id')
            or c.relname = 'actuators' and a.attname in ('actuator_type_id', 'unit_id', 'state_id')
            or c.relname = 'alerts' and a.attname in ('alert_type_id', 'severity_id')
        )
        and a.atttypid <> 'smallint'::regtype;
    if other is not null then
        raise exception 'columns that are to hold the catalogs'' ids have another type: %', other
            using hint = 'alter table … alter column … type smallint, or rename them aside, and run this again.';
    end if;
end;
$$;

comment on column metadata.sensors.sensor_type is
    'Legacy: the type as text (TEMPERATURE, Humedad ...); sensor_type_id counts.';
comment on column metadata.sensors.unit is 'Legacy: the unit as text; unit_id counts.';
comment on column metadata.sensors.sensor_type_id is
    'What it measures; NULL while sensor_type is a name that the catalog lacks.';
comment on column metadata.sensors.unit_id is
    'Unit of its readings and thresholds; NULL: the type''s default, or a name that the catalog lacks.';
comment on column metadata.sensors.expected_interval_s is
    'Seconds between two readings, as configured on the device; NULL: unknown. Completeness and gaps are judged by it.';
comment on column metadata.actuators.actuator_type is
    'Legacy: the type as text (FAN, RELAY ...); actuator_type_id counts.';
comment on column metadata.actuators.current_state is 'Legacy: the state as text (ON, OFF ...); state_id counts.';
comment on column metadata.actuators.unit is 'Legacy: the unit as text; unit_id counts.';
comment on column metadata.actuators.actuator_type_id is
    'What it is; NULL while actuator_type is a name that the catalog lacks.';
comment on column metadata.actuators.unit_id is 'Unit of current_value; NULL: none, or a name that the catalog lacks.';
comment on column metadata.actuators.state_id is
    'State last reported; NULL: none, or a name that the catalog lacks.';
comment on column metadata.alerts.alert_type is
    'Legacy: the type as text (THRESHOLD_EXCEEDED ...); alert_type_id counts.';
comment on column metadata.alerts.severity is 'Legacy: the severity as text (INFO ... CRITICAL); severity_id counts.';
comment on column metadata.alerts.alert_type_id is
    'What it is about; NULL while alert_type is a name that the catalog lacks.';
comment on column metadata.alerts.severity_id is
    'How urgent it is; NULL: the type''s default severity, or a name that the catalog lacks.';

alter table metadata.sensors
    drop constraint if exists sensors_expected_interval_s_check,
    -- A week at most, as in `ingest catalog add sensor`: beyond it nothing would ever count as a gap.
    add constraint sensors_expected_interval_s_check check (expected_interval_s between 1 and 604800);

-- 2. One rule for what a written name means, here and for every later writer.

create or replace function metadata.name_key(written text) returns text
language sql immutable parallel safe
return nullif(upper(regexp_replace(written, '^[\s\u00a0]+|[\s\u00a0]+$', '', 'g')), '');

comment on function metadata.name_key(text) is
    'The form in which names are compared: trimmed, upper case; NULL for a blank one.';

create or replace function metadata.sensor_type_id_of(written text) returns smallint
language sql stable
return coalesce(
    (
        select min(t.id)
        from metadata.sensor_types as t
        where metadata.name_key(t.name) = metadata.name_key(written)
        having count(*) = 1
    ),
    (
        select a.sensor_type_id
        from metadata.sensor_type_aliases as a
        where a.alias = metadata.name_key(written)
    )
);

comment on function metadata.sensor_type_id_of(text) is
    'The sensor type that a written name or alias means; NULL when it means none, or several.';

create or replace function metadata.unit_id_of(written text) returns smallint
language sql stable
return coalesce(
    -- The exact symbol first: case tells some units apart (mW, MW).
    (
        select u.id
        from metadata.units as u
        where u.symbol = regexp_replace(written, '^[\s\u00a0]+|[\s\u00a0]+$', '', 'g')
    ),
    (
        select a.unit_id
        from metadata.unit_aliases as a
        where a.alias = metadata.name_key(written)
    ),
    (
        select min(u.id)
        from metadata.units as u
        where metadata.name_key(u.symbol) = metadata.name_key(written)
        having count(*) = 1
    )
);

comment on function metadata.unit_id_of(text) is
    'The unit that a written symbol or alias means; NULL when it means none, or several.';

create or replace function metadata.actuator_type_id_of(written text) returns smallint
language sql stable
return (
    select min(t.id)
    from metadata.actuator_types as t
    where metadata.name_key(t.name) = metadata.name_key(written)
    having count(*) = 1
);

comment on function metadata.actuator_type_id_of(text) is
    'The actuator type that a written name means; NULL when it means none. EXTRACTOR is no RELAY.';

create or replace function metadata.actuator_state_id_of(written text) returns smallint
language sql stable
return (
    select min(s.id)
    from metadata.actuator_states as s
    where metadata.name_key(s.name) = metadata.name_key(written)
    having count(*) = 1
);

comment on function metadata.actuator_state_id_of(text) is
    'The actuator state that a written name means; NULL when it means none.';

create or replace function metadata.alert_type_id_of(written text) returns smallint
language sql stable
return (
    select min(t.id)
    from metadata.alert_types as t
    where metadata.name_key(t.name) = metadata.name_key(written)
    having count(*) = 1
);

comment on function metadata.alert_type_id_of(text) is 'The alert type that a written name means; NULL when it means none.';

create or replace function metadata.alert_severity_id_of(written text) returns smallint
language sql stable
return (
    select min(s.id)
    from metadata.alert_severities as s
    where metadata.name_key(s.name) = metadata.name_key(written)
    having count(*) = 1
);

comment on function metadata.alert_severity_id_of(text) is
    'The severity that a written name means; NULL when it means none.';

-- 3. What is there is moved. Each distinct name is looked up once, and rows that get nothing are not written.

create or replace function metadata.map_names() returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    mapped bigint;
    total bigint := 0;
begin
    update metadata.sensors as s
    set sensor_type_id = m.id
    from (
        select sensor_type as written, metadata.sensor_type_id_of(sensor_type) as id
        from metadata.sensors
        where sensor_type_id is null
        group by sensor_type
    ) as m
    where s.sensor_type_id is null and s.sensor_type = m.written and m.id is not null;
    get diagnostics mapped = row_count;
    total := total + mapped;

    update metadata.sensors as s
    set unit_id = m.id
    from (
        select unit as written, metadata.unit_id_of(unit) as id
        from metadata.sensors
        where unit_id is null
        group by unit
    ) as m
    where s.unit_id is null and s.unit = m.written and m.id is not null;
    get diagnostics mapped = row_count;
    total := total + mapped;

    update metadata.actuators as a
    set actuator_type_id = m.id
    from (
        select actuator_type as written, metadata.actuator_type_id_of(actuator_type) as id
        from metadata.actuators
        where actuator_type_id is null
        group by actuator_type
    ) as m
    where a.actuator_type_id is null and a.actuator_type = m.written and m.id is not null;
    get diagnostics mapped = row_count;
    total := total + mapped;

    update metadata.actuators as a
    set unit_id = m.id
    from (
        select unit as written, metadata.unit_id_of(unit) as id
        from metadata.actuators
        where unit_id is null
        group by unit
    ) as m
    where a.unit_id is null and a.unit = m.written and m.id is not null;
    get diagnostics mapped = row_count;
    total := total + mapped;

    update metadata.actuators as a
    set state_id = m.id
    from (
        select current_state as written, metadata.actuator_state_id_of(current_state) as id
        from metadata.actuators
        where state_id is null
        group by current_state
    ) as m
    where a.state_id is null and a.current_state = m.written and m.id is not null;
    get diagnostics mapped = row_count;
    total := total + mapped;

    -- Both at once: alerts are the one table of the three that may hold millions of rows.
    update metadata.alerts as a
    set alert_type_id = coalesce(a.alert_type_id, m.alert_type_id),
        severity_id = coalesce(a.severity_id, m.severity_id)
    from (
        select
            alert_type,
            severity,
            metadata.alert_type_id_of(alert_type) as alert_type_id,
            metadata.alert_severity_id_of(severity) as severity_id
        from metadata.alerts
        where alert_type_id is null or severity_id is null
        group by alert_type, severity
    ) as m
    where a.alert_type is not distinct from m.alert_type
        and a.severity is not distinct from m.severity
        and (
            a.alert_type_id is null and m.alert_type_id is not null
            or a.severity_id is null and m.severity_id is not null
        );
    get diagnostics mapped = row_count;
    return total + mapped;
end;
$$;

comment on function metadata.map_names() is
    'Gives ids to rows whose names the catalog knows by now, and returns how many updates that took; for use after '
    'a catalog row or an alias was added. Ids that are there are kept.';

select metadata.map_names();

-- 4. Only catalog rows can be meant, and none that is in use can be deleted.

alter table metadata.sensors
    drop constraint if exists sensors_sensor_type_id_fkey,
    drop constraint if exists sensors_unit_id_fkey,
    add constraint sensors_sensor_type_id_fkey foreign key (sensor_type_id)
        references metadata.sensor_types (id) on delete restrict,
    add constraint sensors_unit_id_fkey foreign key (unit_id)
        references metadata.units (id) on delete restrict;

alter table metadata.actuators
    drop constraint if exists actuators_actuator_type_id_fkey,
    drop constraint if exists actuators_unit_id_fkey,
    drop constraint if exists actuators_state_id_fkey,
    add constraint actuators_actuator_type_id_fkey foreign key (actuator_type_id)
        references metadata.actuator_types (id) on delete restrict,
    add constraint actuators_unit_id_fkey foreign key (unit_id)
        references metadata.units (id) on delete restrict,
    add constraint actuators_state_id_fkey foreign key (state_id)
        references metadata.actuator_states (id) on delete restrict;

alter table metadata.alerts
    drop constraint if exists alerts_alert_type_id_fkey,
    drop constraint if exists alerts_severity_id_fkey,
    add constraint alerts_alert_type_id_fkey foreign key (alert_type_id)
        references metadata.alert_types (id) on delete restrict,
    add constraint alerts_severity_id_fkey foreign key (severity_id)
        references metadata.alert_severities (id) on delete restrict;

-- 5. Applications that still write names only get the ids filled. `security definer`, because such an application's
--    role has no grant on the catalogs. The rule: an id given is left alone, also when it contradicts the name; a
--    name that changed, or has no id yet, is looked up; a name set to NULL leaves the id.

create or replace function metadata.fill_sensor_ids() returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if metadata.name_key(new.sensor_type) is not null
        and (
            tg_op = 'INSERT' and new.sensor_type_id is null
            or tg_op = 'UPDATE'
                and new.sensor_type_id is not distinct from old.sensor_type_id
                and (new.sensor_type_id is null or new.sensor_type is distinct from old.sensor_type)
        )
    then
        new.sensor_type_id := metadata.sensor_type_id_of(new.sensor_type);
    end if;
    if metadata.name_key(new.unit) is not null
        and (
            tg_op = 'INSERT' and new.unit_id is null
            or tg_op = 'UPDATE'
                and new.unit_id is not distinct from old.unit_id
                and (new.unit_id is null or new.unit is distinct from old.unit)
        )
    then
        new.unit_id := metadata.unit_id_of(new.unit);
    end if;
    return new;
end;
$$;

comment on function metadata.fill_sensor_ids() is 'Row trigger of sensors: gives ids to the names a legacy writer wrote.';

create or replace function metadata.fill_actuator_ids() returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if metadata.name_key(new.actuator_type) is not null
        and (
            tg_op = 'INSERT' and new.actuator_type_id is null
            or tg_op = 'UPDATE'
                and new.actuator_type_id is not distinct from old.actuator_type_id
                and (new.actuator_type_id is null or new.actuator_type is distinct from old.actuator_type)
        )
    then
        new.actuator_type_id := metadata.actuator_type_id_of(new.actuator_type);
    end if;
    if metadata.name_key(new.unit) is not null
        and (
            tg_op = 'INSERT' and new.unit_id is null
            or tg_op = 'UPDATE'
                and new.unit_id is not distinct from old.unit_id
                and (new.unit_id is null or new.unit is distinct from old.unit)
        )
    then
        new.unit_id := metadata.unit_id_of(new.unit);
    end if;
    if metadata.name_key(new.current_state) is not null
        and (
            tg_op = 'INSERT' and new.state_id is null
            or tg_op = 'UPDATE'
                and new.state_id is not distinct from old.state_id
                and (new.state_id is null or new.current_state is distinct from old.current_state)
        )
    then
        new.state_id := metadata.actuator_state_id_of(new.current_state);
    end if;
    return new;
end;
$$;

comment on function metadata.fill_actuator_ids() is
    'Row trigger of actuators: gives ids to the names a legacy writer wrote.';

create or replace function metadata.fill_alert_ids() returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if metadata.name_key(new.alert_type) is not null
        and (
            tg_op = 'INSERT' and new.alert_type_id is null
            or tg_op = 'UPDATE'
                and new.alert_type_id is not distinct from old.alert_type_id
                and (new.alert_type_id is null or new.alert_type is distinct from old.alert_type)
        )
    then
        new.alert_type_id := metadata.alert_type_id_of(new.alert_type);
    end if;
    if metadata.name_key(new.severity) is not null
        and (
            tg_op = 'INSERT' and new.severity_id is null
            or tg_op = 'UPDATE'
                and new.severity_id is not distinct from old.severity_id
                and (new.severity_id is null or new.severity is distinct from old.severity)
        )
    then
        new.severity_id := metadata.alert_severity_id_of(new.severity);
    end if;
    return new;
end;
$$;

comment on function metadata.fill_alert_ids() is 'Row trigger of alerts: gives ids to the names a legacy writer wrote.';

create or replace trigger sensors_fill_ids
    before insert or update of sensor_type, sensor_type_id, unit, unit_id on metadata.sensors
    for each row execute function metadata.fill_sensor_ids();

create or replace trigger actuators_fill_ids
    before insert or update of actuator_type, actuator_type_id, unit, unit_id, current_state, state_id
    on metadata.actuators
    for each row execute function metadata.fill_actuator_ids();

create or replace trigger alerts_fill_ids
    before insert or update of alert_type, alert_type_id, severity, severity_id on metadata.alerts
    for each row execute function metadata.fill_alert_ids();

-- They run with the rights of their owner: nobody attaches them to a table of their own.
revoke execute on function
    metadata.fill_sensor_ids(),
    metadata.fill_actuator_ids(),
    metadata.fill_alert_ids()
from public;

-- 6. The announcement of V12_1, with the columns that the worker reads now.

create or replace trigger sensors_notify_sensor_changed
    after insert or delete or update of
        id,
        greenhouse_id,
        sensor_code,
        device_id,
        sensor_type,
        sensor_type_id,
        mqtt_field_name,
        unit,
        unit_id,
        expected_interval_s,
        is_active
    on metadata.sensors
    for each row execute function metadata.notify_sensor_changed();

-- 7. Names for people and dashboards, whichever column has them. The views read with the rights of who asks.

drop view if exists metadata.v_sensors_denormalized;

create view metadata.v_sensors_denormalized
with (security_invoker = true) as
select
    s.id,
    s.tenant_id,
    n.name as tenant_name,
    s.greenhouse_id,
    g.greenhouse_code,
    s.sensor_code,
    s.device_id,
    s.name,
    s.mqtt_field_name,
    s.sensor_type_id,
    coalesce(t.name, s.sensor_type) as sensor_type,
    s.unit_id,
    coalesce(u.symbol, s.unit, d.symbol) as unit,
    t.min_value,
    t.max_value,
    s.expected_interval_s,
    s.min_threshold,
    s.max_threshold,
    s.calibration_data,
    s.is_active,
    s.last_seen,
    s.created_at,
    s.updated_at
from metadata.sensors as s
join metadata.tenants as n on n.id = s.tenant_id
join metadata.greenhouses as g on g.id = s.greenhouse_id
left join metadata.sensor_types as t on t.id = s.sensor_type_id
left join metadata.units as u on u.id = s.unit_id
left join metadata.units as d on d.id = t.default_unit_id;

comment on view metadata.v_sensors_denormalized is 'Sensors with the names of what their ids mean.';
comment on column metadata.v_sensors_denormalized.id is 'sensors.id.';
comment on column metadata.v_sensors_denormalized.tenant_id is 'Owner.';
comment on column metadata.v_sensors_denormalized.tenant_name is 'tenants.name.';
comment on column metadata.v_sensors_denormalized.greenhouse_id is 'Where it is.';
comment on column metadata.v_sensors_denormalized.greenhouse_code is 'greenhouses.greenhouse_code.';
comment on column metadata.v_sensors_denormalized.sensor_code is 'Device code.';
comment on column metadata.v_sensors_denormalized.device_id is 'Second name payloads may use.';
comment on column metadata.v_sensors_denormalized.name is 'Display name.';
comment on column metadata.v_sensors_denormalized.mqtt_field_name is 'Label in flat maps.';
comment on column metadata.v_sensors_denormalized.sensor_type_id is 'NULL: sensor_type is a name that the catalog lacks.';
comment on column metadata.v_sensors_denormalized.sensor_type is 'Name of the type; as written where the catalog lacks it.';
comment on column metadata.v_sensors_denormalized.unit_id is 'NULL: unit is the type''s default, or not in the catalog.';
comment on column metadata.v_sensors_denormalized.unit is
    'Symbol of the unit; as written where the catalog lacks it; the type''s default where none is written.';
comment on column metadata.v_sensors_denormalized.min_value is 'Least believable value, in the type''s default unit.';
comment on column metadata.v_sensors_denormalized.max_value is 'Greatest believable value, in the type''s default unit.';
comment on column metadata.v_sensors_denormalized.expected_interval_s is 'Seconds between two readings.';
comment on column metadata.v_sensors_denormalized.min_threshold is 'Alert below this value, in the sensor''s unit.';
comment on column metadata.v_sensors_denormalized.max_threshold is 'Alert above this value, in the sensor''s unit.';
comment on column metadata.v_sensors_denormalized.calibration_data is 'Calibration record.';
comment on column metadata.v_sensors_denormalized.is_active is 'False: its readings are rejected.';
comment on column metadata.v_sensors_denormalized.last_seen is 'Time of the latest reading known.';
comment on column metadata.v_sensors_denormalized.created_at is 'When the row was made.';
comment on column metadata.v_sensors_denormalized.updated_at is 'When the row was last changed.';

drop view if exists metadata.v_actuators_denormalized;

create view metadata.v_actuators_denormalized
with (security_invoker = true) as
select
    a.id,
    a.tenant_id,
    n.name as tenant_name,
    a.greenhouse_id,
    g.greenhouse_code,
    a.actuator_code,
    a.device_id,
    a.actuator_type_id,
    coalesce(t.name, a.actuator_type) as actuator_type,
    a.state_id,
    coalesce(s.name, a.current_state) as current_state,
    a.current_value,
    a.unit_id,
    coalesce(u.symbol, a.unit) as unit,
    a.is_active,
    a.created_at,
    a.updated_at
from metadata.actuators as a
join metadata.tenants as n on n.id = a.tenant_id
join metadata.greenhouses as g on g.id = a.greenhouse_id
left join metadata.actuator_types as t on t.id = a.actuator_type_id
left join metadata.actuator_states as s on s.id = a.state_id
left join metadata.units as u on u.id = a.unit_id;

comment on view metadata.v_actuators_denormalized is 'Actuators with the names of what their ids mean.';
comment on column metadata.v_actuators_denormalized.id is 'actuators.id.';
comment on column metadata.v_actuators_denormalized.tenant_id is 'Owner.';
comment on column metadata.v_actuators_denormalized.tenant_name is 'tenants.name.';
comment on column metadata.v_actuators_denormalized.greenhouse_id is 'Where it is.';
comment on column metadata.v_actuators_denormalized.greenhouse_code is 'greenhouses.greenhouse_code.';
comment on column metadata.v_actuators_denormalized.actuator_code is 'Device code.';
comment on column metadata.v_actuators_denormalized.device_id is 'Serial number or the code of the board.';
comment on column metadata.v_actuators_denormalized.actuator_type_id is
    'NULL: actuator_type is a name that the catalog lacks.';
comment on column metadata.v_actuators_denormalized.actuator_type is
    'Name of the type; as written where the catalog lacks it.';
comment on column metadata.v_actuators_denormalized.state_id is 'NULL: current_state is none, or not in the catalog.';
comment on column metadata.v_actuators_denormalized.current_state is
    'Name of the state; as written where the catalog lacks it.';
comment on column metadata.v_actuators_denormalized.current_value is 'Set value, in the unit.';
comment on column metadata.v_actuators_denormalized.unit_id is 'NULL: unit is none, or not in the catalog.';
comment on column metadata.v_actuators_denormalized.unit is 'Symbol of the unit; as written where the catalog lacks it.';
comment on column metadata.v_actuators_denormalized.is_active is 'False: out of service.';
comment on column metadata.v_actuators_denormalized.created_at is 'When the row was made.';
comment on column metadata.v_actuators_denormalized.updated_at is 'When the row was last changed.';

drop view if exists metadata.v_alerts_denormalized;

create view metadata.v_alerts_denormalized
with (security_invoker = true) as
select
    a.id,
    a.tenant_id,
    n.name as tenant_name,
    a.greenhouse_id,
    g.greenhouse_code,
    a.sensor_id,
    s.sensor_code,
    a.alert_type_id,
    coalesce(t.name, a.alert_type) as alert_type,
    t.category,
    a.severity_id,
    coalesce(v.name, a.severity, d.name) as severity,
    coalesce(v.level, case when a.severity is null then d.level end) as severity_level,
    a.message,
    a.alert_data,
    a.is_resolved,
    a.resolved_at,
    a.resolved_by,
    a.created_at,
    a.updated_at
from metadata.alerts as a
join metadata.tenants as n on n.id = a.tenant_id
join metadata.greenhouses as g on g.id = a.greenhouse_id
left join metadata.sensors as s on s.id = a.sensor_id
left join metadata.alert_types as t on t.id = a.alert_type_id
left join metadata.alert_severities as v on v.id = a.severity_id
left join metadata.alert_severities as d on d.id = t.default_severity_id;

comment on view metadata.v_alerts_denormalized is 'Alerts with the names of what their ids mean.';
comment on column metadata.v_alerts_denormalized.id is 'alerts.id.';
comment on column metadata.v_alerts_denormalized.tenant_id is 'Owner.';
comment on column metadata.v_alerts_denormalized.tenant_name is 'tenants.name.';
comment on column metadata.v_alerts_denormalized.greenhouse_id is 'Where it happened.';
comment on column metadata.v_alerts_denormalized.greenhouse_code is 'greenhouses.greenhouse_code.';
comment on column metadata.v_alerts_denormalized.sensor_id is 'The sensor concerned.';
comment on column metadata.v_alerts_denormalized.sensor_code is 'sensors.sensor_code.';
comment on column metadata.v_alerts_denormalized.alert_type_id is 'NULL: alert_type is a name that the catalog lacks.';
comment on column metadata.v_alerts_denormalized.alert_type is 'Name of the type; as written where the catalog lacks it.';
comment on column metadata.v_alerts_denormalized.category is 'SENSOR, ACTUATOR, SYSTEM, MAINTENANCE or DATA.';
comment on column metadata.v_alerts_denormalized.severity_id is
    'NULL: severity is the type''s default, or not in the catalog.';
comment on column metadata.v_alerts_denormalized.severity is
    'Name of the severity; as written where the catalog lacks it; the type''s default where none is written.';
comment on column metadata.v_alerts_denormalized.severity_level is
    'Rank: greater is more urgent; NULL for a severity that the catalog lacks.';
comment on column metadata.v_alerts_denormalized.message is 'Text for people.';
comment on column metadata.v_alerts_denormalized.alert_data is 'Values behind the alert.';
comment on column metadata.v_alerts_denormalized.is_resolved is 'True once somebody dealt with it.';
comment on column metadata.v_alerts_denormalized.resolved_at is 'When it was resolved.';
comment on column metadata.v_alerts_denormalized.resolved_by is 'users.id of who resolved it.';
comment on column metadata.v_alerts_denormalized.created_at is 'When it was raised.';
comment on column metadata.v_alerts_denormalized.updated_at is 'When the row was last changed.';

-- 8. What could not be moved, and ids that say something else than the name beside them (an EXTRACTOR that an
--    earlier attempt had made a RELAY). Rows are counted before names are looked up: alerts may be
--    millions, and `offset 0` keeps the planner from looking up each row's name before it counts (89 s per million).

drop view if exists metadata.v_unmapped_names;

create view metadata.v_unmapped_names
with (security_invoker = true) as
select
    'sensors'::text as table_name,
    'sensor_type'::text as column_name,
    w.written::text as value,
    m.name::text as mapped_to,
    w.rows
from (
    select sensor_type as written, sensor_type_id as id, count(*) as rows
    from metadata.sensors
    group by sensor_type, sensor_type_id
    offset 0
) as w
left join metadata.sensor_types as m on m.id = w.id
where metadata.name_key(w.written) is not null
    and (w.id is null or w.id is distinct from metadata.sensor_type_id_of(w.written))

union all

select 'sensors', 'unit', w.written, m.symbol, w.rows
from (
    select unit as written, unit_id as id, count(*) as rows
    from metadata.sensors
    group by unit, unit_id
    offset 0
) as w
left join metadata.units as m on m.id = w.id
where metadata.name_key(w.written) is not null
    and (w.id is null or w.id is distinct from metadata.unit_id_of(w.written))

union all

select 'actuators', 'actuator_type', w.written, m.name, w.rows
from (
    select actuator_type as written, actuator_type_id as id, count(*) as rows
    from metadata.actuators
    group by actuator_type, actuator_type_id
    offset 0
) as w
left join metadata.actuator_types as m on m.id = w.id
where metadata.name_key(w.written) is not null
    and (w.id is null or w.id is distinct from metadata.actuator_type_id_of(w.written))

union all

select 'actuators', 'unit', w.written, m.symbol, w.rows
from (
    select unit as written, unit_id as id, count(*) as rows
    from metadata.actuators
    group by unit, unit_id
    offset 0
) as w
left join metadata.units as m on m.id = w.id
where metadata.name_key(w.written) is not null
    and (w.id is null or w.id is distinct from metadata.unit_id_of(w.written))

union all

select 'actuators', 'current_state', w.written, m.name, w.rows
from (
    select current_state as written, state_id as id, count(*) as rows
    from metadata.actuators
    group by current_state, state_id
    offset 0
) as w
left join metadata.actuator_states as m on m.id = w.id
where metadata.name_key(w.written) is not null
    and (w.id is null or w.id is distinct from metadata.actuator_state_id_of(w.written))

union all

select 'alerts', 'alert_type', w.written, m.name, w.rows
from (
    select alert_type as written, alert_type_id as id, count(*) as rows
    from metadata.alerts
    group by alert_type, alert_type_id
    offset 0
) as w
left join metadata.alert_types as m on m.id = w.id
where metadata.name_key(w.written) is not null
    and (w.id is null or w.id is distinct from metadata.alert_type_id_of(w.written))

union all

select 'alerts', 'severity', w.written, m.name, w.rows
from (
    select severity as written, severity_id as id, count(*) as rows
    from metadata.alerts
    group by severity, severity_id
    offset 0
) as w
left join metadata.alert_severities as m on m.id = w.id
where metadata.name_key(w.written) is not null
    and (w.id is null or w.id is distinct from metadata.alert_severity_id_of(w.written));

comment on view metadata.v_unmapped_names is
    'Names without an id, or with an id that says something else. Add the catalog row or the alias that is missing, '
    'then: select metadata.map_names().';
comment on column metadata.v_unmapped_names.table_name is 'Table in schema metadata.';
comment on column metadata.v_unmapped_names.column_name is 'Column that holds the name.';
comment on column metadata.v_unmapped_names.value is 'The name as it is written.';
comment on column metadata.v_unmapped_names.mapped_to is 'What the id beside it says; NULL: it has no id.';
comment on column metadata.v_unmapped_names.rows is 'How many rows.';

do $$
declare
    unmapped record;
begin
    for unmapped in
        select *
        from metadata.v_unmapped_names
        order by table_name, column_name, value
    loop
        raise notice 'metadata.%.%: % row(s) with %, %', unmapped.table_name, unmapped.column_name, unmapped.rows,
            quote_literal(unmapped.value), coalesce('whose id says ' || unmapped.mapped_to, 'left without an id');
    end loop;
end;
$$;
