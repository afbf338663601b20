"""`ingest schema`: applies and examines the migrations of both databases, metadata first.

The order matters to people only: the timeseries schema mirrors catalogs that metadata owns.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from ingest import migrate
from ingest.commands.invocation import EXIT_INTERRUPTED
from ingest.commands.report import print_at_once, print_json, print_line, print_table, remark
from ingest.errors import ConfigurationError
from ingest.migrate import Database
from ingest.operate.encoding import wrong_encoding
from ingest.operate.exchange import exchange
from ingest.operate.schema_report import counts, examine_schema

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingest.commands.invocation import Invocation
    from ingest.migration_files import Migration, MigrationState
    from ingest.operate.schema_report import Item


def chosen(only: str | None) -> Sequence[Database]:
    """Return the databases a command works on: both, metadata first, or the *only* one."""
    return tuple(Database) if only is None else (Database(only),)


def apply(invocation: Invocation, *, only: str | None, as_json: bool) -> int:
    """Apply what is pending, one line a file as it is done.

    Refuses DSNs that are exchanged, and a database that is not in UTF8, before it changes either. After
    Ctrl-C it says how far it came.
    """
    databases = chosen(only)
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
            print_at_once(f"{database.value} {file.version} {file.description} ({took_s:.1f} s)")

    async def run() -> None:
        wrong = await exchange(settings, databases) or await wrong_encoding(settings, databases)
        if wrong is not None:
            raise ConfigurationError([f"{wrong}; nothing was changed"])
        for database in databases:
            await migrate.migrate(
                settings.dsn(database.value),
                database,
                on_applied=partial(report, database),
            )

    interrupted = False
    try:
        asyncio.run(run())
    except KeyboardInterrupt:
        interrupted = True
    if as_json:
        print_json({"applied": applied, "interrupted": interrupted})
    elif not (applied or interrupted):
        print_line("nothing to apply: the schema is up to date")
    if interrupted:
        last = "".join(f", the last {each['database']} {each['version']}" for each in applied[-1:])
        remark(
            f"stopped at your word: {len(applied)} files were applied{last}, and stay so; the one under way "
            "is not recorded: run `ingest schema migrate` again to go on"
        )
        return EXIT_INTERRUPTED
    return 0


def status(invocation: Invocation, *, only: str | None, as_json: bool) -> int:
    """Print each version's state. Returns 1 when one is not applied."""
    databases = chosen(only)
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
    """Print, item by item, whether the databases have what the files make. Returns 1 when one lacks any."""
    databases = chosen(only)
    settings = invocation.settings(*(database.value for database in databases))

    async def run() -> list[Item]:
        return [
            item
            for database in databases
            for item in await examine_schema(settings.dsn(database.value), database)
        ]

    items = asyncio.run(run())
    good = all(item.ok for item in items)
    if as_json:
        print_json(_verification(databases, items))
        return 0 if good else 1
    groups: dict[tuple[str, str, str], list[Item]] = {}
    for item in items:
        groups.setdefault((item.database, item.kind, item.belongs_to), []).append(item)
    rows = [
        (*group, len(members), "ok" if all(item.ok for item in members) else _missing(members))
        for group, members in groups.items()
    ]
    print_table(("database", "what", "of", "expected", "state"), rows, empty="nothing is expected")
    for item in items:
        if not item.ok:
            print_line(f"{item.database}: missing: {_described(item)}")
    for database in databases:
        mine = [item for item in items if item.database == database.value]
        there = sum(item.ok for item in mine)
        print_line(f"{database}: {there} of {len(mine)} items are as expected")
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


def _verification(databases: Sequence[Database], items: list[Item]) -> dict[str, Any]:
    of_each = {each.value: [item for item in items if item.database == each.value] for each in databases}
    return {
        "ok": all(item.ok for item in items),
        "problems": {
            name: [_described(item) for item in mine if not item.ok] for name, mine in of_each.items()
        },
        "counts": {name: counts(mine) for name, mine in of_each.items()},
        "items": [
            {
                "database": item.database,
                "kind": item.kind,
                "name": item.name,
                "ok": item.ok,
                "detail": item.detail or None,
            }
            for item in items
        ],
    }


def _missing(members: list[Item]) -> str:
    return f"{sum(not item.ok for item in members)} missing"


def _described(item: Item) -> str:
    return f"{item.kind} {item.name}" + (f": {item.detail}" if item.detail else "")
