"""The connection of a backfill: one batch at a time, each a transaction, tried again where that may help.

Used by the operator's commands that bring rows no session delivered. A batch whose COMMIT was not answered
is written again: what is there by then is met by its key and counts as duplicate, and nothing is booked
twice. Gives up after PATIENCE_S, with everything committed so far in place.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import asyncpg
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from ingest.errors import DatabaseFault, Unavailable
from ingest.write.backfill import Landed, Source, book, land
from ingest.write.retry import translate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tenacity import RetryCallState

    from ingest.model import Row
    from ingest.settings import WriteSettings

PATIENCE_S: Final = 60.0
"""For a failover, or a restart; a command ends after that, and says how to go on."""


class Backfiller:
    """See the module's header. Not for two tasks at once."""

    def __init__(
        self,
        dsn: str,
        settings: WriteSettings,
        source: Source,
        *,
        on_retry: Callable[[DatabaseFault, float], None] = lambda _fault, _wait_s: None,
    ) -> None:
        """Prepare; nothing connects before the first batch. *on_retry* hears of a fault and the wait (s)."""
        self._dsn = dsn
        self._settings = settings
        self._source: Source = source
        self._on_retry = on_retry
        self._connection: asyncpg.Connection | None = None
        self._straight = True
        """Whether the last batch met nothing: the next one is then tried by COPY alone."""

    async def store(self, rows: Sequence[Row], *, keep: bool = True) -> Landed:
        """Commit *rows*; without *keep* try them and roll back. Raises a DatabaseFault, nothing committed."""
        if not rows:
            return Landed()
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(Unavailable),
            wait=wait_random_exponential(
                multiplier=self._settings.retry_min_s, max=self._settings.retry_max_s
            ),
            stop=stop_after_delay(PATIENCE_S),
            before_sleep=self._tell,
            reraise=True,
        )
        landed: Landed = await retrying(self._attempt, rows, keep=keep)
        self._straight = landed.straight or not (landed.duplicate or landed.refused)
        return landed

    async def close(self) -> None:
        """Close the connection; a transaction still open is rolled back by the server."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    def _tell(self, state: RetryCallState) -> None:
        fault = state.outcome.exception() if state.outcome else None
        if isinstance(fault, DatabaseFault):
            self._on_retry(fault, state.next_action.sleep if state.next_action else 0.0)

    async def _attempt(self, rows: Sequence[Row], *, keep: bool) -> Landed:
        try:
            async with asyncio.timeout(self._settings.commit_timeout_s):
                return await self._transaction(await self._connected(), rows, keep=keep)
        except (
            asyncpg.PostgresError,
            asyncpg.InterfaceError,
            asyncpg.InternalClientError,
            OSError,
        ) as error:  # a timeout is an OSError
            await self.close()
            raise translate(error) from error
        except asyncio.CancelledError:
            await self.close()
            raise

    async def _transaction(
        self, connection: asyncpg.Connection, rows: Sequence[Row], *, keep: bool
    ) -> Landed:
        transaction = connection.transaction()
        await transaction.start()
        landed = await land(
            connection,
            rows,
            policy=self._settings.conflicting_value,
            now_us=time.time_ns() // 1000,
            straight=self._straight,
        )
        if keep:
            await book(connection, landed.new, self._source)
            await transaction.commit()
        else:
            await transaction.rollback()
        return landed

    async def _connected(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            timeout_ms = str(int(self._settings.commit_timeout_s * 1000))
            self._connection = await asyncpg.connect(
                self._dsn,
                timeout=self._settings.connect_timeout_s,
                server_settings={
                    "application_name": f"greenhouse-ingest {self._source}",
                    "timezone": "UTC",
                    "statement_timeout": timeout_ms,
                    "idle_in_transaction_session_timeout": timeout_ms,
                    "timescaledb.max_tuples_decompressed_per_dml_transaction": "0",  # as the writer's
                },
            )
        return self._connection
