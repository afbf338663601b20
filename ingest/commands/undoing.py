"""`ingest schema undo`: takes migrations back, timeseries first, and says what to put aside before.

The commands it prints are for a shell: they name the variable a DSN came from, never a password.
"""

from __future__ import annotations

import asyncio
import shlex
from typing import TYPE_CHECKING, Any

from ingest.commands.report import print_json, print_line, print_table, remark
from ingest.commands.schema import chosen
from ingest.errors import MigrationError
from ingest.undo import plan_undo, try_undo, undo

if TYPE_CHECKING:
    from ingest.commands.invocation import Invocation
    from ingest.migrate import Database
    from ingest.settings import Settings
    from ingest.undo import Trial, UndoStep


def run(invocation: Invocation, *, only: str | None, to: str | None, dry_run: bool, as_json: bool) -> int:
    """Undo, or with *dry_run* try it and roll it back. Returns 1 when a version refuses in a dry run."""
    databases = tuple(reversed(chosen(only)))  # the mirror goes before what it mirrors
    settings = invocation.settings(*(database.value for database in databases))
    if dry_run:
        return asyncio.run(_dry_run(settings, databases, to, as_json=as_json))
    done: list[dict[str, Any]] = []
    asyncio.run(_undo(settings, databases, to, done, as_json=as_json))
    if as_json:
        print_json({"undone": done})
    elif not done:
        print_line("nothing to undo")
    return 0


async def _dry_run(
    settings: Settings, databases: tuple[Database, ...], to: str | None, *, as_json: bool
) -> int:
    trials: list[tuple[Database, Trial]] = []
    for database in databases:
        trials += [(database, trial) for trial in await try_undo(settings.dsn(database.value), database, to)]
    good = all(trial.refusal is None for _, trial in trials)
    backups = [line for database, trial in trials for line in backup_commands(settings, database, trial.step)]
    if as_json:
        steps = [
            {
                **_step_report(database, trial.step),
                "refusal": trial.refusal,
                "backup": backup_commands(settings, database, trial.step),
            }
            for database, trial in trials
        ]
        print_json({"ok": good, "steps": steps})
        return 0 if good else 1
    rows = [
        (database, trial.step.version, trial.step.description, trial.refusal or "would be undone")
        for database, trial in trials
    ]
    print_table(("database", "version", "description", "outcome"), rows, empty="nothing to undo")
    if backups:
        print_line("to keep what goes with them, first:")
        print_line("\n".join(f"  {line}" for line in backups))
    return 0 if good else 1


async def _undo(
    settings: Settings,
    databases: tuple[Database, ...],
    to: str | None,
    done: list[dict[str, Any]],
    *,
    as_json: bool,
) -> None:
    """Undo one database after the other, filling *done*; a refusal names what to back up of that version."""
    # Both are looked at before either is touched: a version that one of them lacks stops it all.
    plans = {database: await plan_undo(settings.dsn(database.value), database, to) for database in databases}
    for database, left in plans.items():

        def report(
            step: UndoStep, took_s: float, database: Database = database, left: list[UndoStep] = left
        ) -> None:
            left.pop(0)
            done.append({**_step_report(database, step), "seconds": round(took_s, 3)})
            if not as_json:
                print_line(f"{database} {step.version} {step.description}: undone ({took_s:.1f} s)")

        try:
            await undo(settings.dsn(database.value), database, to, on_undone=report)
        except MigrationError as error:
            if as_json and done:
                undone = ", ".join(f"{each['database']} {each['version']}" for each in done)
                remark(f"undone before: {undone}")
            commands = backup_commands(settings, database, left[0]) if left else []
            if not commands:
                raise
            listed = "".join(f"\n  {line}" for line in commands)
            raise MigrationError(f"{error}\nto keep what would be lost, first:{listed}") from error


def backup_commands(settings: Settings, database: Database, step: UndoStep) -> list[str]:
    """Return the shell commands that put aside exactly the tables *step* drops or takes columns of."""
    dsn = _shell_dsn(settings, database)
    commands = []
    if step.tables:
        tables = " ".join(f"--table={name}" for name in step.tables)
        file = f"{database}-before-U{step.version}.dump"
        commands.append(f"pg_dump --dbname={dsn} --format=custom --file={file} {tables}")
    commands += [
        f"psql {dsn} --command=\"\\copy (select * from {name}) to '{name}.csv' with (format csv, header)\""
        for name in step.chunked
    ]
    return commands


def _shell_dsn(settings: Settings, database: Database) -> str:
    """Return how a shell says the DSN: by the variable it came from; one in the file has no password."""
    option = f"{database}_dsn"
    source = settings.source_of(option)
    if source == f"INGEST_{option.upper()}":
        return f'"${source}"'
    if source == f"INGEST_{option.upper()}_FILE":
        return f'"$(cat "${source}")"'
    return shlex.quote(settings.dsn(database.value))


def _step_report(database: Database, step: UndoStep) -> dict[str, Any]:
    return {
        "database": database.value,
        "version": step.version,
        "description": step.description,
        "tables": [*step.tables, *step.chunked],
    }
