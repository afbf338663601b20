"""The statements of `ingest reconcile`: each bounded by its range, none of them writes.

In all of them $1 and $2 are the range, from and before; a filter that is null lets everything pass.
"""

from __future__ import annotations

from typing import Final

# $3 a tenant, $4 a gateway
GATEWAYS: Final = """
    select
        tenant_id,
        gateway,
        (array_agg(greenhouse_id order by hour desc))[1] as greenhouse_id,
        sum(received)::bigint as received,
        sum(committed)::bigint as committed,
        sum(skipped)::bigint as skipped,
        sum(ignored)::bigint as ignored,
        sum(decoded)::bigint as decoded,
        sum(written)::bigint as written,
        sum(duplicate)::bigint as duplicate,
        sum(rejected)::bigint as rejected,
        sum(nulls)::bigint as nulls,
        sum(clock_future)::bigint as clock_future,
        sum(clock_ancient)::bigint as clock_ancient,
        sum(clock_unset)::bigint as clock_unset,
        case when count(least_lag_s) > 0 then greatest(-min(least_lag_s), 0) end as ahead_s,
        case when count(least_lag_s) > 0 then greatest(max(least_lag_s), 0) end as behind_s
    from iot.ingest_gateway_hours
    where hour >= $1
        and hour < $2
        and ($3::uuid is null or tenant_id = $3)
        and ($4::text is null or gateway = $4)
    group by tenant_id, gateway
    order by tenant_id nulls last, gateway
"""

# $3 a tenant, $4 a gateway
UNBALANCED: Final = """
    select
        hour,
        client_id,
        gateway,
        received,
        committed,
        skipped,
        ignored,
        decoded,
        written,
        duplicate,
        rejected,
        nulls
    from iot.ingest_gateway_hours
    where hour >= $1
        and hour < $2
        and ($3::uuid is null or tenant_id = $3)
        and ($4::text is null or gateway = $4)
        and (
            received <> committed + skipped + ignored
            or decoded <> written + duplicate + rejected + nulls
        )
    order by hour, client_id, gateway
"""

# Without a range: since the session was made.
TOTALS: Final = """
    with summed as (
        select
            client_id,
            unnest(array[
                'received', 'committed', 'skipped', 'ignored',
                'decoded', 'written', 'duplicate', 'rejected', 'null'
            ]) as counter,
            unnest(array[
                sum(received), sum(committed), sum(skipped), sum(ignored),
                sum(decoded), sum(written), sum(duplicate), sum(rejected), sum(nulls)
            ])::bigint as value
        from iot.ingest_gateway_hours
        group by client_id
    )
    select
        client_id,
        counter,
        coalesce(total.value, 0) as counted,
        coalesce(summed.value, 0) as booked
    from iot.ingest_counters as total
    full join summed using (client_id, counter)
    where coalesce(total.value, 0) <> coalesce(summed.value, 0)
    order by client_id, counter
"""

# A replay may find more wrong with a message than was known at receipt, when all of it counted as one.
# What is past a budget was only counted: its readings exactly, its messages under each of their reasons.
DEAD_LETTERS: Final = """
    select
        gateway,
        sum(messages)::bigint as messages,
        sum(readings)::bigint as readings
    from (
        select
            gateway,
            1 as messages,
            case when replayed_at is null then rejected_count else 1 end as readings
        from iot.ingest_dead_letters
        where received_at >= $1
            and received_at < $2
        union all
        select
            gateway,
            0,
            readings
        from iot.ingest_dead_letter_overflow
        where hour >= $1
            and hour < $2
    ) as rejected
    group by gateway
"""

SESSIONS: Final = """
    select
        client_id,
        pending_entries as unproven,
        host,
        process_id,
        claimed_at,
        committed_at
    from iot.v_ingest_sessions
    order by client_id
"""

# $3 a tenant, $4 greenhouses. One row a greenhouse; of the hours that lack rows, the first hundred.
ROWS: Final = """
    with booked as (
        select
            hour,
            greenhouse_id,
            tenant_id,
            sum(rows)::bigint as rows
        from iot.ingest_written_hours
        where hour >= $1
            and hour < $2
            and ($3::uuid is null or tenant_id = $3)
            and ($4::uuid[] is null or greenhouse_id = any ($4))
        group by hour, greenhouse_id, tenant_id
    ), stored as (
        select
            date_trunc('hour', time) as hour,
            greenhouse_id,
            tenant_id,
            count(*) as rows
        from iot.sensor_readings
        where time >= $1
            and time < $2
            and tenant_id is not null
            and ($3::uuid is null or tenant_id = $3)
            and ($4::uuid[] is null or greenhouse_id = any ($4))
        group by 1, 2, 3
    ), compared as (
        select
            tenant_id,
            greenhouse_id,
            hour,
            coalesce(booked.rows, 0) as booked,
            coalesce(stored.rows, 0) as stored
        from booked
        full join stored using (hour, greenhouse_id, tenant_id)
    )
    select
        tenant_id,
        greenhouse_id,
        sum(booked)::bigint as booked,
        sum(stored)::bigint as stored,
        sum(greatest(booked - stored, 0))::bigint as missing,
        sum(greatest(stored - booked, 0))::bigint as unbooked,
        coalesce(
            (array_agg(hour order by hour) filter (where booked > stored))[:100],
            '{}'
        ) as missing_hours
    from compared
    group by tenant_id, greenhouse_id
    order by tenant_id, greenhouse_id
"""
