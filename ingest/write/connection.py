"""A connection for one piece of work, beside the writer's own: for letters, or a supervisor's question.

On the event loop of whoever works on it; writes nothing.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg

from ingest.write.retry import translate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping


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
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as error:
        raise translate(error) from error
    finally:
        if connection is not None and not connection.is_closed():
            connection.terminate()
