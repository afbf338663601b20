"""Records operations over many rows in `metadata.bulk_operation_log`, from their begin to their end.

Used by the operator's commands; the row is committed when the operation begins, so that one that was
killed is still there, as RUNNING. Owns no transaction of the operation itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

import asyncpg

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Operation: TypeAlias = Literal["IMPORT", "NORMALIZE", "REPLAY", "PURGE", "BACKFILL", "MAINTAIN"]
"""The check constraint of `operation_type` in `schema/metadata/V14`."""
FAULTS_KEPT = 20
"""Of a file in which every line is wrong, the first ones tell why."""

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
    if alone:
        await connection.execute(ABANDONED_SQL, operation)
    operation_id = await connection.fetchval(BEGIN_SQL, operation, target, source_file)
    tally = Tally()
    try:
        yield tally
    except BaseException as error:
        stopped = isinstance(error, (asyncio.CancelledError, KeyboardInterrupt))
        status = "CANCELLED" if stopped else "PARTIAL" if tally.successful else "FAILED"
        tally.faults.append(str(error) or type(error).__name__)
        # The connection may be what failed: the row then stays RUNNING, and the error is what counts.
        with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await _end(connection, operation_id, status, tally)
        raise
    await _end(connection, operation_id, tally.status, tally)


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
