"""The sessions of a share group: which of them have no process, and how one ends.

A process of a group holds an advisory lock on its writer's connection for as long as that lives. So a
session whose lock nobody holds is without its process, at this moment: it may be starting again, or have lost
the database for a second. Whoever wants to empty the session waits a while, then takes the lock, and claims
it only if nobody did in between: the epoch decides. Nothing is taken from a process that is alive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from ingest.errors import SessionTakenOver
from ingest.write.connection import opened
from ingest.write.journal import taken_over

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import asyncpg

CONNECT_TIMEOUT_S: Final = 10.0
QUERY_TIMEOUT_S: Final = 10.0
LOCK_SPACE: Final = 0x47_48_49_53
"""The first key of our advisory locks; migrating uses others."""

_TRY_LOCK = "select pg_try_advisory_lock($1::integer, hashtext($2::text))"
_LOCK = "select pg_advisory_lock($1::integer, hashtext($2::text))"
_EPOCH = "select epoch from iot.ingest_sessions where client_id = $1"
# pg_locks shows the keys as oids, which have no sign; objsubid 2 are locks with two keys.
_WITHOUT_PROCESS: Final = """
select
    session.client_id,
    session.epoch,
    session.host
from iot.ingest_sessions as session
where session.share_group = $1
    and not exists (
        select
        from pg_catalog.pg_locks as held
        join pg_catalog.pg_database as here
            on here.oid = held.database
            and here.datname = current_database()
        where held.locktype = 'advisory'
            and held.granted
            and held.objsubid = 2
            and held.classid::bigint = $2::bigint
            and held.objid::bigint = hashtext(session.client_id)::bigint & 4294967295
    )
order by session.client_id
"""
_IS_ALONE = "select exists (select from iot.ingest_sessions where client_id = $1 and share_group is null)"
_LOCK_ROW = "select client_id from iot.ingest_sessions where client_id = $1 and epoch = $2 for update"
_DELETE = "delete from iot.ingest_sessions where client_id = $1 and epoch = $2"


class Ownerless(NamedTuple):
    """A session of the group whose process is not connected to the database."""

    client_id: str
    epoch: int
    host: str | None
    """Where its last process ran."""


async def try_lock(connection: asyncpg.Connection, client_id: str) -> bool:
    """Show, for as long as *connection* lives, that the session has a process; False if it has one."""
    return bool(await connection.fetchval(_TRY_LOCK, LOCK_SPACE, client_id))


async def lock(connection: asyncpg.Connection, client_id: str) -> None:
    """Do so once whoever holds the lock has ended: one who empties the session, and is fenced off by now."""
    await connection.execute(_LOCK, LOCK_SPACE, client_id)


async def epoch_of(connection: asyncpg.Connection, client_id: str) -> int:
    """Give the epoch that a session without a process has. Raises SessionTakenOver when it is gone."""
    epoch: int | None = await connection.fetchval(_EPOCH, client_id)
    if epoch is None:
        raise SessionTakenOver(f"the session of client id {client_id!r} has ended already")
    return epoch


async def end(
    connection: asyncpg.Connection, client_id: str, epoch: int, at_broker: Callable[[], Awaitable[None]]
) -> None:
    """Delete the session's row once *at_broker* has ended it there; nobody can claim it meanwhile.

    Within the caller's transaction. Raises SessionTakenOver, asyncpg's errors, what *at_broker* raises.
    """
    if await connection.fetchval(_LOCK_ROW, client_id, epoch) is None:
        raise taken_over(client_id)
    await at_broker()
    await connection.execute(_DELETE, client_id, epoch)


async def ownerless(dsn: str, group: str) -> list[Ownerless]:
    """Give the sessions of *group* that have no process now. Raises DatabaseFault."""
    rows = await _fetch(dsn, _WITHOUT_PROCESS, group, LOCK_SPACE)
    return [Ownerless(row["client_id"], row["epoch"], row["host"]) for row in rows]


async def is_alone(dsn: str, client_id: str) -> bool:
    """Tell whether there is such a session, and it is subscribed by itself. Raises DatabaseFault."""
    (row,) = await _fetch(dsn, _IS_ALONE, client_id)
    return bool(row[0])


async def _fetch(dsn: str, statement: str, *arguments: object) -> list[asyncpg.Record]:
    """Ask on a connection of its own."""
    async with opened(
        dsn,
        "greenhouse-ingest supervisor",
        connect_timeout_s=CONNECT_TIMEOUT_S,
        query_timeout_s=QUERY_TIMEOUT_S,
    ) as connection:
        return await connection.fetch(statement, *arguments)
