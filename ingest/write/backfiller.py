"""The connection of a backfill: one batch at a time, each a transaction, tried again where that may help.

Used by the operator's commands that bring rows no session delivered. A batch whose COMMIT was not answered
is written again: what is there by then is met by its key and counts as duplicate, and nothing is booked
twice. Gives up PATIENCE_S after a fault, with everything committed so far in place.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from ingest.write.backfill import Landed, Source, book, land
from ingest.write.connection import KeptConnection
from ingest.write.retry import until_done

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ingest.errors import DatabaseFault
    from ingest.model import Row
    from ingest.settings import WriteSettings

PATIENCE_S: Final = 60.0
"""From the first fault, for a failover or a restart; a command ends after that, and says how to go on."""


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
        self._kept = KeptConnection(dsn, settings, f"greenhouse-ingest {source}")
        self._settings = settings
        self._source: Source = source
        self._on_retry = on_retry
        self._straight = True
        """Whether the last batch met nothing: the next one is then tried by COPY alone."""

    async def store(self, rows: Sequence[Row], *, keep: bool = True) -> Landed:
        """Commit *rows*; without *keep* try them and roll back. Raises a DatabaseFault, nothing committed."""
        if not rows:
            return Landed()
        landed = await until_done(
            lambda: self._kept.attempt(lambda: self._transaction(rows, keep=keep)),
            min_s=self._settings.retry_min_s,
            max_s=self._settings.retry_max_s,
            on_retry=self._on_retry,
            patience_s=PATIENCE_S,
        )
        self._straight = landed.straight or not (landed.duplicate or landed.refused)
        return landed

    async def close(self) -> None:
        """Close the connection; a transaction still open is rolled back by the server."""
        self._kept.close()

    async def _transaction(self, rows: Sequence[Row], *, keep: bool) -> Landed:
        connection = await self._kept.opened()
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
