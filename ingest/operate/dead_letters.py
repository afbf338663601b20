"""Dead letters for people: which messages lost fields, why, and what they looked like.

Reads `iot.ingest_dead_letters` only; the worker writes it (write/deadletters.py), replay_letters.py and
purge_letters.py work it off. Runs in the operator's command on a connection of its own, in one read-only
statement each.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ingest.errors import CheckFailed
from ingest.operate.letter_filter import CONDITIONS
from ingest.operate.reading import reading_from

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from ingest.operate.letter_filter import LetterFilter

_LIST = """
    select
        dead_letter_id,
        received_at,
        client_id,
        topic,
        payload_bytes,
        tenant_id,
        reasons,
        rejected_count
    from iot.ingest_dead_letters
"""
_NEWEST_FIRST = "order by received_at desc, dead_letter_id desc limit $8"
_LIST_SQL = _LIST + CONDITIONS + _NEWEST_FIRST

_ONLY_COUNTED = """
    select coalesce(sum(readings), 0)
    from iot.ingest_dead_letter_overflow
    where ($1::text[] is null or reason = any ($1))
      and ($2::text is null or topic = left($2, 200))
      and ($3::text is null or topic ~ $3)
      and ($4::timestamptz is null or hour >= date_trunc('hour', $4))
      and ($5::timestamptz is null or hour < $5)
      and ($6::uuid is null or tenant_id = $6)
      and $7::bigint[] is null
"""

_SHOW = """
    select
        dead_letter_id,
        received_at,
        recorded_at,
        client_id,
        topic,
        payload,
        payload_bytes,
        payload_sha256,
        tenant_id,
        missing,
        rejected
    from iot.ingest_dead_letters
    where dead_letter_id = $1
"""


@dataclass(frozen=True, slots=True)
class DeadLetterLine:
    """One message in a list, without its payload."""

    dead_letter_id: int
    received_at: datetime
    client_id: str
    topic: str
    payload_bytes: int
    tenant_id: UUID | None
    reasons: list[str]
    rejected_count: int


@dataclass(frozen=True, slots=True)
class DeadLetterMessage:
    """One message with everything kept of it."""

    dead_letter_id: int
    received_at: datetime
    recorded_at: datetime
    client_id: str
    topic: str
    payload: bytes
    payload_bytes: int
    """Length of the payload as received; more than `len(payload)` when only its start was kept."""
    payload_sha256: bytes | None
    tenant_id: UUID | None
    missing: list[str] | None
    """Names it waits for: once the catalog has one, a worker replays it."""
    rejected: list[dict[str, Any]]
    """Each {"field", "reason", "detail"}."""


async def list_dead_letters(dsn: str, wanted: LetterFilter, *, limit: int) -> list[DeadLetterLine]:
    """Return the newest *limit* messages that fit.

    Raises Unavailable, Misconfigured or another DatabaseFault.
    """
    async with reading_from(dsn, "timeseries") as connection:
        records = await connection.fetch(_LIST_SQL, *wanted.arguments(), limit)
    return [DeadLetterLine(**dict(record)) for record in records]


async def count_overflow(dsn: str, wanted: LetterFilter) -> int:
    """Count the rejected readings past a budget, of which nothing else is kept; by whole hours.

    Under a topic, without those that have no count by topic. Raises as `list_dead_letters` does.
    """
    async with reading_from(dsn, "timeseries") as connection:
        return int(await connection.fetchval(_ONLY_COUNTED, *wanted.arguments()))


async def show_dead_letter(dsn: str, dead_letter_id: int) -> DeadLetterMessage:
    """Return one message. Raises CheckFailed when there is none of this number, or a DatabaseFault."""
    async with reading_from(dsn, "timeseries") as connection:
        record = await connection.fetchrow(_SHOW, dead_letter_id)
    if record is None:
        raise CheckFailed(f"dead letter {dead_letter_id} does not exist: see `ingest dead-letters list`")
    return DeadLetterMessage(**{**dict(record), "rejected": json.loads(record["rejected"])})
