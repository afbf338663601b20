"""`ingest schema verify`: the live catalogs compared with what the migrations make, item by item.

What is expected are the snapshots in `schema/verify`, one line an object, which the tests keep equal to what
the files make; what is there is asked of the database by the queries beside them. What a database holds
besides is no fault. Changes nothing; runs in the operator's command, on a connection of its own.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ingest.errors import MigrationError
from ingest.migrate import history_states, schema_folder
from ingest.migration_connection import connected, translated

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ingest.migrate import Database
    from ingest.migration_connection import Connection
    from ingest.migration_files import MigrationState

MIGRATION: Final = "migration"
_TWO_WORDS: Final = {"view column", "unique index", "foreign key", "continuous aggregate"}
_KEY_WORDS: Final = {
    "column": 1,
    "view column": 1,
    "row": 2,
    "hypertable": 1,
    "compression": 1,
    "continuous aggregate": 1,
}
"""Kind -> how many words of a line's name say which object it is; the rest says what it is like."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing a database has to have. ``name`` begins with what it belongs to: a table, a role."""

    database: str
    kind: str
    name: str
    ok: bool
    detail: str = ""
    """What is there in its place, or what to do; empty when it is as it has to be, or simply missing."""

    @property
    def belongs_to(self) -> str:
        """The table, view, role or schema it is part of, for summing up."""
        owner = self.name.split(" ", 1)[0]
        match self.kind:
            case "migration":
                return "files"
            case "column" | "view column":
                return owner.rpartition(".")[0]
            case "routine":
                return owner.split(".", 1)[0]
            case _:
                return owner


async def examine_schema(dsn: str, database: Database) -> list[Item]:
    """Return every item *database* has to have, migrations (with their checksums) first.

    Raises Unavailable, Misconfigured or ConfigurationError when it cannot be asked at all.
    """
    folder = schema_folder(database)
    queries = folder.parent / "verify"
    async with connected(dsn, database) as connection:
        with translated(f"reading {database.schema}.schema_history"):
            states = await history_states(connection, database, folder)
        found, faults = set[str](), list[str]()
        for query, arguments in (("objects.sql", (database.schema,)), (f"{database}.sql", ())):
            sql = (queries / query).read_text(encoding="utf-8")
            try:
                found.update(await _lines(connection, sql, *arguments))
            except MigrationError as error:  # a catalog, or TimescaleDB itself, is not there
                faults.append(str(error))
    expected = (queries / f"{database}.txt").read_text(encoding="utf-8").splitlines()
    return [
        *(_migration_item(database, state) for state in states),
        *(Item(database.value, "query", fault, ok=False) for fault in faults),
        *compared(database.value, expected, found),
    ]


def compared(database: str, expected: Iterable[str], found: set[str]) -> list[Item]:
    """Return an item for each *expected* line; of what is otherwise than expected, say how it is."""
    lines = list(expected)
    besides = {_key(line): line for line in found.difference(lines)}
    items: list[Item] = []
    for line in lines:
        kind, name = _taken_apart(line)
        other = besides.get(_key(line)) if line not in found and kind in _KEY_WORDS else None
        detail = f"is {_taken_apart(other)[1]}" if other else ""
        items.append(Item(database, kind, name, line in found, detail))
    return items


def counts(items: Iterable[Item]) -> dict[str, dict[str, int]]:
    """Return kind -> how many items are expected and how many are ok, in the order of the items."""
    listed = list(items)
    expected, ok = Counter(item.kind for item in listed), Counter(item.kind for item in listed if item.ok)
    return {kind: {"expected": count, "ok": ok[kind]} for kind, count in expected.items()}


async def _lines(connection: Connection, sql: str, *arguments: str) -> list[str]:
    with translated("describing the schema"):
        return [row["line"] for row in await connection.fetch(sql, *arguments)]


def _migration_item(database: Database, state: MigrationState) -> Item:
    good = state.state == "applied"
    detail = state.detail or ("" if good else f"{state.state}: run `ingest schema migrate`")
    return Item(database.value, MIGRATION, f"V{state.version} {state.description}", good, detail)


def _taken_apart(line: str) -> tuple[str, str]:
    words = line.split(" ")
    size = 2 if " ".join(words[:2]) in _TWO_WORDS else 1
    return " ".join(words[:size]), " ".join(words[size:])


def _key(line: str) -> tuple[str, ...]:
    kind, name = _taken_apart(line)
    return kind, *name.split(" ")[: _KEY_WORDS.get(kind)]
