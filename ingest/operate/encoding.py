"""Whether the databases are in UTF8, which alone holds every text that a gateway can send.

In another one, rows and dead letters are refused for a name in them. Changes nothing; runs in `ingest check`
and `ingest schema migrate` before they do anything else, and beside a worker that starts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ingest.migrate import Database
from ingest.migration_connection import connected, translated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingest.migration_connection import Connection
    from ingest.settings import Settings

_NEEDED: Final = "UTF8"


async def other_encoding(connection: Connection) -> str | None:
    """Return, in a line, what is wrong with the encoding of this database; None when nothing is."""
    encoding = str(await connection.fetchval("show server_encoding"))
    if encoding == _NEEDED:
        return None
    return (
        f"a database in {encoding}, which cannot hold every text that a gateway sends: {_NEEDED} is needed; "
        f"make another with `create database … encoding '{_NEEDED}' template template0`"
    )


async def wrong_encoding(settings: Settings, databases: Sequence[Database] = tuple(Database)) -> str | None:
    """Return what is wrong with one of *databases* that is not in UTF8; None when all are.

    Raises ConfigurationError, Unavailable, Misconfigured or MigrationError for one that cannot be asked.
    """
    for dsn, database in {settings.dsn(each.value): each for each in databases}.items():
        async with connected(dsn, database) as connection:
            with translated(f"asking for the encoding of the {database} database"):
                wrong = await other_encoding(connection)
        if wrong is not None:
            return f"{database}_dsn names {wrong}"
    return None
