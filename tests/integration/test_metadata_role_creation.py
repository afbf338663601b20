"""Migration V16 on servers that lack the roles, have them, or have others of their names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ingest.errors import MigrationError
from ingest.migrate import Database, describe, migrate, schema_folder, status, verify
from tests.integration.test_metadata_roles import as_user, connected
from tests.servers import PostgresCluster

if TYPE_CHECKING:
    from collections.abc import Iterator

METADATA = Database.METADATA


@pytest.fixture
def cluster() -> Iterator[PostgresCluster]:
    """A server without the four roles."""
    with PostgresCluster() as cluster:
        yield cluster


async def test_an_owner_who_may_not_create_roles_is_told_what_to_ask_for(cluster: PostgresCluster) -> None:
    dsn = cluster.create_database("greenhouse")
    async with connected(dsn) as admin:
        await admin.execute("create role owner login; alter database greenhouse owner to owner")
        with pytest.raises(MigrationError, match="owner may not create it") as refusal:
            await migrate(as_user(dsn, "owner"), METADATA)
        assert (await status(dsn, METADATA))[-1].state == "pending"
        # What the hint asks for is enough.
        await admin.execute(
            str(refusal.value).partition("As an administrator: ")[2].partition("then migrate")[0]
        )
    assert [file.version for file in await migrate(as_user(dsn, "owner"), METADATA)] == ["16"]
    assert await verify(as_user(dsn, "owner"), METADATA) == []


async def test_an_owner_who_may_create_roles_needs_nobody(cluster: PostgresCluster) -> None:
    dsn = cluster.create_database("greenhouse")
    async with connected(dsn) as admin:
        await admin.execute("create role owner login createrole; alter database greenhouse owner to owner")
    await migrate(as_user(dsn, "owner"), METADATA)
    assert await verify(dsn, METADATA) == []
    before = await describe(dsn, METADATA)
    (undo,) = schema_folder(METADATA).glob("U16__*.sql")
    async with connected(as_user(dsn, "owner")) as connection:
        await connection.execute(undo.read_text(encoding="utf-8"))
        await connection.execute("delete from metadata.schema_history where version = '16'")
    assert [line for line in await describe(dsn, METADATA) if line.startswith("grant ")] == []
    await migrate(as_user(dsn, "owner"), METADATA)
    assert await describe(dsn, METADATA) == before
    # A second database of the server finds the roles there.
    other = cluster.create_database("other")
    await migrate(other, METADATA)
    assert await describe(other, METADATA) == before


async def test_a_role_that_no_grant_restrains_is_refused(cluster: PostgresCluster) -> None:
    dsn = cluster.create_database()
    async with connected(dsn) as admin:
        await admin.execute("create role greenhouse_worker superuser")
        with pytest.raises(MigrationError, match="greenhouse_worker is a superuser"):
            await migrate(dsn, METADATA)
        await admin.execute("alter role greenhouse_worker nosuperuser login")
    await migrate(dsn, METADATA)
