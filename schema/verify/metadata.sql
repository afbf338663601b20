-- Purpose: the catalogs' rows, the foreign keys to them and the row security, one line of text each, for `ingest
--          schema verify` and the snapshot: an id that stands for something else than in the other database would
--          relabel readings.
-- Locks:   none. Time: under 1 s. Undo: reads only.

select line
from (
    select format('row metadata.units %s %s', id, symbol) as line
    from metadata.units
    union all
    select format('row metadata.sensor_types %s %s', id, name)
    from metadata.sensor_types
    union all
    select format('row metadata.actuator_types %s %s', id, name)
    from metadata.actuator_types
    union all
    select format('row metadata.actuator_states %s %s', id, name)
    from metadata.actuator_states
    union all
    select format('row metadata.alert_severities %s %s level %s', id, name, level)
    from metadata.alert_severities
    union all
    select format('row metadata.alert_types %s %s', id, name)
    from metadata.alert_types

    union all

    select format('foreign key %s %s', c.conrelid::regclass, pg_get_constraintdef(c.oid))
    from pg_catalog.pg_constraint as c
    join pg_catalog.pg_class as r on r.oid = c.confrelid
    where c.contype = 'f'
        and c.convalidated
        and r.relnamespace = 'metadata'::regnamespace
        and r.relname in (
            'units',
            'sensor_types',
            'actuator_types',
            'actuator_states',
            'alert_severities',
            'alert_types'
        )

    union all

    select format('policy metadata.%s %s', c.relname, p.polname)
    from pg_catalog.pg_policy as p
    join pg_catalog.pg_class as c on c.oid = p.polrelid
    where c.relnamespace = 'metadata'::regnamespace
        and c.relrowsecurity
) as described
order by line collate "C";
