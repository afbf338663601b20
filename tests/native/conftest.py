"""A migrated database on the native server, and a session of the test's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import pytest

from tests.acceptance.maintained_rows import settings_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ingest.settings import Settings


@pytest.fixture
async def connection(migrated_dsn: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    opened = await asyncpg.connect(migrated_dsn)
    yield opened
    await opened.close()


@pytest.fixture
def settings(migrated_dsn: str) -> Settings:
    return settings_of(migrated_dsn)
