"""Writes the generated parts of docs/schema-metadata.md and docs/schema-timeseries.md: `make schema-docs`.

Starts the embedded TimescaleDB, migrates both schemas into it, and describes what came of it; a test compares
the pages with that. What stands above the marker in a page is kept.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from docs.schema_catalog import read_catalog
from docs.schema_page import MARKER, render
from ingest.embedded.database import EmbeddedDatabase
from ingest.migrate import Database, migrate


def page(database: Database) -> Path:
    """Return the page of *database*."""
    return Path(__file__).with_name(f"schema-{database}.md")


async def drawn(dsn: str, database: Database) -> str:
    """Return the page of *database* as it should be: its introduction, and what the schema at *dsn* gives."""
    introduction, marker, _ = page(database).read_text(encoding="utf-8").partition(MARKER)
    if not marker:
        raise SystemExit(f"{page(database)} lacks the line that separates what is written by hand: {MARKER}")
    return introduction + marker + "\n" + render(await read_catalog(dsn, database))


async def main() -> None:
    """Write both pages."""
    async with EmbeddedDatabase() as server:
        for database in Database:
            await migrate(server.dsn, database)
            page(database).write_text(await drawn(server.dsn, database), encoding="utf-8")


if __name__ == "__main__":
    asyncio.run(main())
