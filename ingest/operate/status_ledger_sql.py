"""The statements of `ingest status` on sessions, ledgers, letters and the metadata database; none writes."""

from __future__ import annotations

from typing import Final

SESSIONS: Final = """
    select
        client_id,
        host,
        process_id,
        share_group,
        pending_entries,
        unfinished_starts,
        claimed_at,
        committed_at,
        extract(epoch from age)::double precision as age_s
    from iot.v_ingest_sessions
    order by client_id
"""

# Of this hour and the one before: what was received. Of the later that has anything, the lag of the gateway
# that is least behind.
RATE: Final = """
    with recent as (
        select
            hour,
            received,
            written,
            least_lag_s,
            max(hour) over () as latest
        from iot.ingest_gateway_hours
        where hour >= date_trunc('hour', now() - interval '1 hour', 'UTC')
    )
    select
        coalesce(sum(received), 0)::bigint as messages,
        coalesce(sum(written), 0)::bigint as readings,
        extract(epoch from now() - min(hour))::double precision as seconds,
        min(least_lag_s) filter (where hour = latest) as lag_s
    from recent
"""

DEAD_LETTERS: Final = """
    select
        r.reason,
        count(*) as kept,
        count(*) filter (where d.received_at >= now() - interval '24 hours') as last_day,
        max(d.received_at) as newest
    from iot.ingest_dead_letters as d
    cross join lateral unnest(d.reasons) as r (reason)
    group by r.reason
    order by last_day desc, kept desc, r.reason
"""
DEAD_LETTERS_IN_ALL: Final = """
    select
        count(*) as kept,
        count(*) filter (where received_at >= now() - interval '24 hours') as last_day
    from iot.ingest_dead_letters
"""
ONLY_COUNTED: Final = """
    select coalesce(sum(readings), 0)::bigint
    from iot.ingest_dead_letter_overflow
    where hour >= date_trunc('hour', now() - interval '24 hours', 'UTC')
"""

# The metadata database's.
COVERAGE: Final = """
    select
        'sensors' as table_name,
        count(*) as rows,
        count(*) filter (
            where (sensor_type_id is null and metadata.name_key(sensor_type) is not null)
                or (unit_id is null and metadata.name_key(unit) is not null)
        ) as lacking
    from metadata.sensors
    union all
    select
        'actuators',
        count(*),
        count(*) filter (
            where (actuator_type_id is null and metadata.name_key(actuator_type) is not null)
                or (unit_id is null and metadata.name_key(unit) is not null)
                or (state_id is null and metadata.name_key(current_state) is not null)
        )
    from metadata.actuators
    union all
    select
        'alerts',
        count(*),
        count(*) filter (
            where (alert_type_id is null and metadata.name_key(alert_type) is not null)
                or (severity_id is null and metadata.name_key(severity) is not null)
        )
    from metadata.alerts
"""
UNMAPPED: Final = """
    select
        table_name,
        column_name,
        value,
        mapped_to,
        rows
    from metadata.v_unmapped_names
    order by rows desc, table_name, column_name, value
"""
QUALITY: Final = """
    select
        quality_issue_type as type,
        severity,
        count(*) as issues,
        min(detected_at) as oldest
    from metadata.data_quality_log
    where status in ('OPEN', 'INVESTIGATING')
    group by quality_issue_type, severity
    order by array_position(array['CRITICAL', 'HIGH', 'MEDIUM', 'LOW'], severity::text), quality_issue_type
"""
