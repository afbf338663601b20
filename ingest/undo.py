"""Takes migrations back, the newest first, by the files ``U<version>__<description>.sql``.

Owns which versions an undo concerns, what it removes from the history, and which relations lose rows by it,
so that an operator can put them aside. Whether something would be lost is decided by each file, which then
refuses by an exception of its own; nothing is undone that no file undoes. Runs in `ingest schema undo`.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from string import Template
from typing import TYPE_CHECKING, Final

from ingest.errors import MigrationError
from ingest.migrate import history_states, schema_folder
from ingest.migration_connection import connected, in_transaction, locked, translated
from ingest.migration_files import load_migrations, split_statements, version_key
from ingest.migration_steps import run_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ingest.migrate import Database
    from ingest.migration_connection import Connection
    from ingest.migration_files import Migration

_KINDS: Final = Template("select version, kind from $schema.schema_history")
_FORGET: Final = Template("delete from $schema.schema_history where version = $$1")
_HAS_TIMESCALEDB: Final = "select to_regclass('timescaledb_information.hypertables') is not null"
# What pg_dump --table gives without a row: the rows are in chunks.
_CHUNKED: Final = """
select hypertable_schema || '.' || hypertable_name as relation
from timescaledb_information.hypertables
union all
select view_schema || '.' || view_name
from timescaledb_information.continuous_aggregates
"""
# A dropped column is a loss as much as a dropped table. Views, functions and triggers hold nothing.
_LOSING: Final = re.compile(
    r"(?:drop\s+(?:table|materialized\s+view)\s+(?:if\s+exists\s+)?(?P<dropped>[\w.,\s]+)"
    r"|alter\s+table\s+(?:only\s+)?(?P<altered>[\w.]+)(?=.*?\bdrop\s+column\b))",
    re.IGNORECASE | re.DOTALL,
)
_COMMENT: Final = re.compile(r"--[^\n]*")


@dataclass(frozen=True, slots=True)
class UndoStep:
    """One version to take back. ``tables`` and ``chunked`` are the relations whose rows or columns go.

    The rows of ``chunked`` ones (hypertables, continuous aggregates) are in chunks, where `pg_dump --table`
    does not look.
    """

    version: str
    description: str
    file: Migration
    tables: tuple[str, ...]
    chunked: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Trial:
    """What trying a step came to: ``refusal`` is the database's answer, None when it would be undone."""

    step: UndoStep
    refusal: str | None


async def plan_undo(
    dsn: str, database: Database, to: str | None, *, folder: Path | None = None
) -> list[UndoStep]:
    """Return what has to be undone to be at version *to*, newest first; without it, the newest alone.

    [] when nothing is above *to*. Raises MigrationError for a version never applied, for a history that
    contradicts the files, and for a version that has no file to undo it or was adopted, not migrated.
    """
    folder = folder or schema_folder(database)
    async with connected(dsn, database) as connection:
        return await _steps(connection, database, to, folder)


async def try_undo(
    dsn: str, database: Database, to: str | None, *, folder: Path | None = None
) -> list[Trial]:
    """Undo in one transaction that is rolled back, up to the first refusal, and return how each step went.

    Takes the locks of the files until it is rolled back, waiting 2 s for each at most. Raises as `plan_undo`.
    """
    folder = folder or schema_folder(database)
    trials: list[Trial] = []
    async with connected(dsn, database) as connection, locked(connection, database):
        steps = await _steps(connection, database, to, folder)
        async with in_transaction(connection, keep=False):
            for step in steps:
                refusal = await _tried(connection, step)
                trials.append(Trial(step, refusal))
                if refusal is not None:
                    break
    return trials


async def undo(
    dsn: str,
    database: Database,
    to: str | None,
    *,
    folder: Path | None = None,
    on_undone: Callable[[UndoStep, float], None] | None = None,
) -> list[UndoStep]:
    """Undo down to version *to* (the newest version alone without it) and return what was undone.

    Each version in a transaction of its own, its row of the history with it; *on_undone* gets a step and its
    seconds. Raises MigrationError, with the file's own words, where one refuses: those above it stay undone.
    """
    folder = folder or schema_folder(database)
    async with connected(dsn, database) as connection, locked(connection, database):
        steps = await _steps(connection, database, to, folder)
        for step in steps:
            began = time.monotonic()

            async def forget(version: str = step.version) -> None:
                await connection.execute(_FORGET.substitute(schema=database.schema), version)

            await run_file(connection, step.file, forget)
            if on_undone is not None:
                on_undone(step, time.monotonic() - began)
    return steps


def losing(sql: str) -> tuple[str, ...]:
    """Return the relations that *sql* drops, or drops a column of, in its order."""
    found: dict[str, None] = {}
    for statement in split_statements(sql):
        match = _LOSING.match(_COMMENT.sub("", statement.text).strip())
        names = (match["dropped"] or match["altered"]).split(",") if match else []
        found.update(dict.fromkeys(name.strip().removesuffix("cascade").strip() for name in names))
    return tuple(found)


async def _steps(connection: Connection, database: Database, to: str | None, folder: Path) -> list[UndoStep]:
    with translated(f"reading {database.schema}.schema_history"):
        states = await history_states(connection, database, folder)
        applied = [state for state in states if state.applied_at is not None]
        if not applied:
            raise MigrationError(f"{database.schema}.schema_history names no version: nothing is migrated")
        rows = await connection.fetch(_KINDS.substitute(schema=database.schema))
    kinds = {row["version"]: row["kind"] for row in rows}
    versions = [state.version for state in applied]
    wanted = version_key(to) if to is not None else max((version_key(v) for v in versions[:-1]), default=())
    if to is not None and wanted not in {version_key(version) for version in versions}:
        raise MigrationError(f"version {to} is not applied: name one of {', '.join(versions)}, which is kept")
    undoing = {version_key(file.version): file for file in load_migrations(folder, undo=True)}
    steps: list[UndoStep] = []
    for state in reversed(applied):
        key = version_key(state.version)
        if key <= wanted:
            continue
        what = f"{database} version {state.version} ({state.description})"
        if state.state != "applied":
            raise MigrationError(f"{what} is not undone: {state.detail}")
        if kinds[state.version] == "baseline":
            raise MigrationError(
                f"{what} was found done when this database was adopted, not made by its file: what undoing "
                "it would drop is not known; restore a dump of before it"
            )
        if key not in undoing:
            raise MigrationError(f"{what} has no undo file, since it would lose everything: restore a dump")
        steps.append(await _step(connection, undoing[key]))
    return steps


async def _step(connection: Connection, file: Migration) -> UndoStep:
    relations = losing(file.path.read_text(encoding="utf-8"))
    chunked: set[str] = set()
    with translated("looking which tables are hypertables"):
        if relations and await connection.fetchval(_HAS_TIMESCALEDB):
            chunked = {row["relation"] for row in await connection.fetch(_CHUNKED)}
    return UndoStep(
        file.version,
        file.description,
        file,
        tuple(name for name in relations if name not in chunked),
        tuple(name for name in relations if name in chunked),
    )


async def _tried(connection: Connection, step: UndoStep) -> str | None:
    if not step.file.transactional:
        return "not tried: it runs without a transaction, so that nothing could be rolled back"
    try:
        for statement in split_statements(step.file.path.read_text(encoding="utf-8")):
            with translated(f"{step.file.path.name}, line {statement.line}"):
                await connection.execute(statement.text)
    except MigrationError as error:
        return str(error)
    return None
