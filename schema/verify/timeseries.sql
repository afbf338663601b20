-- Purpose: the mirrored catalogs' rows and what only TimescaleDB knows (hypertables, compression, continuous
--          aggregates, jobs that are switched on), one line of text each, for `ingest schema verify` and the
--          snapshot. Intervals, ages and the jobs' configs are left out: they are the operator's to tune.
-- Locks:   none. Time: under 1 s. Undo: reads only.

select line
from (
    select format('row iot.units %s %s', id, symbol) as line
    from iot.units
    union all
    select format('row iot.sensor_types %s %s', id, name)
    from iot.sensor_types

    union all

    select format('hypertable %s.%s on %s', hypertable_schema, hypertable_name, column_name)
    from timescaledb_information.dimensions
    where hypertable_schema = 'iot'
        and dimension_number = 1

    union all

    select format('compression %s segmentby %s orderby %s', hypertable, segmentby, replace(orderby, '"', ''))
    from timescaledb_information.hypertable_columnstore_settings as s
    join pg_catalog.pg_class as c on c.oid = s.hypertable
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    where n.nspname = 'iot'

    union all

    select format(
        'continuous aggregate %s.%s %s',
        view_schema,
        view_name,
        case when materialized_only then 'materialized only' else 'real-time' end
    )
    from timescaledb_information.continuous_aggregates
    where view_schema = 'iot'

    union all

    select format(
        'job %s %s',
        coalesce(
            a.view_schema || '.' || a.view_name,
            j.hypertable_schema || '.' || j.hypertable_name,
            j.proc_schema
        ),
        j.proc_name
    )
    from timescaledb_information.jobs as j
    left join timescaledb_information.continuous_aggregates as a
        on a.materialization_hypertable_schema = j.hypertable_schema
        and a.materialization_hypertable_name = j.hypertable_name
    where j.scheduled
        and 'iot' in (j.hypertable_schema, j.proc_schema, a.view_schema)

    union all

    -- The columns with names may be dropped once every row has its ids (`ingest normalize --drop-legacy-columns`):
    -- both are then no fault, one is.
    select format('column iot.sensor_readings.%s character varying', dropped.name)
    from (values ('sensor_type'), ('unit')) as dropped (name)
    where (
        select count(*) filter (where a.attname in ('tenant_id', 'sensor_type_id', 'unit_id') and a.attnotnull) = 3
            and count(*) filter (where a.attname in ('sensor_type', 'unit')) = 0
        from pg_catalog.pg_attribute as a
        where a.attrelid = to_regclass('iot.sensor_readings')
            and not a.attisdropped
    )
) as described
order by line collate "C";
