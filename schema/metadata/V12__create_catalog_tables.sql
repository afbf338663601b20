-- Purpose: the six catalogs that give names their SMALLINT ids, 62 rows. The ids are given explicitly, because
--          iot.units and iot.sensor_types of the timeseries database hold the same ones.
-- Locks:   none: new tables only. It fails, changing nothing, where a table of one of these names exists.
-- Time:    under 1 s.
-- Undo:    U12__create_catalog_tables.sql; it refuses once a catalog holds more than these rows.

create table metadata.units (
    id smallserial not null,
    symbol varchar(20) not null,
    name varchar(50) not null,
    description text,
    constraint units_pkey primary key (id),
    constraint units_symbol_key unique (symbol)
);

comment on table metadata.units is 'Units of measurement; mirrored to iot.units.';
comment on column metadata.units.id is 'Key; iot.sensor_readings.unit_id. Never reused, never changed.';
comment on column metadata.units.symbol is 'As shown: °C, %, hPa.';
comment on column metadata.units.name is 'In words.';
comment on column metadata.units.description is 'What it measures.';

insert into metadata.units (id, symbol, name, description) values
    (1, '°C', 'degree Celsius', 'Temperature.'),
    (2, '°F', 'degree Fahrenheit', 'Temperature; stored as sent, range-checked after conversion to °C.'),
    (3, '%', 'percent', 'Relative humidity, soil moisture, degree of opening.'),
    (4, 'lux', 'lux', 'Illuminance.'),
    (5, 'hPa', 'hectopascal', 'Air pressure.'),
    (6, 'ppm', 'parts per million', 'Concentration of a gas, by volume.'),
    (7, 'W/m²', 'watt per square metre', 'Irradiance.'),
    (8, 'm/s', 'metre per second', 'Wind speed.'),
    (9, 'mm', 'millimetre', 'Depth of rain; 1 mm is 1 litre per square metre.'),
    (10, 'unit', 'unit', 'Counts and states without a physical unit.'),
    (11, 'value', 'value', 'Set values whose unit is that of what they control.');

select setval('metadata.units_id_seq', (select max(id) from metadata.units));

create table metadata.sensor_types (
    id smallserial not null,
    name varchar(50) not null,
    default_unit_id smallint not null,
    data_type varchar(20) not null,
    min_value numeric(12, 2),
    max_value numeric(12, 2),
    constraint sensor_types_pkey primary key (id),
    constraint sensor_types_name_key unique (name),
    constraint sensor_types_data_type_check check (data_type in ('DECIMAL', 'INTEGER', 'BOOLEAN')),
    constraint sensor_types_range_check check (min_value <= max_value),
    constraint sensor_types_default_unit_id_fkey foreign key (default_unit_id)
        references metadata.units (id) on delete restrict
);

comment on table metadata.sensor_types is 'What a sensor measures; mirrored to iot.sensor_types.';
comment on column metadata.sensor_types.id is 'Key; iot.sensor_readings.sensor_type_id. Never reused, never changed.';
comment on column metadata.sensor_types.name is 'Upper-case English name.';
comment on column metadata.sensor_types.default_unit_id is
    'Unit of a reading that names none and whose sensor has none.';
comment on column metadata.sensor_types.data_type is
    'DECIMAL, INTEGER or BOOLEAN; readings are stored as double precision.';
comment on column metadata.sensor_types.min_value is
    'Least believable value, in the default unit; NULL: no limit. Readings below are out_of_range.';
comment on column metadata.sensor_types.max_value is
    'Greatest believable value, in the default unit; NULL: no limit. Readings above are out_of_range.';

insert into metadata.sensor_types (id, name, default_unit_id, data_type, min_value, max_value) values
    (1, 'TEMPERATURE', 1, 'DECIMAL', -50, 100),
    (2, 'HUMIDITY', 3, 'DECIMAL', 0, 100),
    (3, 'LIGHT', 4, 'DECIMAL', 0, 200000),
    (4, 'SOIL_MOISTURE', 3, 'DECIMAL', 0, 100),
    (5, 'CO2', 6, 'DECIMAL', 0, 5000),
    (6, 'PRESSURE', 5, 'DECIMAL', 800, 1200),
    (7, 'WIND_SPEED', 8, 'DECIMAL', 0, 100),
    (8, 'PRECIPITATION', 9, 'DECIMAL', 0, 500),
    (9, 'SOLAR_RADIATION', 7, 'DECIMAL', 0, 1500),
    (10, 'SETPOINT', 11, 'DECIMAL', null, null),
    (11, 'SENSOR', 10, 'DECIMAL', null, null);

select setval('metadata.sensor_types_id_seq', (select max(id) from metadata.sensor_types));

create table metadata.actuator_types (
    id smallserial not null,
    name varchar(50) not null,
    description text,
    constraint actuator_types_pkey primary key (id),
    constraint actuator_types_name_key unique (name)
);

comment on table metadata.actuator_types is 'What an actuator is.';
comment on column metadata.actuator_types.id is 'Key. Never reused, never changed.';
comment on column metadata.actuator_types.name is 'Upper-case English name.';
comment on column metadata.actuator_types.description is 'What it does.';

insert into metadata.actuator_types (id, name, description) values
    (1, 'RELAY', 'Switches a circuit.'),
    (2, 'FAN', 'Moves air; extractors are fans.'),
    (3, 'PUMP', 'Moves water.'),
    (4, 'VALVE', 'Opens and closes a pipe.'),
    (5, 'HEATER', 'Warms.'),
    (6, 'COOLER', 'Cools.'),
    (7, 'HUMIDIFIER', 'Adds moisture to the air.'),
    (8, 'DEHUMIDIFIER', 'Takes moisture from the air.'),
    (9, 'LIGHT', 'Lamps.'),
    (10, 'MOTOR', 'Moves windows, screens and curtains.'),
    (11, 'SERVO', 'Turns to an angle.'),
    (12, 'ALARM', 'Siren or beacon.'),
    (13, 'NOTIFICATION', 'Sends a message to people.'),
    (14, 'OTHER', 'Declared as something else by whoever registered it.');

select setval('metadata.actuator_types_id_seq', (select max(id) from metadata.actuator_types));

create table metadata.actuator_states (
    id smallserial not null,
    name varchar(20) not null,
    description text,
    constraint actuator_states_pkey primary key (id),
    constraint actuator_states_name_key unique (name)
);

comment on table metadata.actuator_states is 'The states an actuator reports.';
comment on column metadata.actuator_states.id is 'Key. Never reused, never changed.';
comment on column metadata.actuator_states.name is 'Upper-case English name.';
comment on column metadata.actuator_states.description is 'What it means.';

insert into metadata.actuator_states (id, name, description) values
    (1, 'OFF', 'Not working.'),
    (2, 'ON', 'Working.'),
    (3, 'AUTO', 'Follows its controller.'),
    (4, 'MANUAL', 'Follows a person; the controller is overridden.'),
    (5, 'OPEN', 'Fully open.'),
    (6, 'CLOSED', 'Fully closed.'),
    (7, 'OPENING', 'On its way to open.'),
    (8, 'CLOSING', 'On its way to closed.'),
    (9, 'ERROR', 'Reports a fault.');

select setval('metadata.actuator_states_id_seq', (select max(id) from metadata.actuator_states));

create table metadata.alert_severities (
    id smallserial not null,
    name varchar(20) not null,
    level smallint not null,
    constraint alert_severities_pkey primary key (id),
    constraint alert_severities_name_key unique (name),
    constraint alert_severities_level_key unique (level)
);

comment on table metadata.alert_severities is 'How urgent an alert is.';
comment on column metadata.alert_severities.id is 'Key. Never reused, never changed.';
comment on column metadata.alert_severities.name is 'Upper-case English name.';
comment on column metadata.alert_severities.level is 'Rank: a greater level is more urgent.';

insert into metadata.alert_severities (id, name, level) values
    (1, 'INFO', 1),
    (2, 'WARNING', 2),
    (3, 'ERROR', 3),
    (4, 'CRITICAL', 4);

select setval('metadata.alert_severities_id_seq', (select max(id) from metadata.alert_severities));

create table metadata.alert_types (
    id smallserial not null,
    name varchar(50) not null,
    default_severity_id smallint not null,
    category varchar(20) not null,
    description text,
    constraint alert_types_pkey primary key (id),
    constraint alert_types_name_key unique (name),
    constraint alert_types_category_check check (category in ('SENSOR', 'ACTUATOR', 'SYSTEM', 'MAINTENANCE', 'DATA')),
    constraint alert_types_default_severity_id_fkey foreign key (default_severity_id)
        references metadata.alert_severities (id) on delete restrict
);

comment on table metadata.alert_types is 'What an alert is about.';
comment on column metadata.alert_types.id is 'Key. Never reused, never changed.';
comment on column metadata.alert_types.name is 'Upper-case English name.';
comment on column metadata.alert_types.default_severity_id is 'Severity of an alert raised without one.';
comment on column metadata.alert_types.category is 'SENSOR, ACTUATOR, SYSTEM, MAINTENANCE or DATA.';
comment on column metadata.alert_types.description is 'What happened.';

insert into metadata.alert_types (id, name, default_severity_id, category, description) values
    (1, 'THRESHOLD_EXCEEDED', 2, 'SENSOR', 'A value crossed the sensor''s threshold.'),
    (2, 'CRITICAL_THRESHOLD', 4, 'SENSOR', 'A value crossed the limit beyond which the crop is harmed.'),
    (3, 'SENSOR_OFFLINE', 3, 'SENSOR', 'No reading for longer than the sensor''s interval allows.'),
    (4, 'SENSOR_ERROR', 3, 'SENSOR', 'The sensor reports a fault or unbelievable values.'),
    (5, 'ACTUATOR_FAILURE', 4, 'ACTUATOR', 'An actuator did not do what it was told.'),
    (6, 'ACTUATOR_OFFLINE', 3, 'ACTUATOR', 'An actuator does not answer.'),
    (7, 'CONNECTIVITY_LOST', 3, 'SYSTEM', 'A gateway is not connected to the broker.'),
    (8, 'POWER_FAILURE', 4, 'SYSTEM', 'Mains power is lost.'),
    (9, 'SYSTEM_ERROR', 3, 'SYSTEM', 'A part of the platform reports a fault.'),
    (10, 'BATTERY_LOW', 2, 'MAINTENANCE', 'A device''s battery is nearly empty.'),
    (11, 'MAINTENANCE_DUE', 1, 'MAINTENANCE', 'Planned maintenance is due.'),
    (12, 'CALIBRATION_REQUIRED', 2, 'MAINTENANCE', 'A sensor''s calibration has run out.'),
    (13, 'DATA_ANOMALY', 2, 'DATA', 'Readings are believable one by one but not together.');

select setval('metadata.alert_types_id_seq', (select max(id) from metadata.alert_types));
