"""One connection to one of the two databases, for changing or examining its schema.

Owns the advisory lock that makes runners take turns, the bound on waiting for
locks, and what a driver's error means to the operator. Knows no file and no table. For the operator's
commands and the worker's check at start; every connection is its caller's alone.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, TypeAlias

import asyncpg

from ingest.addresses import dsn_places
from ingest.errors import ConfigurationError, MigrationError, Misconfigured, Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from ingest.migrate import Database

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

_NOT_THE_OWNER = (
    "Run this as the login that owns the schema and what is in it, or have an administrator hand it over: "
    "docs/database-logins.md."
)
# What an installation bounds its applications' statements with is no bound for building an index. Waiting for
# locks has one of its own.
_UNBOUNDED = {"statement_timeout": "0", "idle_in_transaction_session_timeout": "0"}
# PostgreSQL 17 and later.
_UNBOUNDED_TRANSACTION = """
    select set_config(name, '0', false)
    from pg_catalog.pg_settings
    where name = 'transaction_timeout'
"""


@asynccontextmanager
async def in_transaction(connection: Connection, *, keep: bool = True) -> AsyncIterator[None]:
    """Run what is inside in one transaction, rolled back at its end unless *keep*; waits 2 s for a lock."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        # A lock that is waited for makes every later statement on the table wait behind it.
        await connection.execute("set local lock_timeout = '2s'")
        yield
    except BaseException:
        if not connection.is_closed():  # a lost connection has rolled back already, and would hide the reason
            await transaction.rollback()
        raise
    await (transaction.commit() if keep else transaction.rollback())


@asynccontextmanager
async def locked(connection: Connection, database: Database) -> AsyncIterator[None]:
    """Hold *database*'s advisory lock until the connection is closed; wait for another runner first."""
    # Asked for again and again, not waited for: a waiting statement holds a snapshot, and the other runner's
    # `create index concurrently` would wait for it for ever. Closing the connection gives the lock back.
    with translated(f"waiting for another runner on the {database} database"):
        while not await connection.fetchval("select pg_try_advisory_lock($1)", database.lock_key):  # noqa: ASYNC110 -- the event is another process's
            await asyncio.sleep(0.2)
    yield


@asynccontextmanager
async def connected(dsn: str, database: Database) -> AsyncIterator[Connection]:
    """Connect to *database*. Raises ConfigurationError, Unavailable or Misconfigured."""
    what = f"cannot connect to the {database} database"
    where = f"{what} at {dsn_places(dsn)}"
    try:
        connection = await asyncpg.connect(
            dsn,
            timeout=30,
            server_settings={"application_name": "greenhouse-ingest schema", **_UNBOUNDED},
        )
    except (asyncpg.ClientConfigurationError, ValueError) as error:
        raise ConfigurationError([f"{what}: its DSN is not usable: {error}"]) from error
    except (OSError, asyncpg.CannotConnectNowError, asyncpg.TooManyConnectionsError) as error:
        raise Unavailable(
            f"{where}: {str(error) or 'no answer'}; is it running, is the address right?"
        ) from error
    except asyncpg.PostgresError as error:
        raise Misconfigured(f"{what}: {error}", error.sqlstate) from error
    try:
        with translated(what):
            await connection.execute(_UNBOUNDED_TRANSACTION)
        yield connection
    finally:
        await connection.close(timeout=5)


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn the driver's errors of *doing* something into Unavailable (try again) or MigrationError."""
    try:
        yield
    except asyncpg.PostgresError as error:
        if (error.sqlstate or "")[:2] in {"08", "53", "57"}:  # connection, resources, operator
            raise Unavailable(
                f"{doing}: {error.args[0]}; run again once the server is well", error.sqlstate
            ) from error
        # str(error) has detail and hint on lines of their own; here they are sentences after the message.
        hint = error.hint or (_NOT_THE_OWNER if error.sqlstate == "42501" else None)
        told = {"Detail": error.detail, "Hint": hint}
        more = "".join(f" {name}: {text}" for name, text in told.items() if text)
        raise MigrationError(f"{doing}: {error.args[0]} (SQLSTATE {error.sqlstate}).{more}") from error
    except (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as error:
        raise Unavailable(f"{doing}: the connection was lost ({error}); run again") from error
