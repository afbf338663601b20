"""What the ledgers of gateways add up to."""

from __future__ import annotations

LEDGER = """
    select
        gateway,
        sum(received)::bigint,
        sum(committed)::bigint,
        sum(skipped)::bigint,
        sum(ignored)::bigint,
        sum(decoded)::bigint,
        sum(written)::bigint,
        sum(duplicate)::bigint,
        sum(rejected)::bigint,
        sum(nulls)::bigint
    from iot.ingest_gateway_hours
    where $1::text is null or client_id = $1
    group by gateway
    order by gateway
"""
"""One row a gateway; of one client id, or of all where it is null."""
