"""`ingest schema`: applies and examines the migrations of both databases, metadata first.

The order matters to people only: the timeseries schema mirrors catalogs that metadata owns.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from ingest import migrate
from ingest.commands.report import print_json, print_line, print_table
from ingest.migrate import Database

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingest.commands.invocation import Invocation
    from ingest.migration_files import Migration, MigrationState


def _chosen(only: str | None) -> Sequence[Database]:
    """Return the databases a command works on: both, metadata first, or the *only* one."""
    return tuple(Database) if only is None else (Database(only),)


def apply(invocation: Invocation, *, only: str | None, as_json: bool) -> int:
    """Apply what is pending, one line a file as it is done."""
    databases = _chosen(only)
    settings = invocation.settings(*(database.value for database in databases))
    applied: list[dict[str, Any]] = []

    def report(database: Database, file: Migration, took_s: float) -> None:
        applied.append(
            {
                "database": database.value,
                "version": file.version,
                "description": file.description,
                "seconds": round(took_s, 3),
            }
        )
        if not as_json:
            print_line(f"{database.value} {file.version} {file.description} ({took_s:.1f} s)")

    async def run() -> None:
        for database in databases:
            await migrate.migrate(
                settings.dsn(database.value),
                database,
                on_applied=partial(report, database),
            )

    asyncio.run(run())
    if as_json:
        print_json({"applied": applied})
    elif not applied:
        print_line("nothing to apply: the schema is up to date")
    return 0


def status(invocation: Invocation, *, only: str | None, as_json: bool) -> int:
    """Print each version's state. Returns 1 when one is not applied."""
    databases = _chosen(only)
    settings = invocation.settings(*(database.value for database in databases))

    async def run() -> list[tuple[Database, MigrationState]]:
        return [
            (database, state)
            for database in databases
            for state in await migrate.status(settings.dsn(database.value), database)
        ]

    states = asyncio.run(run())
    if as_json:
        print_json({"migrations": [_state_report(database, state) for database, state in states]})
    else:
        columns = ("database", "version", "description", "state", "applied at", "detail")
        rows = [tuple(_state_report(database, state).values()) for database, state in states]
        print_table(columns, rows, empty="there are no migrations")
    return 0 if all(state.state == "applied" for _, state in states) else 1


def verify(invocation: Invocation, *, only: str | None, as_json: bool) -> int:
    """Print what keeps the databases from being what the files make. Returns 1 when anything does."""
    databases = _chosen(only)
    settings = invocation.settings(*(database.value for database in databases))

    async def run() -> dict[str, list[str]]:
        return {
            database.value: await migrate.verify(settings.dsn(database.value), database)
            for database in databases
        }

    problems = asyncio.run(run())
    good = not any(problems.values())
    if as_json:
        print_json({"ok": good, "problems": problems})
    else:
        for database, lines in problems.items():
            for line in lines or ["ok"]:
                print_line(f"{database}: {line}")
    return 0 if good else 1


def baseline(invocation: Invocation, *, database: str, version: str | None, as_json: bool) -> int:
    """Record a live database's migrations up to *version* as done, running none."""
    adopted = Database(database)
    settings = invocation.settings(adopted.value)
    done = asyncio.run(migrate.baseline(settings.dsn(adopted.value), adopted, version))
    if as_json:
        print_json({"database": database, "recorded": [file.version for file in done]})
    else:
        print_line(f"{database}: recorded as done: {', '.join(file.version for file in done)}")
    return 0


def _state_report(database: Database, state: MigrationState) -> dict[str, Any]:
    return {
        "database": database.value,
        "version": state.version,
        "description": state.description,
        "state": state.state,
        "applied_at": None if state.applied_at is None else state.applied_at.isoformat(),
        "detail": state.detail or None,
    }
