"""Records operations over many rows in `metadata.bulk_operation_log`, from their begin to their end.

Used by the operator's commands; the row is committed when the operation begins, so that one that was
killed is still there, as RUNNING. Owns no transaction of the operation itself. Where its database is away at
the end, the work is done all the same: that is a remark, and no error.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from ingest.addresses import without_passwords
from ingest.errors import IngestError
from ingest.migrate import Database
from ingest.migration_connection import connected
from ingest.operate.reading import translated
from ingest.write.retry import DRIVER_ERRORS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import asyncpg

Operation: TypeAlias = Literal["IMPORT", "NORMALIZE", "REPLAY", "PURGE", "BACKFILL", "MAINTAIN"]
"""The check constraint of `operation_type` in `schema/metadata/V14`."""
FAULTS_KEPT = 20
"""Of a file in which every line is wrong, the first ones tell why."""
END_S: Final = 10.0
"""For writing the end down: the report waits for it."""

BEGIN_SQL = """
    insert into metadata.bulk_operation_log (operation_type, target_table, source_file)
    values ($1, $2, $3)
    returning id
"""
END_SQL = """
    update metadata.bulk_operation_log
    set status = $2,
        completed_at = clock_timestamp(),
        total_records = $3,
        successful_records = $4,
        failed_records = $5,
        skipped_records = $6,
        error_summary = $7
    where id = $1
"""
ABANDONED_SQL = """
    update metadata.bulk_operation_log
    set status = 'CANCELLED',
        completed_at = clock_timestamp(),
        error_summary = '["the process ended before its work did"]'
    where operation_type = $1
        and status = 'RUNNING'
        and started_by = session_user
"""


class Stopped(asyncio.CancelledError):
    """Raised in the body of `recorded` to end its row as CANCELLED; the caller catches it again."""


@dataclass(slots=True)
class Tally:
    """What an operation did so far, in records; the caller counts."""

    successful: int = 0
    failed: int = 0
    skipped: int = 0
    """Needed nothing."""
    faults: list[str] = field(default_factory=list)

    @property
    def status(self) -> str:
        """FAILED: nothing but failures was written down; PARTIAL: some records were."""
        if not self.faults and not self.failed:
            return "COMPLETED"
        return "PARTIAL" if self.successful else "FAILED"

    def status_after(self, error: BaseException) -> str:
        """Give the status of one that *error* ended, which is among the faults by then."""
        self.faults.append(str(error) or type(error).__name__)
        if isinstance(error, (asyncio.CancelledError, KeyboardInterrupt)):
            return "CANCELLED"
        return "PARTIAL" if self.successful else "FAILED"


@contextlib.asynccontextmanager
async def recorded(
    connection: asyncpg.Connection[asyncpg.Record],
    operation: Operation,
    target: str,
    *,
    source_file: str | None = None,
    alone: bool = False,
) -> AsyncIterator[Tally]:
    """Write the begin and the end of an operation on *target*; *connection* must be outside a transaction.

    What the body raises is recorded as FAILED, a cancellation as CANCELLED, and raised again. *alone*: a lock
    of the caller's lets no other run, so that one still RUNNING was killed, and is ended first.
    """
    operation_id = await _begin(connection, operation, target, source_file, alone=alone)
    tally = Tally()
    try:
        yield tally
    except BaseException as error:
        status = tally.status_after(error)
        # The connection may be what failed: the row then stays RUNNING, and the error is what counts.
        with contextlib.suppress(*DRIVER_ERRORS):
            await _end(connection, operation_id, status, tally)
        raise
    await _end(connection, operation_id, tally.status, tally)


@contextlib.asynccontextmanager
async def recorded_apart(
    dsn: str,
    operation: Operation,
    target: str,
    tell: Callable[[str], None],
    *,
    source_file: str | None = None,
    alone: bool = False,
) -> AsyncIterator[Tally]:
    """Do as `recorded`, for work elsewhere: with a connection for the begin, and one for the end.

    None is held in between, and so none is lost. Raises DatabaseFaults before the body, and nothing for the
    end: *tell* hears, for the operator, why it is not written down.
    """
    async with connected(dsn, Database.METADATA) as connection:
        with translated("metadata", "greenhouse_operator"):
            operation_id = await _begin(connection, operation, target, source_file, alone=alone)
    tally = Tally()
    try:
        yield tally
    except BaseException as error:
        await _end_apart(dsn, operation_id, tally.status_after(error), tally, tell)
        raise
    await _end_apart(dsn, operation_id, tally.status, tally, tell)


async def _begin(
    connection: asyncpg.Connection[asyncpg.Record],
    operation: Operation,
    target: str,
    source_file: str | None,
    *,
    alone: bool,
) -> int:
    if alone:
        await connection.execute(ABANDONED_SQL, operation)
    operation_id: int = await connection.fetchval(BEGIN_SQL, operation, target, source_file)
    return operation_id


async def _end_apart(
    dsn: str, operation_id: int, status: str, tally: Tally, tell: Callable[[str], None]
) -> None:
    try:
        async with asyncio.timeout(END_S), connected(dsn, Database.METADATA) as connection:
            await _end(connection, operation_id, status, tally)
    except (IngestError, *DRIVER_ERRORS) as error:  # a timeout is one
        reason = without_passwords(str(error)) or f"no answer in {END_S:.0f} s"
        tell(f"this run's row {operation_id} in metadata.bulk_operation_log stays RUNNING: {reason}")


async def _end(
    connection: asyncpg.Connection[asyncpg.Record], operation_id: int, status: str, tally: Tally
) -> None:
    await connection.execute(
        END_SQL,
        operation_id,
        status,
        tally.successful + tally.failed + tally.skipped,
        tally.successful,
        tally.failed,
        tally.skipped,
        json.dumps(tally.faults[:FAULTS_KEPT]) if tally.faults else None,
    )
