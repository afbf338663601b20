"""`ingest catalog`: lists, adds and imports what the worker resolves names with."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ingest.commands.report import print_json, print_line, print_table
from ingest.operate import catalog

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    from ingest.commands.invocation import Invocation


def list_kind(invocation: Invocation, *, kind: catalog.CatalogKind, as_json: bool) -> int:
    """Print every entry of one *kind*."""
    dsn = invocation.settings("metadata").dsn("metadata")
    entries = asyncio.run(catalog.list_catalog(dsn, kind))
    if as_json:
        print_json({kind: entries})
    else:
        columns = list(entries[0]) if entries else []
        print_table(columns, [list(entry.values()) for entry in entries], empty=f"there are no {kind}")
    return 0
