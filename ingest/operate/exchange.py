"""Whether the two DSNs are exchanged: each database is asked which of our two schemas it holds.

One database that holds the other's schema and not its own was not meant: migrating it would make both schemas
in the wrong places. Both DSNs may name one database, whichever schema it got first. Changes nothing; runs
in `ingest check` and `ingest schema migrate` before they do anything else, beside a worker that starts, and
after any command that failed.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final, NamedTuple

from ingest.errors import ConfigurationError, DatabaseFault, IngestError, MigrationError, Unavailable
from ingest.migrate import Database
from ingest.migration_connection import connected, translated
from ingest.operate.encoding import wrong_encoding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingest.settings import Settings

_RETRY_S: Final = 5.0
_TIMEOUT_S: Final = 10.0

# The system catalogs, since a login sees those whatever it was granted; a table of ours, since others may
# have a schema named metadata. The server's start and a number there tell a database, whatever its address.
_HELD: Final = """
select
    pg_postmaster_start_time()::text || ' ' || d.oid::text as identity,
    array(
        select n.nspname::text
        from pg_catalog.pg_namespace as n
        where n.nspname in ('metadata', 'iot')
            and exists (
                select
                from pg_catalog.pg_class as c
                where c.relnamespace = n.oid
                    and c.relkind in ('r', 'p')
                    and c.relname in ('schema_history', 'greenhouses', 'sensor_readings')
            )
    ) as schemas
from pg_catalog.pg_database as d
where d.datname = current_database()
"""


class _Held(NamedTuple):
    identity: str
    schemas: tuple[str, ...]
    """Of our two schemas, those that hold a table of ours."""

    def is_strange(self, database: Database) -> bool:
        """Tell whether it holds the other schema alone: it is no *database* then, unless it is to be both."""
        return database.schema not in self.schemas and bool(self.schemas)


async def exchange(settings: Settings, databases: Sequence[Database] = tuple(Database)) -> str | None:
    """Return what is wrong with the DSNs of *databases*; None when nothing is, or when only one is set.

    Raises ConfigurationError, Unavailable or Misconfigured for a database that cannot be asked.
    """
    for database in databases:
        other = Database.TIMESERIES if database is Database.METADATA else Database.METADATA
        if _dsn(settings, other) in {"", _dsn(settings, database)}:
            continue
        here = await _held(_dsn(settings, database), database)
        if not here.is_strange(database):
            continue
        wrong = f"{database}_dsn names a database that holds schema {other.schema} and not {database.schema}"
        try:
            there = await _held(_dsn(settings, other), other)
        except DatabaseFault as fault:
            raise Unavailable(f"{wrong}; is it exchanged with {other}_dsn? {fault}") from fault
        if there.identity == here.identity:
            continue
        if there.is_strange(other):
            return (
                f"{wrong}, and {other}_dsn one that holds schema {database.schema} and not {other.schema}: "
                f"the two are exchanged. Exchange {_named(settings, database)} and {_named(settings, other)}"
            )
        return (
            f"{wrong}: it is no {database} database. Name another in {_named(settings, database)}, or the "
            f"same one as in {_named(settings, other)}"
        )
    return None


async def found(settings: Settings) -> str | None:
    """Return what `exchange` does; None, too, when a database does not answer: that is told elsewhere."""
    with contextlib.suppress(IngestError, TimeoutError):
        async with asyncio.timeout(_TIMEOUT_S):
            return await exchange(settings)
    return None


async def watch(settings: Settings) -> None:
    """Return once both databases have answered.

    Raises ConfigurationError when the DSNs are exchanged, or one names a database that is not in UTF8.
    A database that is away is asked again, for ever: the worker waits for it as well.
    """
    while True:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                wrong = await exchange(settings) or await wrong_encoding(settings)
        except (DatabaseFault, MigrationError, ConfigurationError, TimeoutError):
            await asyncio.sleep(_RETRY_S)  # what is the matter is told by who needs the database
            continue
        if wrong is not None:
            raise ConfigurationError([wrong])
        return


async def _held(dsn: str, database: Database) -> _Held:
    async with connected(dsn, database) as connection:
        with translated(f"looking which schemas the {database} database holds"):
            (row,) = await connection.fetch(_HELD)
    return _Held(row["identity"], tuple(row["schemas"]))


def _dsn(settings: Settings, database: Database) -> str:
    secret = settings.metadata_dsn if database is Database.METADATA else settings.timeseries_dsn
    return secret.get_secret_value() if secret else ""


def _named(settings: Settings, database: Database) -> str:
    """Return where the DSN was set: the variable, or the file and its option."""
    option = f"{database}_dsn"
    source = settings.source_of(option)
    return source if source.startswith("INGEST_") else f"{option} in {source}"
