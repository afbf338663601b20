"""Bring a database's schema to what the files under ``schema/`` say, and tell how far it is from that.

Owns the history tables ``metadata.schema_history`` and ``iot.schema_history``, and nothing else of the
schema: what a table looks like is in the SQL files. Never edits or reorders what was applied, never writes
Flyway's own history. Runs in the operator's commands and in the worker's check at start, on a connection of
its own.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, contextmanager
from enum import StrEnum
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, TypeAlias

import asyncpg

from ingest.errors import ConfigurationError, MigrationError, Misconfigured, Unavailable
from ingest.migration_files import (
    Migration,
    MigrationState,
    examine,
    load_migrations,
    split_statements,
    version_key,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from datetime import datetime

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


class Database(StrEnum):
    """The two databases; they may be one, since their schemas do not collide."""

    METADATA = "metadata"
    TIMESERIES = "timeseries"

    @property
    def schema(self) -> str:
        """The schema this database's files create."""
        return "metadata" if self is Database.METADATA else "iot"

    @property
    def lock_key(self) -> int:
        """Key of the session advisory lock; arbitrary, but the same in every release."""
        return 5_147_260_401 if self is Database.METADATA else 5_147_260_402


def schema_folder(database: Database) -> Path:
    """Return the folder of *database*'s files: inside the installed package, else beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "schema" / database
    return inside if inside.is_dir() else package.parent / "schema" / database


_CREATE_HISTORY = Template("""
    create schema if not exists $schema;
    create table if not exists $schema.schema_history (
        version text not null,
        description text not null,
        checksum text not null,
        applied_at timestamptz not null default now(),
        applied_by text not null default current_user,
        execution_ms bigint not null,
        kind text not null,
        constraint schema_history_pkey primary key (version),
        constraint schema_history_kind_check check (kind in ('migrate', 'baseline'))
    );
    comment on table $schema.schema_history is 'Migrations applied to this schema; kept by `ingest schema`.';
    comment on column $schema.schema_history.version is 'Version in the file''s name.';
    comment on column $schema.schema_history.description is 'Description in the file''s name.';
    comment on column $schema.schema_history.checksum is 'SHA-256 of the file''s bytes, in hex.';
    comment on column $schema.schema_history.applied_at is 'When.';
    comment on column $schema.schema_history.applied_by is 'By which role.';
    comment on column $schema.schema_history.execution_ms is 'How long it took, in milliseconds.';
    comment on column $schema.schema_history.kind is
        'migrate: run by us; baseline: found done, when a live database was adopted.';
""")
_HISTORY_EXISTS = "select to_regclass($1) is not null"
_READ_HISTORY = Template("select version, description, checksum, applied_at from $schema.schema_history")
_RECORD = Template("""
    insert into $schema.schema_history (version, description, checksum, execution_ms, kind)
    values ($$1, $$2, $$3, $$4, $$5)
""")
_READ_FLYWAY = Template("""
    select version, success
    from $schema.flyway_schema_history
    where version is not null
    order by installed_rank
""")
_HAS_TABLES = (
    "select count(*) > 0 from pg_catalog.pg_tables where schemaname = $1 and tablename <> 'schema_history'"
)


async def _read_history(connection: Connection, database: Database) -> dict[str, tuple[str, str, datetime]]:
    if not await connection.fetchval(_HISTORY_EXISTS, f"{database.schema}.schema_history"):
        return {}
    rows = await connection.fetch(_READ_HISTORY.substitute(schema=database.schema))
    return {row["version"]: (row["description"], row["checksum"], row["applied_at"]) for row in rows}


async def _record(connection: Connection, database: Database, file: Migration, ms: int, kind: str) -> None:
    await connection.execute(
        _RECORD.substitute(schema=database.schema), file.version, file.description, file.checksum, ms, kind
    )


async def migrate(
    dsn: str,
    database: Database,
    *,
    folder: Path | None = None,
    on_applied: Callable[[Migration, float], None] | None = None,
) -> list[Migration]:
    """Apply what is pending and return it; a second run returns []. *on_applied* gets a file and its seconds.

    Two at once take turns. Raises MigrationError for a history that contradicts the files or a file that
    fails, Unavailable or Misconfigured when there is no connection to be had.
    """
    files = load_migrations(folder or schema_folder(database))
    applied: list[Migration] = []
    async with _connected(dsn, database) as connection, _locked(connection, database):
        with _translated(f"creating {database.schema}.schema_history"):
            await connection.execute(_CREATE_HISTORY.substitute(schema=database.schema))
        states = examine(files, await _read_history(connection, database))
        if problems := [state.detail for state in states if state.state not in {"applied", "pending"}]:
            raise MigrationError("\n".join(problems))
        pending = {state.version for state in states if state.state == "pending"}
        for file in (file for file in files if file.version in pending):
            began = time.monotonic()
            await _apply(connection, database, file)
            applied.append(file)
            if on_applied is not None:
                on_applied(file, time.monotonic() - began)
    return applied


async def status(dsn: str, database: Database, *, folder: Path | None = None) -> list[MigrationState]:
    """Return each version's state, writing nothing."""
    files = load_migrations(folder or schema_folder(database))
    async with _connected(dsn, database) as connection:
        with _translated(f"reading {database.schema}.schema_history"):
            return examine(files, await _read_history(connection, database))


async def describe(dsn: str, database: Database, *, folder: Path | None = None) -> list[str]:
    """Return what the schema holds, one line an object, as the files in ``schema/verify`` put it."""
    queries = (folder or schema_folder(database)).parent / "verify"
    async with _connected(dsn, database) as connection:
        with _translated(f"describing the {database} database"):
            lines = await connection.fetch(
                (queries / "objects.sql").read_text(encoding="utf-8"), database.schema
            )
            lines += await connection.fetch((queries / f"{database}.sql").read_text(encoding="utf-8"))
    return sorted(line["line"] for line in lines)


async def verify(dsn: str, database: Database, *, folder: Path | None = None) -> list[str]:
    """Return what keeps this database from being what the files make, one line a problem; [] is good.

    What a database holds besides is no problem.
    """
    folder = folder or schema_folder(database)
    states = await status(dsn, database, folder=folder)
    problems = [
        state.detail
        or f"version {state.version} ({state.description}) is {state.state}: run `ingest schema migrate`"
        for state in states
        if state.state != "applied"
    ]
    if any(state.state == "pending" for state in states):
        return problems  # the files still to be applied will change what is there
    try:
        found = set(await describe(dsn, database, folder=folder))
    except MigrationError as error:  # a catalog, or TimescaleDB itself, is not there
        return [*problems, str(error)]
    expected = (folder.parent / "verify" / f"{database}.txt").read_text(encoding="utf-8").splitlines()
    return problems + [f"expected and not found: {line}" for line in expected if line not in found]


async def baseline(
    dsn: str, database: Database, version: str | None = None, *, folder: Path | None = None
) -> list[Migration]:
    """Adopt a live database: record the files up to *version* as done, running none, and return them.

    Without *version*, the one in ``flyway_schema_history`` (in the schema or in public) is taken. Raises
    MigrationError when there is neither, when Flyway's last run failed, when the version is not among the
    files, when the schema holds no tables, or when a history of ours exists.
    """
    files = load_migrations(folder or schema_folder(database))
    async with _connected(dsn, database) as connection, _locked(connection, database):
        with _translated(f"adopting the {database} database"):
            if await _read_history(connection, database):
                raise MigrationError(
                    f"{database.schema}.schema_history has entries already: run `ingest schema migrate`"
                )
            if not await connection.fetchval(_HAS_TABLES, database.schema):
                raise MigrationError(
                    f"schema {database.schema} holds no tables to adopt: run `ingest schema migrate`"
                )
            version = version or await _flyway_version(connection, database)
            wanted = version_key(version)
            if wanted not in {version_key(file.version) for file in files}:
                known = ", ".join(file.version for file in files)
                raise MigrationError(
                    f"version {version} is not among the files ({known}): name the one this database is at"
                )
            done = [file for file in files if version_key(file.version) <= wanted]
            async with connection.transaction():
                await connection.execute(_CREATE_HISTORY.substitute(schema=database.schema))
                for file in done:
                    await _record(connection, database, file, 0, "baseline")
    return done


async def _flyway_version(connection: Connection, database: Database) -> str:
    for schema in (database.schema, "public"):
        if await connection.fetchval(_HISTORY_EXISTS, f"{schema}.flyway_schema_history"):
            rows = await connection.fetch(_READ_FLYWAY.substitute(schema=schema))
            if failed := [row["version"] for row in rows if not row["success"]]:
                raise MigrationError(f"Flyway's migration {failed[-1]} failed: repair it with Flyway first")
            if rows:
                return max((str(row["version"]) for row in rows), key=version_key)
    raise MigrationError("no flyway_schema_history tells the version of this database: name it")


async def _apply(connection: Connection, database: Database, file: Migration) -> None:
    """Run *file* and record it: in one transaction, or statement by statement where its header says so."""
    began = time.monotonic()
    async with _optional_transaction(connection, wanted=file.transactional):
        for statement in split_statements(file.path.read_text(encoding="utf-8")):
            kept = "nothing of it was kept" if file.transactional else "it may be run again as it is"
            with _translated(f"{file.path.name}, line {statement.line} ({kept})"):
                await connection.execute(statement.text)
        with _translated(f"recording {file.path.name}"):
            await _record(connection, database, file, round((time.monotonic() - began) * 1000), "migrate")


@asynccontextmanager
async def _optional_transaction(connection: Connection, *, wanted: bool) -> AsyncIterator[None]:
    if not wanted:
        yield
        return
    transaction = connection.transaction()
    await transaction.start()
    # A lock this migration waits for makes every later statement on the table wait behind it.
    await connection.execute("set local lock_timeout = '30s'")
    try:
        yield
    except BaseException:
        if not connection.is_closed():  # a lost connection has rolled back already, and would hide the reason
            await transaction.rollback()
        raise
    await transaction.commit()


@asynccontextmanager
async def _locked(connection: Connection, database: Database) -> AsyncIterator[None]:
    # Asked for again and again, not waited for: a waiting statement holds a snapshot, and the other runner's
    # `create index concurrently` would wait for it for ever. Closing the connection gives the lock back.
    while not await connection.fetchval("select pg_try_advisory_lock($1)", database.lock_key):  # noqa: ASYNC110 -- the event is another process's
        await asyncio.sleep(0.2)
    yield


@asynccontextmanager
async def _connected(dsn: str, database: Database) -> AsyncIterator[Connection]:
    what = f"cannot connect to the {database} database"
    try:
        connection = await asyncpg.connect(
            dsn, timeout=30, server_settings={"application_name": "greenhouse-ingest schema"}
        )
    except (asyncpg.ClientConfigurationError, ValueError) as error:
        raise ConfigurationError([f"{what}: its DSN is not usable: {error}"]) from error
    except (OSError, asyncpg.CannotConnectNowError, asyncpg.TooManyConnectionsError) as error:
        raise Unavailable(
            f"{what}: {str(error) or 'no answer'}; is it running, is the address right?"
        ) from error
    except asyncpg.PostgresError as error:
        raise Misconfigured(f"{what}: {error}", error.sqlstate) from error
    try:
        yield connection
    finally:
        await connection.close(timeout=5)


@contextmanager
def _translated(doing: str) -> Iterator[None]:
    try:
        yield
    except asyncpg.PostgresError as error:
        if (error.sqlstate or "")[:2] in {"08", "53", "57"}:  # connection, resources, operator
            raise Unavailable(
                f"{doing}: {error}; run again once the server is well", error.sqlstate
            ) from error
        hint = f" Hint: {error.hint}" if error.hint else ""
        raise MigrationError(f"{doing}: {error} (SQLSTATE {error.sqlstate}).{hint}") from error
    except (asyncpg.InterfaceError, OSError) as error:
        raise Unavailable(f"{doing}: the connection was lost ({error}); run again") from error
