"""Runs one migration file beside writers that go on writing.

Owns how long a statement may wait for a lock, when it is tried again, and the directive `each row`. What a
writer waits behind a migration is one wait for a lock and the statement itself, whatever else holds the
table. Knows no history and no table; the connection is the runner's alone (migrate.py).

In a file without a transaction, a query whose comment has the line `-- each row: a statement to run` gives
statements, which are run in its order: for what has to be done chunk by chunk and refuses a transaction
(`create index concurrently`). It has to give only what is still to be done, so that it can be repeated
after it was cut off anywhere; it is what psql calls gexec.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import asyncpg
from tenacity import AsyncRetrying, retry_if_exception, wait_random

from ingest.errors import MigrationError
from ingest.migration_connection import translated
from ingest.migration_files import split_statements

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from tenacity import RetryCallState

    from ingest.migration_connection import Connection
    from ingest.migration_files import Migration, Statement

LOCK_TIMEOUT_MS = 100
"""A statement waiting for a lock makes every later one on the table wait behind it: half of the 200 ms that a
writer may wait for a migration."""
LOCK_PATIENCE_S = 600.0
"""How long a lock is tried for again before the runner gives up: longer than a backup's or a report's
transaction usually lasts."""
INTERNAL_ERROR_TRIES = 5
"""XX000 is what PostgreSQL answers when a grant meets a compression job at one row of a catalog."""
PAUSE_MIN_S = 0.1
PAUSE_MAX_S = 1.0
"""Between two tries writers have the table for themselves."""

# duplicate table, object, function; no such column, not that kind of object
_IN_THE_WAY = {"42P07", "42710", "42723", "42703", "42809"}
_EACH_ROW = re.compile(r"^-- each row: a statement to run[ \t]*\r?$", re.MULTILINE)
_CONCURRENTLY = re.compile(r"(create (unique )?index|drop index|reindex \w+) concurrently\b", re.IGNORECASE)
_LEADING_COMMENTS = re.compile(r"(\s*--[^\n]*\n)*\s*")

# Whoever has had a transaction open for a second or more is who the lock waits for, as far as one may see.
_OPEN_TRANSACTIONS = """
    select pid, application_name, state, extract(epoch from now() - xact_start)::integer as age_s
    from pg_stat_activity
    where datname = current_database()
        and pid <> pg_backend_pid()
        and xact_start < now() - interval '1 second'
    order by xact_start
    limit 3
"""


async def run_file(
    connection: Connection,
    file: Migration,
    record: Callable[[], Awaitable[None]],
    *,
    lock_patience_s: float = LOCK_PATIENCE_S,
) -> None:
    """Run *file* and *record* it: in one transaction, or statement by statement where its header says so.

    A lock not to be had within LOCK_TIMEOUT_MS, or a deadlock, has the transaction (or the one statement)
    begun again, for *lock_patience_s* at most; a row of a catalog that a job changed as well, a few times.
    Raises MigrationError or Unavailable, naming the line.
    """
    statements = split_statements(file.path.read_text(encoding="utf-8"))
    if file.transactional:
        _refuse_each_row(file, statements)
        steps = [partial(_in_one_transaction, connection, file, statements, record)]
    else:
        steps = [partial(_alone, connection, file, statement) for statement in statements]
        steps.append(partial(_recorded, file, record))
    for step in steps:
        try:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception(_may_go_next_time),
                stop=partial(_given_up, lock_patience_s),
                wait=wait_random(PAUSE_MIN_S, PAUSE_MAX_S),
                reraise=True,
            ):
                with attempt:
                    await step()
        except MigrationError as error:
            if _is_a_lock_not_had(error):
                raise MigrationError(await _gave_up(connection, error, lock_patience_s)) from error
            raise


def _refuse_each_row(file: Migration, statements: list[Statement]) -> None:
    for statement in statements:
        if _EACH_ROW.search(_comments(statement.text)):
            raise MigrationError(
                f"{file.path.name}, line {statement.line}: `each row` needs `-- transaction: none` in the "
                "file's header"
            )


async def _in_one_transaction(
    connection: Connection,
    file: Migration,
    statements: list[Statement],
    record: Callable[[], Awaitable[None]],
) -> None:
    name = file.path.name
    transaction = connection.transaction()
    with translated(f"beginning {name}"):
        await transaction.start()
    try:
        with translated(f"beginning {name}"):
            await connection.execute(_lock_timeout(LOCK_TIMEOUT_MS, local=True))
        for statement in statements:
            with _told(f"{name}, line {statement.line} (nothing of it was kept)"):
                await connection.execute(statement.text)
        await _recorded(file, record)
    except BaseException:
        if not connection.is_closed():  # a lost connection has rolled back already, and would hide the reason
            await transaction.rollback()
        raise
    with translated(f"committing {name} (`ingest schema status` tells whether it was)"):
        await transaction.commit()


async def _alone(connection: Connection, file: Migration, statement: Statement) -> None:
    """Run a statement outside a transaction, or every statement that an `each row` query gives."""
    with _told(f"{file.path.name}, line {statement.line} (it may be run again as it is)"):
        if _EACH_ROW.search(_comments(statement.text)):
            to_run = [str(row[0]) for row in await connection.fetch(statement.text)]
        else:
            to_run = [statement.text]
        for text in to_run:
            # What is done concurrently holds up no writer, and has to wait for every open transaction.
            concurrently = _CONCURRENTLY.match(text, len(_comments(text)))
            await connection.execute(_lock_timeout(0 if concurrently else LOCK_TIMEOUT_MS))
            try:
                await connection.execute(text)
            finally:
                if not connection.is_closed():
                    await connection.execute("reset lock_timeout")


@contextmanager
def _told(doing: str) -> Iterator[None]:
    """As `translated`; of an object in the way, say what to do about it as well."""
    try:
        with translated(doing):
            yield
    except MigrationError as error:
        cause = error.__cause__
        if isinstance(cause, asyncpg.PostgresError) and cause.sqlstate in _IN_THE_WAY:
            raise MigrationError(
                f"{error} What is there by that name is not what this file makes: rename or drop it, or "
                "adopt the database (`ingest schema baseline`), then migrate again"
            ) from cause
        raise


async def _recorded(file: Migration, record: Callable[[], Awaitable[None]]) -> None:
    with translated(f"recording {file.path.name}"):
        await record()


async def _gave_up(connection: Connection, error: MigrationError, patience_s: float) -> str:
    with translated("looking who holds the lock"):
        holders = await connection.fetch(_OPEN_TRANSACTIONS)
    listed = "; ".join(
        f"pid {row['pid']} ({row['application_name'] or 'no name'}, {row['state']}) for {row['age_s']} s"
        for row in holders
    )
    return (
        f"{error} Tried for {patience_s:.0f} s. Transactions open: {listed or 'none that lasted'}. "
        "Have them ended, then run again"
    )


def _may_go_next_time(error: BaseException) -> bool:
    return _is_a_lock_not_had(error) or isinstance(error.__cause__, asyncpg.InternalServerError)


def _given_up(lock_patience_s: float, state: RetryCallState) -> bool:
    """Tell whether another try is one too many; an internal error that comes again is no job's doing."""
    error = state.outcome.exception() if state.outcome else None
    if error is not None and not _is_a_lock_not_had(error):
        return state.attempt_number >= INTERNAL_ERROR_TRIES
    return (state.seconds_since_start or 0.0) >= lock_patience_s


def _is_a_lock_not_had(error: BaseException) -> bool:
    return isinstance(error.__cause__, (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError))


def _comments(text: str) -> str:
    """Return the comment lines that *text* begins with."""
    found = _LEADING_COMMENTS.match(text)
    return found.group() if found else ""


def _lock_timeout(milliseconds: int, *, local: bool = False) -> str:
    return f"set {'local ' if local else ''}lock_timeout = {milliseconds}"
