"""Dead letters that were only counted: `iot.ingest_dead_letter_overflow`, in the transaction of the batch.

What is past a month goes when the first of an hour comes: nothing else has to clear up here.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from ingest.storable import storable

if TYPE_CHECKING:
    import asyncpg

    from ingest.write.budget import Division

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ADD: Final = """
insert into iot.ingest_dead_letter_overflow as total
    (client_id, hour, gateway, tenant_id, topic, reason, messages, readings)
select $1, hour, gateway, (array_agg(tenant_id))[1], topic, reason, sum(messages), sum(readings)
from unnest($2::timestamptz[], $3::text[], $4::uuid[], $5::text[], $6::text[], $7::bigint[], $8::bigint[])
    as counted (hour, gateway, tenant_id, topic, reason, messages, readings)
group by hour, gateway, topic, reason
on conflict (client_id, hour, gateway, topic, reason) do update
    set messages = total.messages + excluded.messages, readings = total.readings + excluded.readings
"""
_CLEAR_UP: Final = "delete from iot.ingest_dead_letter_overflow where hour < now() - interval '30 days'"


async def add(connection: asyncpg.Connection, client_id: str, division: Division) -> None:
    """Add what *division* only counts, inside the caller's transaction. Raises asyncpg's errors."""
    keys = list(division.messages)
    await connection.execute(
        _ADD,
        storable(client_id),
        [_EPOCH + timedelta(microseconds=key.hour_us) for key in keys],
        [key.gateway for key in keys],
        [key.tenant_id for key in keys],
        [storable(key.topic) for key in keys],
        [key.reason for key in keys],
        [division.messages[key] for key in keys],
        [division.readings[key] for key in keys],
    )
    if division.first:
        await connection.execute(_CLEAR_UP)
