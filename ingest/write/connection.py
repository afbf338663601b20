"""Connections to the timeseries database: for one piece of work, or kept from one to the next.

On the event loop of whoever works on them; what is written is theirs.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import asyncpg

from ingest.write.retry import DRIVER_ERRORS, translate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from ingest.settings import WriteSettings

T = TypeVar("T")


@asynccontextmanager
async def opened(
    dsn: str,
    application_name: str,
    *,
    connect_timeout_s: float,
    query_timeout_s: float,
    server_settings: Mapping[str, str] | None = None,
) -> AsyncIterator[asyncpg.Connection]:
    """Open a connection in UTC for the body; thrown away with what that raises.

    Raises DatabaseFault for the driver's errors, of the body too.
    """
    connection: asyncpg.Connection | None = None
    try:
        connection = await asyncpg.connect(
            dsn,
            timeout=connect_timeout_s,
            command_timeout=query_timeout_s,
            server_settings={
                "application_name": application_name,
                "timezone": "UTC",
                **(server_settings or {}),
            },
        )
        yield connection
        await connection.close(timeout=connect_timeout_s)
    except DRIVER_ERRORS as error:
        raise translate(error) from error
    finally:
        if connection is not None and not connection.is_closed():
            connection.terminate()


def writing(settings: WriteSettings) -> dict[str, str]:
    """Give the server's settings for whoever writes rows."""
    timeout_ms = str(int(settings.commit_timeout_s * 1000))
    return {
        "statement_timeout": timeout_ms,
        # A connection that died half-way must not hold the session's row for hours.
        "idle_in_transaction_session_timeout": timeout_ms,
        # Late rows decompress the segments they fall into; TimescaleDB's limit of 100 000 tuples a statement
        # would refuse whole batches of them (SQLSTATE 53400).
        "timescaledb.max_tuples_decompressed_per_dml_transaction": "0",
    }


class KeptConnection:
    """A connection for writing rows, opened anew once it is lost. Not for two tasks at once."""

    def __init__(self, dsn: str, settings: WriteSettings, application_name: str) -> None:
        """Prepare; nothing connects before the first use."""
        self._dsn = dsn
        self._settings = settings
        self._application_name = application_name
        self._connection: asyncpg.Connection | None = None

    async def opened(self) -> asyncpg.Connection:
        """Give the connection, the same for as long as it lasts. Raises asyncpg's errors, and OSError."""
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(
                self._dsn,
                timeout=self._settings.connect_timeout_s,
                server_settings={
                    "application_name": self._application_name,
                    "timezone": "UTC",
                    **writing(self._settings),
                },
            )
        return self._connection

    async def attempt(self, work: Callable[[], Awaitable[T]]) -> T:
        """Await *work* once, for write.commit_timeout_s at most; a failure costs the connection.

        Raises DatabaseFault for the driver's errors and for the deadline.
        """
        try:
            async with asyncio.timeout(self._settings.commit_timeout_s):
                return await work()
        except DRIVER_ERRORS as error:
            self.close()
            raise translate(error) from error
        except asyncio.CancelledError:
            self.close()
            raise

    def close(self) -> None:
        """Close it; a transaction still open is rolled back by the server."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()
