-- Purpose: other names of units and sensor types, in English and Spanish, as gateways write them; and the
--          announcement `catalog_changed` that tells running workers to read the catalog again.
-- Locks:   SHARE ROW EXCLUSIVE on tenants, greenhouses, sensors, sensor_types and units for the moment of
--          creating the triggers: readers go on, writers wait.
-- Time:    under 1 s.
-- Undo:    U12_1__create_aliases_and_notifications.sql; aliases added since are lost, so it refuses then.

create table metadata.unit_aliases (
    alias varchar(100) not null,
    unit_id smallint not null,
    constraint unit_aliases_pkey primary key (alias),
    constraint unit_aliases_alias_check check (alias <> '' and alias = upper(btrim(alias))),
    constraint unit_aliases_unit_id_fkey foreign key (unit_id)
        references metadata.units (id) on delete restrict
);

create index unit_aliases_unit_id_idx on metadata.unit_aliases (unit_id);

comment on table metadata.unit_aliases is
    'Other spellings of a unit. Only exact equals: mbar is hPa, l/m² is mm; klux is not lux.';
comment on column metadata.unit_aliases.alias is
    'Upper-case, trimmed; compared with upper(trim()) of what a gateway wrote.';
comment on column metadata.unit_aliases.unit_id is 'The unit meant.';

insert into metadata.unit_aliases (alias, unit_id) values
    ('C', 1),
    ('ºC', 1),
    ('˚C', 1),
    ('℃', 1),
    ('DEGC', 1),
    ('DEG C', 1),
    ('DEG_C', 1),
    ('°CELSIUS', 1),
    ('CELSIUS', 1),
    ('CENTIGRADE', 1),
    ('DEGREES CELSIUS', 1),
    ('DEGREE CELSIUS', 1),
    ('GRADOS C', 1),
    ('GRADOS CELSIUS', 1),
    ('GRADOS CENTIGRADOS', 1),
    ('GRADOS CENTÍGRADOS', 1),
    ('CENTIGRADOS', 1),
    ('CENTÍGRADOS', 1),
    ('F', 2),
    ('ºF', 2),
    ('˚F', 2),
    ('℉', 2),
    ('DEGF', 2),
    ('DEG F', 2),
    ('DEG_F', 2),
    ('FAHRENHEIT', 2),
    ('DEGREES FAHRENHEIT', 2),
    ('DEGREE FAHRENHEIT', 2),
    ('GRADOS F', 2),
    ('GRADOS FAHRENHEIT', 2),
    ('PERCENT', 3),
    ('PER CENT', 3),
    ('PERCENTAGE', 3),
    ('PCT', 3),
    ('%RH', 3),
    ('% RH', 3),
    ('RH%', 3),
    ('%HR', 3),
    ('% HR', 3),
    ('HR%', 3),
    ('RH', 3),
    ('HR', 3),
    ('PORCENTAJE', 3),
    ('POR CIENTO', 3),
    ('LX', 4),
    ('LUXES', 4),
    ('LUMEN/M2', 4),
    ('LM/M2', 4),
    ('LM/M²', 4),
    ('HECTOPASCAL', 5),
    ('HECTOPASCALS', 5),
    ('HECTOPASCALES', 5),
    ('MBAR', 5),
    ('MILLIBAR', 5),
    ('MILLIBARS', 5),
    ('MILIBAR', 5),
    ('MILIBARES', 5),
    ('PPMV', 6),
    ('PARTS PER MILLION', 6),
    ('PARTS_PER_MILLION', 6),
    ('PARTES POR MILLON', 6),
    ('PARTES POR MILLÓN', 6),
    ('W/M2', 7),
    ('W/M^2', 7),
    ('W M-2', 7),
    ('W·M-2', 7),
    ('W·M⁻²', 7),
    ('WM2', 7),
    ('WATT/M2', 7),
    ('WATTS/M2', 7),
    ('WATTS PER SQUARE METER', 7),
    ('WATTS PER SQUARE METRE', 7),
    ('VATIOS/M2', 7),
    ('VATIOS POR METRO CUADRADO', 7),
    ('MPS', 8),
    ('M S-1', 8),
    ('M·S-1', 8),
    ('M·S⁻¹', 8),
    ('METERS/SECOND', 8),
    ('METERS PER SECOND', 8),
    ('METRES PER SECOND', 8),
    ('METROS/SEGUNDO', 8),
    ('METROS POR SEGUNDO', 8),
    ('MILLIMETER', 9),
    ('MILLIMETERS', 9),
    ('MILLIMETRE', 9),
    ('MILLIMETRES', 9),
    ('MILIMETRO', 9),
    ('MILÍMETRO', 9),
    ('MILIMETROS', 9),
    ('MILÍMETROS', 9),
    ('L/M2', 9),
    ('L/M²', 9),
    ('UNITS', 10),
    ('UNIDAD', 10),
    ('UNIDADES', 10),
    ('UD', 10),
    ('UDS', 10),
    ('VALUES', 11),
    ('VALOR', 11),
    ('VALORES', 11);

create table metadata.sensor_type_aliases (
    alias varchar(100) not null,
    sensor_type_id smallint not null,
    constraint sensor_type_aliases_pkey primary key (alias),
    constraint sensor_type_aliases_alias_check check (alias <> '' and alias = upper(btrim(alias))),
    constraint sensor_type_aliases_sensor_type_id_fkey foreign key (sensor_type_id)
        references metadata.sensor_types (id) on delete restrict
);

create index sensor_type_aliases_sensor_type_id_idx on metadata.sensor_type_aliases (sensor_type_id);

comment on table metadata.sensor_type_aliases is
    'Other names of a sensor type. Only synonyms: a name with a meaning of its own is never mapped to a neighbour.';
comment on column metadata.sensor_type_aliases.alias is
    'Upper-case, trimmed; compared with upper(trim()) of what a gateway wrote.';
comment on column metadata.sensor_type_aliases.sensor_type_id is 'The type meant.';

insert into metadata.sensor_type_aliases (alias, sensor_type_id) values
    ('TEMP', 1),
    ('TEMPS', 1),
    ('TEMPERATURES', 1),
    ('TEMPERATURA', 1),
    ('TEMPERATURAS', 1),
    ('AIR_TEMPERATURE', 1),
    ('AIR TEMPERATURE', 1),
    ('AIR-TEMPERATURE', 1),
    ('AIRTEMPERATURE', 1),
    ('AMBIENT_TEMPERATURE', 1),
    ('AMBIENT TEMPERATURE', 1),
    ('AMBIENT-TEMPERATURE', 1),
    ('AMBIENTTEMPERATURE', 1),
    ('TEMPERATURA_AMBIENTE', 1),
    ('TEMPERATURA AMBIENTE', 1),
    ('TEMPERATURA-AMBIENTE', 1),
    ('TEMPERATURAAMBIENTE', 1),
    ('TEMPERATURA_AIRE', 1),
    ('TEMPERATURA AIRE', 1),
    ('TEMPERATURA-AIRE', 1),
    ('TEMPERATURAAIRE', 1),
    ('HUM', 2),
    ('RH', 2),
    ('HR', 2),
    ('HUMEDAD', 2),
    ('HUMEDADES', 2),
    ('RELATIVE_HUMIDITY', 2),
    ('RELATIVE HUMIDITY', 2),
    ('RELATIVE-HUMIDITY', 2),
    ('RELATIVEHUMIDITY', 2),
    ('AIR_HUMIDITY', 2),
    ('AIR HUMIDITY', 2),
    ('AIR-HUMIDITY', 2),
    ('AIRHUMIDITY', 2),
    ('HUMEDAD_RELATIVA', 2),
    ('HUMEDAD RELATIVA', 2),
    ('HUMEDAD-RELATIVA', 2),
    ('HUMEDADRELATIVA', 2),
    ('HUMEDAD_AMBIENTE', 2),
    ('HUMEDAD AMBIENTE', 2),
    ('HUMEDAD-AMBIENTE', 2),
    ('HUMEDADAMBIENTE', 2),
    ('HUMEDAD_AIRE', 2),
    ('HUMEDAD AIRE', 2),
    ('HUMEDAD-AIRE', 2),
    ('HUMEDADAIRE', 2),
    ('LUX', 3),
    ('LUZ', 3),
    ('LUMINOSITY', 3),
    ('LUMINOSIDAD', 3),
    ('ILLUMINANCE', 3),
    ('ILUMINANCIA', 3),
    ('ILUMINACION', 3),
    ('ILUMINACIÓN', 3),
    ('BRIGHTNESS', 3),
    ('LIGHT_LEVEL', 3),
    ('LIGHT LEVEL', 3),
    ('LIGHT-LEVEL', 3),
    ('LIGHTLEVEL', 3),
    ('LIGHT_INTENSITY', 3),
    ('LIGHT INTENSITY', 3),
    ('LIGHT-INTENSITY', 3),
    ('LIGHTINTENSITY', 3),
    ('INTENSIDAD_LUMINOSA', 3),
    ('INTENSIDAD LUMINOSA', 3),
    ('INTENSIDAD-LUMINOSA', 3),
    ('INTENSIDADLUMINOSA', 3),
    ('SOIL', 4),
    ('SUELO', 4),
    ('SOIL MOISTURE', 4),
    ('SOIL-MOISTURE', 4),
    ('SOILMOISTURE', 4),
    ('SOIL_HUMIDITY', 4),
    ('SOIL HUMIDITY', 4),
    ('SOIL-HUMIDITY', 4),
    ('SOILHUMIDITY', 4),
    ('HUMEDAD_SUELO', 4),
    ('HUMEDAD SUELO', 4),
    ('HUMEDAD-SUELO', 4),
    ('HUMEDADSUELO', 4),
    ('HUMEDAD_DEL_SUELO', 4),
    ('HUMEDAD DEL SUELO', 4),
    ('HUMEDAD-DEL-SUELO', 4),
    ('HUMEDADDELSUELO', 4),
    ('HUMEDAD_DE_SUELO', 4),
    ('HUMEDAD DE SUELO', 4),
    ('HUMEDAD-DE-SUELO', 4),
    ('HUMEDADDESUELO', 4),
    ('CO₂', 5),
    ('CARBON_DIOXIDE', 5),
    ('CARBON DIOXIDE', 5),
    ('CARBON-DIOXIDE', 5),
    ('CARBONDIOXIDE', 5),
    ('DIOXIDO_CARBONO', 5),
    ('DIOXIDO CARBONO', 5),
    ('DIOXIDO-CARBONO', 5),
    ('DIOXIDOCARBONO', 5),
    ('DIÓXIDO_CARBONO', 5),
    ('DIÓXIDO CARBONO', 5),
    ('DIÓXIDO-CARBONO', 5),
    ('DIÓXIDOCARBONO', 5),
    ('DIOXIDO_DE_CARBONO', 5),
    ('DIOXIDO DE CARBONO', 5),
    ('DIOXIDO-DE-CARBONO', 5),
    ('DIOXIDODECARBONO', 5),
    ('DIÓXIDO_DE_CARBONO', 5),
    ('DIÓXIDO DE CARBONO', 5),
    ('DIÓXIDO-DE-CARBONO', 5),
    ('DIÓXIDODECARBONO', 5),
    ('PRES', 6),
    ('PRESION', 6),
    ('PRESIÓN', 6),
    ('BAROMETER', 6),
    ('BAROMETRO', 6),
    ('BARÓMETRO', 6),
    ('AIR_PRESSURE', 6),
    ('AIR PRESSURE', 6),
    ('AIR-PRESSURE', 6),
    ('AIRPRESSURE', 6),
    ('ATMOSPHERIC_PRESSURE', 6),
    ('ATMOSPHERIC PRESSURE', 6),
    ('ATMOSPHERIC-PRESSURE', 6),
    ('ATMOSPHERICPRESSURE', 6),
    ('BAROMETRIC_PRESSURE', 6),
    ('BAROMETRIC PRESSURE', 6),
    ('BAROMETRIC-PRESSURE', 6),
    ('BAROMETRICPRESSURE', 6),
    ('PRESION_ATMOSFERICA', 6),
    ('PRESION ATMOSFERICA', 6),
    ('PRESION-ATMOSFERICA', 6),
    ('PRESIONATMOSFERICA', 6),
    ('PRESIÓN_ATMOSFÉRICA', 6),
    ('PRESIÓN ATMOSFÉRICA', 6),
    ('PRESIÓN-ATMOSFÉRICA', 6),
    ('PRESIÓNATMOSFÉRICA', 6),
    ('WIND', 7),
    ('VIENTO', 7),
    ('ANEMOMETER', 7),
    ('ANEMOMETRO', 7),
    ('ANEMÓMETRO', 7),
    ('WIND SPEED', 7),
    ('WIND-SPEED', 7),
    ('WINDSPEED', 7),
    ('VELOCIDAD_VIENTO', 7),
    ('VELOCIDAD VIENTO', 7),
    ('VELOCIDAD-VIENTO', 7),
    ('VELOCIDADVIENTO', 7),
    ('VELOCIDAD_DEL_VIENTO', 7),
    ('VELOCIDAD DEL VIENTO', 7),
    ('VELOCIDAD-DEL-VIENTO', 7),
    ('VELOCIDADDELVIENTO', 7),
    ('VELOCIDAD_DE_VIENTO', 7),
    ('VELOCIDAD DE VIENTO', 7),
    ('VELOCIDAD-DE-VIENTO', 7),
    ('VELOCIDADDEVIENTO', 7),
    ('RAIN', 8),
    ('RAINFALL', 8),
    ('LLUVIA', 8),
    ('LLUVIAS', 8),
    ('PRECIPITACION', 8),
    ('PRECIPITACIÓN', 8),
    ('PRECIPITACIONES', 8),
    ('PLUVIOMETER', 8),
    ('PLUVIOMETRO', 8),
    ('PLUVIÓMETRO', 8),
    ('RAD', 9),
    ('SOLAR', 9),
    ('RADIATION', 9),
    ('RADIACION', 9),
    ('RADIACIÓN', 9),
    ('IRRADIANCE', 9),
    ('IRRADIANCIA', 9),
    ('PYRANOMETER', 9),
    ('PIRANOMETRO', 9),
    ('PIRANÓMETRO', 9),
    ('SOLAR RADIATION', 9),
    ('SOLAR-RADIATION', 9),
    ('SOLARRADIATION', 9),
    ('SOLAR_IRRADIANCE', 9),
    ('SOLAR IRRADIANCE', 9),
    ('SOLAR-IRRADIANCE', 9),
    ('SOLARIRRADIANCE', 9),
    ('RADIACION_SOLAR', 9),
    ('RADIACION SOLAR', 9),
    ('RADIACION-SOLAR', 9),
    ('RADIACIONSOLAR', 9),
    ('RADIACIÓN_SOLAR', 9),
    ('RADIACIÓN SOLAR', 9),
    ('RADIACIÓN-SOLAR', 9),
    ('RADIACIÓNSOLAR', 9),
    ('SETPOINTS', 10),
    ('CONSIGNA', 10),
    ('CONSIGNAS', 10),
    ('SET_POINT', 10),
    ('SET POINT', 10),
    ('SET-POINT', 10),
    ('PUNTO_CONSIGNA', 10),
    ('PUNTO CONSIGNA', 10),
    ('PUNTO-CONSIGNA', 10),
    ('PUNTOCONSIGNA', 10),
    ('PUNTO_DE_CONSIGNA', 10),
    ('PUNTO DE CONSIGNA', 10),
    ('PUNTO-DE-CONSIGNA', 10),
    ('PUNTODECONSIGNA', 10),
    ('SENSORS', 11),
    ('SENSORES', 11),
    ('GENERIC', 11),
    ('GENERICO', 11),
    ('GENÉRICO', 11),
    ('GENERIC_SENSOR', 11),
    ('GENERIC SENSOR', 11),
    ('GENERIC-SENSOR', 11),
    ('GENERICSENSOR', 11),
    ('SENSOR_GENERICO', 11),
    ('SENSOR GENERICO', 11),
    ('SENSOR-GENERICO', 11),
    ('SENSORGENERICO', 11),
    ('SENSOR_GENÉRICO', 11),
    ('SENSOR GENÉRICO', 11),
    ('SENSOR-GENÉRICO', 11),
    ('SENSORGENÉRICO', 11);

create function metadata.notify_catalog_changed() returns trigger
language plpgsql
as $$
begin
    perform pg_notify('catalog_changed', tg_table_name);
    return null;
end;
$$;

comment on function metadata.notify_catalog_changed() is
    'Statement trigger: announces on channel catalog_changed which table changed, once a transaction.';

-- Of tenants and catalogs, a thousand rows, workers read all again; of greenhouses and their sensors those that are
-- named. Named once a transaction, and a thousand at most, 45 KB: past that the name of the table says to read all.
create function metadata.announce_greenhouse(greenhouse uuid, its_table name) returns void
language plpgsql
as $$
declare
    latest constant text := current_setting('greenhouse.announced', true);
    announced integer;
begin
    if split_part(latest, ' ', 2) = greenhouse::text then
        return;
    end if;
    announced := coalesce(nullif(split_part(latest, ' ', 1), ''), '0')::integer + 1;
    perform set_config('greenhouse.announced', announced || ' ' || greenhouse, true);
    perform pg_notify(
        'catalog_changed',
        case
            when announced <= 1000 then 'greenhouse ' || greenhouse
            else its_table
        end
    );
end;
$$;

comment on function metadata.announce_greenhouse(uuid, name) is
    'Announces on channel catalog_changed that a greenhouse or its sensors changed; after a thousand, only the table.';

create function metadata.notify_greenhouse_changed() returns trigger
language plpgsql
as $$
begin
    if tg_op <> 'INSERT' then
        perform metadata.announce_greenhouse(old.id, tg_table_name);
    end if;
    if tg_op <> 'DELETE' then
        perform metadata.announce_greenhouse(new.id, tg_table_name);
    end if;
    return null;
end;
$$;

comment on function metadata.notify_greenhouse_changed() is 'Row trigger of greenhouses: announces which one changed.';

create function metadata.notify_sensor_changed() returns trigger
language plpgsql
as $$
begin
    if tg_op <> 'INSERT' then
        perform metadata.announce_greenhouse(old.greenhouse_id, tg_table_name);
    end if;
    if tg_op <> 'DELETE' then
        perform metadata.announce_greenhouse(new.greenhouse_id, tg_table_name);
    end if;
    return null;
end;
$$;

comment on function metadata.notify_sensor_changed() is
    'Row trigger of sensors: announces whose sensors changed; of one that moved, both greenhouses.';

create trigger tenants_notify_catalog_changed
    after insert or update or delete or truncate on metadata.tenants
    for each statement execute function metadata.notify_catalog_changed();

create trigger greenhouses_notify_catalog_changed
    after truncate on metadata.greenhouses
    for each statement execute function metadata.notify_catalog_changed();

create trigger greenhouses_notify_greenhouse_changed
    after insert or delete or update of
        id,
        tenant_id,
        greenhouse_code,
        is_active
    on metadata.greenhouses
    for each row execute function metadata.notify_greenhouse_changed();

create trigger sensors_notify_catalog_changed
    after truncate on metadata.sensors
    for each statement execute function metadata.notify_catalog_changed();

-- The columns that the worker reads: not last_seen, which changes with each reading, and updated_at, which changes
-- with it. A migration that adds a column the worker reads creates this trigger anew; one that drops or retypes a
-- column named here drops the trigger first, as PostgreSQL asks.
create trigger sensors_notify_sensor_changed
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

create trigger sensor_types_notify_catalog_changed
    after insert or update or delete or truncate on metadata.sensor_types
    for each statement execute function metadata.notify_catalog_changed();

create trigger units_notify_catalog_changed
    after insert or update or delete or truncate on metadata.units
    for each statement execute function metadata.notify_catalog_changed();

create trigger unit_aliases_notify_catalog_changed
    after insert or update or delete or truncate on metadata.unit_aliases
    for each statement execute function metadata.notify_catalog_changed();

create trigger sensor_type_aliases_notify_catalog_changed
    after insert or update or delete or truncate on metadata.sensor_type_aliases
    for each statement execute function metadata.notify_catalog_changed();
