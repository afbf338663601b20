-- Purpose: the catalogs' rows, one line of text each, for `ingest schema verify` and the snapshot: an id that
--          stands for something else than in the other database would relabel readings.
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
) as described
order by line collate "C";
