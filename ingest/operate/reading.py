"""A connection that can only read, for the operator's reports, and what a driver's error means to them."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import asyncpg

from ingest.addresses import dsn_places, without_passwords
from ingest.errors import DatabaseFault, Misconfigured, Unavailable
from ingest.write.retry import DRIVER_ERRORS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

DatabaseName: TypeAlias = Literal["metadata", "timeseries"]
RoleName: TypeAlias = Literal["greenhouse_operator", "greenhouse_reader"]

_CONNECT_TIMEOUT_S: Final = 10.0
_STATEMENT_TIMEOUT_S: Final = 600.0
"""For a report over a long range of a large table; Ctrl-C ends it sooner."""


@asynccontextmanager
async def reading_from(
    dsn: str, database: DatabaseName, role: RoleName = "greenhouse_operator"
) -> AsyncIterator[asyncpg.Connection]:
    """Connect to *database*, in UTC; raises DatabaseFaults, for the statements inside it too.

    *role* is enough for them.
    """
    with translated(database, role, dsn_places(dsn)):
        connection = await asyncpg.connect(
            dsn,
            timeout=_CONNECT_TIMEOUT_S,
            command_timeout=_STATEMENT_TIMEOUT_S,
            server_settings={
                "default_transaction_read_only": "on",
                "timezone": "UTC",
                "application_name": "greenhouse-ingest report",
            },
        )
        try:
            yield connection
        finally:
            await connection.close(timeout=_CONNECT_TIMEOUT_S)


@contextmanager
def translated(database: DatabaseName, role: RoleName, where: str = "") -> Iterator[None]:
    """Turn the driver's errors into DatabaseFaults that name *database*, *where* it is, and what to do."""
    try:
        yield
    except (
        asyncpg.UndefinedTableError,
        asyncpg.InvalidSchemaNameError,
        asyncpg.UndefinedColumnError,
    ) as error:
        text = f"the {database} database is not migrated: {error}; run `ingest schema migrate`"
        raise Misconfigured(text, error.sqlstate) from error
    except asyncpg.InsufficientPrivilegeError as error:
        text = f"this role may not read the {database} database: {error}; grant it {role}"
        raise Misconfigured(text, error.sqlstate) from error
    except asyncpg.PostgresError as error:
        text = f"the {database} database refused: {without_passwords(str(error))}"
        raise DatabaseFault(text, error.sqlstate) from error
    except DRIVER_ERRORS as error:
        reason = without_passwords(str(error)) or "it did not answer in time"
        raise Unavailable(
            f"the {database} database is not reached{where and f' at {where}'}: {reason}"
        ) from error
