"""Bring a database's schema to what the files under ``schema/`` say, and tell how far it is from that.

Owns the history tables ``metadata.schema_history`` and ``iot.schema_history``, and nothing else of the
schema: what a table looks like is in the SQL files. Never edits or reorders what was applied, never writes
Flyway's own history. Runs in the operator's commands and in the worker's check at start, on a connection of
its own.
"""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from ingest.errors import MigrationError
from ingest.migration_connection import (
    Connection,
    connected,
    locked,
    translated,
)
from ingest.migration_files import (
    Migration,
    MigrationState,
    examine,
    load_migrations,
    version_key,
)
from ingest.migration_steps import LOCK_PATIENCE_S, run_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime


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


_SCHEMA_EXISTS = "select to_regnamespace($1) is not null"
_CREATE_SCHEMA = Template("create schema $schema")
_CREATE_HISTORY = Template("""
    create table $schema.schema_history (
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


async def _make_history(connection: Connection, database: Database) -> None:
    """Create the schema and the history where they are not there.

    Neither is asked for with `if not exists`: that takes the right to create even where there is nothing to.
    """
    if await connection.fetchval(_HISTORY_EXISTS, f"{database.schema}.schema_history"):
        return
    async with connection.transaction():
        if not await connection.fetchval(_SCHEMA_EXISTS, database.schema):
            await connection.execute(_CREATE_SCHEMA.substitute(schema=database.schema))
        await connection.execute(_CREATE_HISTORY.substitute(schema=database.schema))


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
    lock_patience_s: float = LOCK_PATIENCE_S,
) -> list[Migration]:
    """Apply what is pending and return it; a second run returns []. *on_applied* gets a file and its seconds.

    Two at once take turns. A lock not to be had is tried for again for *lock_patience_s*, in short tries
    that hold up no writer. Raises MigrationError for a history that contradicts the files or a file that
    fails, Unavailable or Misconfigured when there is no connection to be had.
    """
    files = load_migrations(folder or schema_folder(database))
    applied: list[Migration] = []
    async with connected(dsn, database) as connection, locked(connection, database):
        with translated(f"creating {database.schema}.schema_history"):
            await _make_history(connection, database)
        with translated(f"reading {database.schema}.schema_history"):
            states = examine(files, await _read_history(connection, database))
        if problems := [state.detail for state in states if state.state not in {"applied", "pending"}]:
            raise MigrationError("\n".join(problems))
        pending = {state.version for state in states if state.state == "pending"}
        for file in (file for file in files if file.version in pending):
            began = time.monotonic()
            await _apply(connection, database, file, lock_patience_s)
            applied.append(file)
            if on_applied is not None:
                on_applied(file, time.monotonic() - began)
    return applied


async def status(dsn: str, database: Database, *, folder: Path | None = None) -> list[MigrationState]:
    """Return each version's state, writing nothing."""
    async with connected(dsn, database) as connection:
        with translated(f"reading {database.schema}.schema_history"):
            return await history_states(connection, database, folder or schema_folder(database))


async def history_states(connection: Connection, database: Database, folder: Path) -> list[MigrationState]:
    """Return each version's state on a connection that is there; the driver's errors are the caller's."""
    return examine(load_migrations(folder), await _read_history(connection, database))


async def describe(dsn: str, database: Database, *, folder: Path | None = None) -> list[str]:
    """Return what the schema holds, one line an object, as the files in ``schema/verify`` put it."""
    queries = (folder or schema_folder(database)).parent / "verify"
    async with connected(dsn, database) as connection:
        with translated(f"describing the {database} database"):
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
    async with connected(dsn, database) as connection, locked(connection, database):
        with translated(f"adopting the {database} database"):
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
                await _make_history(connection, database)
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


async def _apply(connection: Connection, database: Database, file: Migration, lock_patience_s: float) -> None:
    """Run *file*, beside writers that go on writing, and record it."""
    began = time.monotonic()

    async def record() -> None:
        await _record(connection, database, file, round((time.monotonic() - began) * 1000), "migrate")

    await run_file(connection, file, record, lock_patience_s=lock_patience_s)
