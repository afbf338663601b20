"""The delivery journal: one row of `iot.ingest_sessions` for each MQTT session.

It answers three questions. Whose session is it: every claim takes a new epoch, and a batch whose
transaction finds another epoch is rolled back. What is committed: the last batch id, and the list
of deliveries whose PUBACK the broker has not proved to have (see `receive.acks`). What became of the
processes before this one: how many ended without a COMMIT, and over which message (see `ingest.caution`).
The ledgers' tables are moved by the same statement: what another process has fenced off counts nowhere.
"""

from __future__ import annotations

import os
import socket
import sys
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, get_args
from zlib import crc32

import asyncpg

from ingest.errors import ConfigurationError, SessionTakenOver
from ingest.model import MOST_SESSIONS, ClockFaultKind
from ingest.write.batch import Counts
from ingest.write.ledger import columns_of, times_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from ingest.write.ledger import Booking

# The row lock makes a claim wait for the transaction of an earlier owner that is about to commit. What an
# earlier owner had noted as suspect when it ended is poison; its own, a process keeps over its reconnects.
# The epoch begins at the clock: the row of an ended session is deleted, and a process that had it must stay
# fenced off from one of the same name, and cannot take up again what another has ended. A session of a share
# group gets the lowest number that nobody in it has.
_CLAIM = """
insert into iot.ingest_sessions as session
    (client_id, epoch, owner, unfinished_starts, host, process_id, claimed_at, share_group, clock_slot)
select
    $1,
    (extract(epoch from clock_timestamp()) * 1000000)::bigint,
    $5,
    1,
    $3,
    $4,
    now(),
    $6::text,
    case
        when $6 is not null then (
            select min(free.slot)
            from generate_series(0, $7::integer - 1) as free (slot)
            where not exists (
                select
                from iot.ingest_sessions as taken
                where taken.share_group = $6
                    and taken.clock_slot = free.slot
                    and taken.client_id <> $1
            )
        )
    end
where $2::bigint is null
    or $6 is null
    or exists (select from iot.ingest_sessions as known where known.client_id = $1)
on conflict (client_id) do update
    set epoch = session.epoch + 1,
        share_group = excluded.share_group,
        clock_slot = case
            when session.share_group = excluded.share_group then session.clock_slot
            else excluded.clock_slot
        end,
        unfinished_starts = session.unfinished_starts
            + case when session.owner is distinct from excluded.owner then 1 else 0 end,
        suspect = case when session.owner = excluded.owner then session.suspect end,
        poison = case
            when session.owner = excluded.owner or session.suspect is null then session.poison
            when session.poison_at > now() - interval '1 day'
                then substr(session.poison, greatest(octet_length(session.poison) - 99 * 32, 0) + 1)
                    || session.suspect
            else session.suspect
        end,
        poison_at = case
            when session.owner = excluded.owner or session.suspect is null then session.poison_at
            else now()
        end,
        owner = excluded.owner,
        host = excluded.host,
        process_id = excluded.process_id,
        claimed_at = excluded.claimed_at
    where $2::bigint is null or session.epoch = $2 or session.owner = $5
returning
    epoch,
    batch_id,
    pending,
    filters,
    clock_slot,
    unfinished_starts,
    case when poison_at > now() - interval '1 day' then poison else ''::bytea end as poison
"""
# unnest fills up what is shorter with NULL: a counter that no gateway moved is an empty array, an hour that
# all have is one element. So 1 000 gateways in a batch take 4 ms of our time, not 9; 8 ms of the server's.
_RECORD = """
with fenced as (
    update iot.ingest_sessions
    set batch_id = $3,
        pending = $4,
        unfinished_starts = case when suspect is null then 0 else unfinished_starts end,
        suspect = null,
        committed_at = now()
    where client_id = $1 and epoch = $2
    returning client_id
), counted as (
    insert into iot.ingest_counters as total (client_id, counter, value)
    select fenced.client_id, added.counter, added.value
    from fenced
    cross join unnest($5::text[], $6::bigint[]) as added (counter, value)
    on conflict (client_id, counter) do update
        set value = total.value + excluded.value, updated_at = now()
), by_gateway as (
    insert into iot.ingest_gateway_hours as total (
        hour, client_id, gateway, tenant_id, greenhouse_id, received, committed, skipped, ignored, decoded,
        written, duplicate, rejected, nulls, clock_future, clock_ancient, clock_unset, least_lag_s
    )
    select
        coalesce(added.hour, ($7::timestamptz[])[1]),
        fenced.client_id,
        added.gateway,
        added.tenant_id,
        added.greenhouse_id,
        coalesce(added.received, 0),
        coalesce(added.committed, 0),
        coalesce(added.skipped, 0),
        coalesce(added.ignored, 0),
        coalesce(added.decoded, 0),
        coalesce(added.written, 0),
        coalesce(added.duplicate, 0),
        coalesce(added.rejected, 0),
        coalesce(added.nulls, 0),
        coalesce(added.clock_future, 0),
        coalesce(added.clock_ancient, 0),
        coalesce(added.clock_unset, 0),
        added.least_lag_s
    from fenced
    cross join unnest(
        $7::timestamptz[], $8::text[], $9::uuid[], $10::uuid[], $11::bigint[], $12::bigint[],
        $13::bigint[], $14::bigint[], $15::bigint[], $16::bigint[], $17::bigint[], $18::bigint[],
        $19::bigint[], $20::bigint[], $21::bigint[], $22::bigint[], $23::double precision[]
    ) as added (
        hour, gateway, tenant_id, greenhouse_id, received, committed, skipped, ignored, decoded, written,
        duplicate, rejected, nulls, clock_future, clock_ancient, clock_unset, least_lag_s
    )
    order by 1, added.gateway
    on conflict (hour, client_id, gateway) do update
        set tenant_id = excluded.tenant_id,
            greenhouse_id = excluded.greenhouse_id,
            received = total.received + excluded.received,
            committed = total.committed + excluded.committed,
            skipped = total.skipped + excluded.skipped,
            ignored = total.ignored + excluded.ignored,
            decoded = total.decoded + excluded.decoded,
            written = total.written + excluded.written,
            duplicate = total.duplicate + excluded.duplicate,
            rejected = total.rejected + excluded.rejected,
            nulls = total.nulls + excluded.nulls,
            clock_future = total.clock_future + excluded.clock_future,
            clock_ancient = total.clock_ancient + excluded.clock_ancient,
            clock_unset = total.clock_unset + excluded.clock_unset,
            least_lag_s = least(total.least_lag_s, excluded.least_lag_s)
), by_greenhouse as (
    insert into iot.ingest_written_hours as total (hour, greenhouse_id, tenant_id, client_id, rows)
    select
        coalesce(added.hour, ($24::timestamptz[])[1]),
        added.greenhouse_id,
        added.tenant_id,
        fenced.client_id,
        added.rows
    from fenced
    cross join unnest($24::timestamptz[], $25::uuid[], $26::uuid[], $27::bigint[])
        as added (hour, greenhouse_id, tenant_id, rows)
    order by 1, added.greenhouse_id, added.tenant_id
    on conflict (hour, greenhouse_id, tenant_id, client_id) do update
        set rows = total.rows + excluded.rows
)
select count(*) from fenced
"""
_FORGET = "update iot.ingest_sessions set pending = $3 where client_id = $1 and epoch = $2"
_SUSPECT = "update iot.ingest_sessions set suspect = $3 where client_id = $1 and epoch = $2"
# Whoever owns the session by now: this process did not end over a message.
_TAKE_LEAVE = """
update iot.ingest_sessions
set unfinished_starts = greatest(unfinished_starts - 1, 0),
    suspect = case when owner is distinct from $2 then suspect end
where client_id = $1
"""
_STORE_FILTERS = "update iot.ingest_sessions set filters = $3 where client_id = $1 and epoch = $2"
# A backend in the middle of a COPY whose client froze, or whose network died, waits for its next row for as
# long as TCP lets it: PostgreSQL takes no statement_timeout while it reads from the client. Until it ends,
# whoever writes the same keys waits for it.
_END_FORMER = """
select pg_terminate_backend(pid)
from pg_stat_activity
where pid <> pg_backend_pid()
    and datname = current_database()
    and usename = session_user
    and application_name = current_setting('application_name')
"""
DIGEST_BYTES: Final = 32
"""Of a SHA-256: `poison` holds them one behind the other."""
_NAME_BYTES: Final = 63
"""What PostgreSQL keeps of an application_name."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A session as its new owner found it."""

    epoch: int
    batch_id: UUID | None
    """The last batch committed, by whomever."""
    pending: list[int]
    """Everything committed and unproven, oldest first; entries as `pack` stores them."""
    filters: tuple[str, ...]
    """What the session was last subscribed to."""
    unfinished_starts: int
    """This process and those right before it that ended without taking leave, nothing committed by any."""
    clock_slot: int | None
    """Its number in its share group: what receipt times are modulo MOST_SESSIONS; None without a group."""
    poison: list[bytes]
    """Digests of the messages that one of the last day had taken in alone when it ended, oldest first."""


async def claim(
    connection: asyncpg.Connection,
    client_id: str,
    owner: UUID,
    *,
    epoch: int | None,
    group: str | None = None,
) -> Claim:
    """Take a new epoch, waiting for any old transaction; with *epoch*, only if that is still current.

    *owner* is the caller's own number: a claim whose answer was lost is no stranger's. Raises
    SessionTakenOver when it is not, ConfigurationError when the share *group* is full, asyncpg's errors.
    """
    while True:
        try:
            record = await connection.fetchrow(
                _CLAIM, client_id, epoch, socket.gethostname(), os.getpid(), owner, group, MOST_SESSIONS
            )
            break
        except asyncpg.UniqueViolationError:  # two joined the group at once, and chose one number
            continue
        except asyncpg.CheckViolationError as error:
            raise ConfigurationError(
                [f"workers.group: {group!r} has {MOST_SESSIONS} sessions, and can have no more"]
            ) from error
    if record is None:
        raise taken_over(client_id)
    poison: bytes = record["poison"]
    return Claim(
        record["epoch"],
        record["batch_id"],
        unpack(record["pending"]),
        tuple(record["filters"]),
        record["unfinished_starts"],
        record["clock_slot"],
        [poison[start : start + DIGEST_BYTES] for start in range(0, len(poison), DIGEST_BYTES)],
    )


async def end_former(connection: asyncpg.Connection) -> None:
    """End the backends that earlier connections of this session left behind, open transactions and all.

    To be called after `claim`, which has fenced them and waited for one that was about to commit. Needs no
    privilege: they are the same role's. Raises asyncpg's errors.
    """
    await connection.execute(_END_FORMER)


def application_name(client_id: str) -> str:
    """Give the application_name by which `end_former` knows the session's backends: another for each id.

    PostgreSQL cuts longer ones and replaces what is not ASCII; such an id is told by its checksum.
    """
    name = f"greenhouse-ingest writer {client_id}"
    if name.isascii() and name.isprintable() and len(name) <= _NAME_BYTES:
        return name
    checksum = f"~{crc32(client_id.encode()):08x}"
    plain = name.encode("ascii", "replace").decode()
    return plain[: _NAME_BYTES - len(checksum)] + checksum


async def record(  # noqa: PLR0917 - the row's columns in their order
    connection: asyncpg.Connection,
    client_id: str,
    epoch: int,
    batch_id: UUID,
    pending: Sequence[int],
    counters: Mapping[str, int],
    booking: Booking,
) -> None:
    """Note a batch as committed, and whose it was: the last statement of its transaction.

    It clears the suspect, and the count of unfinished starts only where there was none: a message taken in
    alone says nothing of those behind it. Raises SessionTakenOver when another process owns the session by
    now; the caller rolls back.
    """
    moved = {name: value for name, value in counters.items() if value}
    owned = await connection.fetchval(
        _RECORD,
        client_id,
        epoch,
        batch_id,
        pack(pending),
        list(moved),
        list(moved.values()),
        *_columns_of(booking),
    )
    if not owned:
        raise taken_over(client_id)


async def forget(connection: asyncpg.Connection, client_id: str, epoch: int, pending: Sequence[int]) -> None:
    """Shorten the stored list to *pending* between batches, once the broker proved the rest."""
    if await connection.execute(_FORGET, client_id, epoch, pack(pending)) != "UPDATE 1":
        raise taken_over(client_id)


async def suspect(connection: asyncpg.Connection, client_id: str, epoch: int, digest: bytes) -> None:
    """Note the message that is about to be taken in alone, for whoever comes after this process."""
    if await connection.execute(_SUSPECT, client_id, epoch, digest) != "UPDATE 1":
        raise taken_over(client_id)


async def take_leave(connection: asyncpg.Connection, client_id: str, owner: UUID) -> None:
    """Take back that this process started, and what it suspected."""
    await connection.execute(_TAKE_LEAVE, client_id, owner)


async def store_filters(
    connection: asyncpg.Connection, client_id: str, epoch: int, filters: Sequence[str]
) -> None:
    """Remember what the session is subscribed to, so that a later configuration can end it."""
    if await connection.execute(_STORE_FILTERS, client_id, epoch, list(filters)) != "UPDATE 1":
        raise taken_over(client_id)


def pack(pending: Sequence[int]) -> bytes:
    """Give *pending* as stored: 8 bytes an entry, big-endian: packet id (uint32) and checksum (uint32)."""
    stored = array("Q", pending)
    if sys.byteorder == "little":
        stored.byteswap()
    return stored.tobytes()


def unpack(stored: bytes) -> list[int]:
    """Give the entries of a stored list, oldest first."""
    pending = array("Q", stored)
    if sys.byteorder == "little":
        pending.byteswap()
    return pending.tolist()


def _columns_of(booking: Booking) -> list[list[Any]]:
    """Give *booking* column by column, as `_RECORD` takes it from $7 on."""
    keys, hours = list(booking.gateways), list(booking.gateways.values())
    counts = [hour.counts for hour in hours]
    numbers = [[getattr(each, name) for each in counts] for name in Counts.__slots__]
    numbers += [[hour.clock_faults[kind] for hour in hours] for kind in get_args(ClockFaultKind)]
    return [
        times_of([hour_us for hour_us, _ in keys]),
        [gateway for _, gateway in keys],
        [hour.tenant_id for hour in hours],
        [hour.greenhouse_id for hour in hours],
        *(column if any(column) else [] for column in numbers),
        [None if hour.least_lag_us is None else hour.least_lag_us / 1e6 for hour in hours],
        *columns_of(booking.written),
    ]


def taken_over(client_id: str) -> SessionTakenOver:
    """Give what stops a process whose session is another's."""
    return SessionTakenOver(
        f"another process has claimed the session of client id {client_id!r}: this one stops; "
        "give each worker its own broker.client_id"
    )
