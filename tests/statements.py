"""Statements that a test executes beside what it tests, on a connection of their own."""

from __future__ import annotations

import asyncpg


async def execute(dsn: str, *statements: str) -> None:
    """Execute *statements* one after the other, each by itself."""
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()
