-- Purpose: the tables the greenhouse platform has always had, in their legacy form (types, units and states
--          as text). Creates them on a new database and leaves those of a live one as they are.
-- Locks:   none on existing tables; `create index if not exists` takes SHARE on a live table whose index is
--          missing (writers wait).
-- Time:    under 1 s on a new database; on a live one a few seconds per million rows of a missing index.
-- Undo:    none: dropping these tables loses the registry. Restore a dump instead.

-- `create schema if not exists` would ask for CREATE on the database even where the schema is there.
do $$
begin
    if to_regnamespace('metadata') is null then
        create schema metadata;
    end if;
end;
$$;

comment on schema metadata is
    'Who and what publishes readings: tenants, greenhouses, devices, the catalogs that give names their ids, audit.';

create table if not exists metadata.tenants (
    id uuid not null default gen_random_uuid(),
    name varchar(100) not null,
    email varchar(255),
    company_name varchar(200),
    mqtt_topic_prefix varchar(20),
    is_active boolean not null default true,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint tenants_pkey primary key (id),
    constraint tenants_name_key unique (name),
    constraint tenants_mqtt_topic_prefix_key unique (mqtt_topic_prefix),
    constraint tenants_mqtt_topic_prefix_check check (mqtt_topic_prefix ~ '^[A-Z0-9_]{1,20}$')
);

comment on table metadata.tenants is 'A customer: owns greenhouses, and the first level of its MQTT topics.';
comment on column metadata.tenants.id is 'Key; also iot.sensor_readings.tenant_id.';
comment on column metadata.tenants.name is 'Display name, unique.';
comment on column metadata.tenants.email is 'Contact address.';
comment on column metadata.tenants.company_name is 'Legal name.';
comment on column metadata.tenants.mqtt_topic_prefix is
    'Second level of the topic GREENHOUSE/{prefix}; NULL when the tenant publishes no flat maps.';
comment on column metadata.tenants.is_active is 'False: its readings are rejected as inactive.';
comment on column metadata.tenants.created_at is 'When the row was made.';
comment on column metadata.tenants.updated_at is 'When the row was last changed; set by the writer.';

create table if not exists metadata.greenhouses (
    id uuid not null default gen_random_uuid(),
    tenant_id uuid not null,
    name varchar(100) not null,
    greenhouse_code varchar(50) not null,
    mqtt_topic varchar(255),
    timezone varchar(50) not null default 'Europe/Madrid',
    is_active boolean not null default true,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint greenhouses_pkey primary key (id),
    constraint greenhouses_tenant_id_greenhouse_code_key unique (tenant_id, greenhouse_code),
    constraint greenhouses_tenant_id_fkey foreign key (tenant_id)
        references metadata.tenants (id) on delete restrict
);

comment on table metadata.greenhouses is 'A greenhouse of a tenant.';
comment on column metadata.greenhouses.id is 'Key; also iot.sensor_readings.greenhouse_id.';
comment on column metadata.greenhouses.tenant_id is 'Owner.';
comment on column metadata.greenhouses.name is 'Display name.';
comment on column metadata.greenhouses.greenhouse_code is
    'Short code used in topics and labels (01, A1); unique within the tenant.';
comment on column metadata.greenhouses.mqtt_topic is
    'Topic the gateway is configured to publish to; information only.';
comment on column metadata.greenhouses.timezone is
    'IANA name of its local time, for showing times; the summaries'' days are UTC.';
comment on column metadata.greenhouses.is_active is 'False: its readings are rejected as inactive.';
comment on column metadata.greenhouses.created_at is 'When the row was made.';
comment on column metadata.greenhouses.updated_at is 'When the row was last changed; set by the writer.';

create table if not exists metadata.sensors (
    id uuid not null default gen_random_uuid(),
    greenhouse_id uuid not null,
    tenant_id uuid not null,
    sensor_code varchar(50) not null,
    device_id varchar(100),
    name varchar(100),
    sensor_type varchar(50),
    mqtt_field_name varchar(100),
    unit varchar(20),
    min_threshold numeric(10, 2),
    max_threshold numeric(10, 2),
    calibration_data jsonb,
    is_active boolean not null default true,
    last_seen timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint sensors_pkey primary key (id),
    constraint sensors_greenhouse_id_sensor_code_key unique (greenhouse_id, sensor_code),
    constraint sensors_greenhouse_id_mqtt_field_name_key unique (greenhouse_id, mqtt_field_name),
    constraint sensors_greenhouse_id_fkey foreign key (greenhouse_id)
        references metadata.greenhouses (id) on delete restrict,
    constraint sensors_tenant_id_fkey foreign key (tenant_id)
        references metadata.tenants (id) on delete restrict
);

comment on table metadata.sensors is 'A registered measuring point of a greenhouse.';
comment on column metadata.sensors.id is 'Key; also iot.sensor_readings.sensor_id.';
comment on column metadata.sensors.greenhouse_id is 'Where it is.';
comment on column metadata.sensors.tenant_id is 'Owner; the tenant of the greenhouse.';
comment on column metadata.sensors.sensor_code is 'Device code that payloads name; unique within the greenhouse.';
comment on column metadata.sensors.device_id is
    'Second name payloads may use: the serial number or the code of the board.';
comment on column metadata.sensors.name is 'Display name.';
comment on column metadata.sensors.sensor_type is 'Legacy: the type as text (TEMPERATURE, Humedad ...).';
comment on column metadata.sensors.mqtt_field_name is
    'Label of this sensor in flat maps; unique within the greenhouse.';
comment on column metadata.sensors.unit is 'Legacy: the unit as text.';
comment on column metadata.sensors.min_threshold is 'Alert below this value, in the sensor''s unit.';
comment on column metadata.sensors.max_threshold is 'Alert above this value, in the sensor''s unit.';
comment on column metadata.sensors.calibration_data is 'Free-form calibration record; the worker does not apply it.';
comment on column metadata.sensors.is_active is 'False: its readings are rejected as inactive.';
comment on column metadata.sensors.last_seen is 'Time of the latest reading known; not announced to listeners.';
comment on column metadata.sensors.created_at is 'When the row was made.';
comment on column metadata.sensors.updated_at is 'When the row was last changed; set by the writer.';

create index if not exists sensors_tenant_id_idx on metadata.sensors (tenant_id);

create table if not exists metadata.actuators (
    id uuid not null default gen_random_uuid(),
    tenant_id uuid not null,
    greenhouse_id uuid not null,
    actuator_code varchar(50) not null,
    device_id varchar(100),
    actuator_type varchar(50),
    current_state varchar(20),
    current_value double precision,
    unit varchar(20),
    is_active boolean not null default true,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint actuators_pkey primary key (id),
    constraint actuators_greenhouse_id_actuator_code_key unique (greenhouse_id, actuator_code),
    constraint actuators_tenant_id_fkey foreign key (tenant_id)
        references metadata.tenants (id) on delete restrict,
    constraint actuators_greenhouse_id_fkey foreign key (greenhouse_id)
        references metadata.greenhouses (id) on delete restrict
);

comment on table metadata.actuators is 'A device that acts: relay, fan, valve.';
comment on column metadata.actuators.id is 'Key.';
comment on column metadata.actuators.tenant_id is 'Owner; the tenant of the greenhouse.';
comment on column metadata.actuators.greenhouse_id is 'Where it is.';
comment on column metadata.actuators.actuator_code is 'Device code; unique within the greenhouse.';
comment on column metadata.actuators.device_id is 'Serial number or the code of the board.';
comment on column metadata.actuators.actuator_type is 'Legacy: the type as text (FAN, RELAY ...).';
comment on column metadata.actuators.current_state is 'Legacy: the state as text (ON, OFF ...).';
comment on column metadata.actuators.current_value is 'Set value, in the actuator''s unit.';
comment on column metadata.actuators.unit is 'Legacy: the unit as text.';
comment on column metadata.actuators.is_active is 'False: out of service.';
comment on column metadata.actuators.created_at is 'When the row was made.';
comment on column metadata.actuators.updated_at is 'When the row was last changed; set by the writer.';

create index if not exists actuators_tenant_id_idx on metadata.actuators (tenant_id);

create table if not exists metadata.users (
    id uuid not null default gen_random_uuid(),
    tenant_id uuid not null,
    username varchar(50) not null,
    email varchar(255) not null,
    password_hash varchar(255) not null,
    role varchar(20) not null,
    is_active boolean not null default true,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint users_pkey primary key (id),
    constraint users_username_key unique (username),
    constraint users_email_key unique (email),
    constraint users_role_check check (role in ('ADMIN', 'OPERATOR', 'VIEWER')),
    constraint users_tenant_id_fkey foreign key (tenant_id)
        references metadata.tenants (id) on delete restrict
);

comment on table metadata.users is 'People who sign in to the platform; the worker never reads it.';
comment on column metadata.users.id is 'Key.';
comment on column metadata.users.tenant_id is 'The tenant the user belongs to.';
comment on column metadata.users.username is 'Sign-in name, unique.';
comment on column metadata.users.email is 'Address, unique.';
comment on column metadata.users.password_hash is 'Salted hash, never the password; redacted in the audit log.';
comment on column metadata.users.role is 'ADMIN, OPERATOR or VIEWER.';
comment on column metadata.users.is_active is 'False: may not sign in.';
comment on column metadata.users.created_at is 'When the row was made.';
comment on column metadata.users.updated_at is 'When the row was last changed; set by the writer.';

create index if not exists users_tenant_id_idx on metadata.users (tenant_id);

create table if not exists metadata.alerts (
    id uuid not null default gen_random_uuid(),
    tenant_id uuid not null,
    greenhouse_id uuid not null,
    sensor_id uuid,
    alert_type varchar(50),
    severity varchar(20),
    message text,
    alert_data jsonb,
    is_resolved boolean not null default false,
    resolved_at timestamptz,
    resolved_by uuid,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint alerts_pkey primary key (id),
    constraint alerts_tenant_id_fkey foreign key (tenant_id)
        references metadata.tenants (id) on delete restrict,
    constraint alerts_greenhouse_id_fkey foreign key (greenhouse_id)
        references metadata.greenhouses (id) on delete restrict,
    constraint alerts_sensor_id_fkey foreign key (sensor_id)
        references metadata.sensors (id) on delete set null,
    constraint alerts_resolved_by_fkey foreign key (resolved_by)
        references metadata.users (id) on delete set null
);

comment on table metadata.alerts is 'Something a person should look at, open until resolved.';
comment on column metadata.alerts.id is 'Key.';
comment on column metadata.alerts.tenant_id is 'Owner; the tenant of the greenhouse.';
comment on column metadata.alerts.greenhouse_id is 'Where it happened.';
comment on column metadata.alerts.sensor_id is 'The sensor concerned; NULL when none is, or when it was deleted.';
comment on column metadata.alerts.alert_type is 'Legacy: the type as text (THRESHOLD_EXCEEDED ...).';
comment on column metadata.alerts.severity is 'Legacy: the severity as text (INFO ... CRITICAL).';
comment on column metadata.alerts.message is 'Text for people.';
comment on column metadata.alerts.alert_data is 'Values behind the alert, free form.';
comment on column metadata.alerts.is_resolved is 'True once somebody dealt with it.';
comment on column metadata.alerts.resolved_at is 'When it was resolved.';
comment on column metadata.alerts.resolved_by is 'Who resolved it.';
comment on column metadata.alerts.created_at is 'When it was raised.';
comment on column metadata.alerts.updated_at is 'When the row was last changed; set by the writer.';

create index if not exists alerts_tenant_id_created_at_idx on metadata.alerts (tenant_id, created_at desc);
create index if not exists alerts_greenhouse_id_idx on metadata.alerts (greenhouse_id);
create index if not exists alerts_sensor_id_idx on metadata.alerts (sensor_id);
