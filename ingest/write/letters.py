"""Dead letters as they are stored: the connection for working on them, finding them, taking them up locked.

Used by the operator's commands and by the worker that heals, each on a connection of its own; what is done
with the letters taken is in replay.py.
"""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ingest.model import Rejection
from ingest.write.connection import opened, writing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    import asyncpg

    from ingest.settings import WriteSettings

MAX_BATCH_BYTES: Final = 8 * 1024 * 1024
"""Of payloads in one transaction: 32 of the largest, 40 000 of the usual ones."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

# octet_length of a payload out of line costs no reading of it.
_FIND: Final = """
select dead_letter_id, octet_length(payload) as payload_bytes
from iot.ingest_dead_letters
where dead_letter_id = any ($1::bigint[])
    and payload_sha256 is null
order by dead_letter_id
"""
_LOCKED: Final = "for update skip locked"
_FIND_AND_LOCK: Final = _FIND + _LOCKED
_READ: Final = """
select dead_letter_id, received_at, topic, payload, rejected, rejected_count, missing
from iot.ingest_dead_letters
where dead_letter_id = any ($1::bigint[])
order by dead_letter_id
"""
_LACKING: Final = """
select dead_letter_id
from iot.ingest_dead_letters
where missing && $1::text[]
    and payload_sha256 is null
    and dead_letter_id > $2
order by dead_letter_id
limit $3
"""
_MISSING_NAMES: Final = """
select distinct m.name
from iot.ingest_dead_letters as d
cross join lateral unnest(d.missing) as m (name)
where d.missing is not null
    and coalesce(d.replayed_at, d.recorded_at) >= $1
limit $2
"""


class StoredLetter(NamedTuple):
    """One row of `iot.ingest_dead_letters` whose payload was kept whole."""

    dead_letter_id: int
    receipt_us: int
    topic: str
    payload: bytes
    rejections: tuple[Rejection, ...]
    """May be a sample: `rejected_count` has their number."""
    rejected_count: int
    missing: tuple[str, ...] = ()


@asynccontextmanager
async def connected(
    dsn: str, settings: WriteSettings, application_name: str
) -> AsyncIterator[asyncpg.Connection]:
    """Open a connection as the writer's, for letters; thrown away with what the body raises.

    Raises DatabaseFault for the driver's errors, of the body too.
    """
    async with opened(
        dsn,
        application_name,
        connect_timeout_s=settings.connect_timeout_s,
        query_timeout_s=settings.commit_timeout_s + settings.connect_timeout_s,
        server_settings={
            **writing(settings),
            # One name and a thousand, a filter given and one left out: each wants a plan of its own.
            "plan_cache_mode": "force_custom_plan",
        },
    ) as connection:
        yield connection


async def missing_names(
    connection: asyncpg.Connection, since: datetime, limit: int
) -> tuple[list[str], datetime]:
    """Give the names that letters written or changed *since* lack, at most *limit*, and when it was asked."""
    asked_at: datetime = await connection.fetchval("select now()")
    return [record["name"] for record in await connection.fetch(_MISSING_NAMES, since, limit)], asked_at


async def lacking(connection: asyncpg.Connection, names: Sequence[str], after: int, limit: int) -> list[int]:
    """Give the letters numbered over *after* that lack one of *names*, in their order, at most *limit*."""
    return [record["dead_letter_id"] for record in await connection.fetch(_LACKING, names, after, limit)]


async def take(
    connection: asyncpg.Connection, letters: Sequence[int], *, lock: bool
) -> tuple[list[StoredLetter], list[int]]:
    """Give the first of *letters* whose payloads fit MAX_BATCH_BYTES, and the numbers of the others found.

    One at least, if one is there. With *lock* they are locked until the transaction's end, and those that
    somebody else has locked are passed over, as are those kept in part only. Raises asyncpg's errors.
    """
    found = await connection.fetch(_FIND_AND_LOCK if lock else _FIND, letters)
    fitting, size = 0, 0
    for record in found:
        size += record["payload_bytes"]
        if fitting and size > MAX_BATCH_BYTES:
            break
        fitting += 1
    numbers = [record["dead_letter_id"] for record in found]
    records = await connection.fetch(_READ, numbers[:fitting])
    return [_stored_letter(record) for record in records], numbers[fitting:]


def _stored_letter(record: asyncpg.Record) -> StoredLetter:
    rejected: list[dict[str, Any]] = json.loads(record["rejected"])
    return StoredLetter(
        record["dead_letter_id"],
        (record["received_at"] - _EPOCH) // _MICROSECOND,
        record["topic"],
        record["payload"],
        tuple(Rejection(each["field"] or "", each["reason"], each["detail"]) for each in rejected),
        record["rejected_count"],
        tuple(record["missing"] or ()),
    )
