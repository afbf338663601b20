"""What earlier connections of a session leave behind in the server, and that the next one ends it."""

from __future__ import annotations

import uuid
from urllib.parse import urlsplit

import asyncpg
import pytest

from ingest.settings import WriteSettings
from ingest.write.journal import application_name
from tests.batches import WriterUnderTest, batch_of, row, series_of, stored
from tests.proxy import Proxy

Connection = asyncpg.Connection


async def test_a_copy_stalled_half_way_does_not_hold_up_the_next_try(
    timeseries_dsn: str, connection: Connection
) -> None:
    """The server never hears that the client has given up, and has rows of it in its unique index."""
    series = series_of()
    async with Proxy(urlsplit(timeseries_dsn).port or 0) as proxy:
        settings = WriteSettings(commit_timeout_s=2.0, retry_max_s=0.2)
        async with WriterUnderTest(proxy.url(timeseries_dsn), settings) as writer:
            await writer.claim()
            proxy.set_trap(b"half-way", "stall", forward=True)
            notes = {6_000: b'{"note": "half-way"}'}
            batch = batch_of([row(series, float(at), at, metadata=notes.get(at)) for at in range(12_000)])
            outcome = await writer.commit(batch)
            assert proxy.sprung.is_set()
            assert len(writer.faults) == 1, "the first try was given up, the second went through"
    assert outcome.counts.written == 12_000
    assert len(await stored(connection)) == 12_000


@pytest.mark.parametrize("superuser", [True, False])
async def test_only_backends_of_the_same_session_are_ended(
    superuser: bool,  # noqa: FBT001 (a parameter)
    timeseries_dsn: str,
    connection: Connection,
) -> None:
    role = f"writer_{uuid.uuid4().hex[:8]}"
    await connection.execute(f"create role {role} login {'superuser' if superuser else ''}")
    await connection.execute(f"grant usage on schema iot to {role}")
    await connection.execute(f"grant select, insert, update on all tables in schema iot to {role}")
    dsn = timeseries_dsn.replace("postgres@", f"{role}@")

    async def backend_of(name: str) -> Connection:
        opened: Connection = await asyncpg.connect(dsn, server_settings={"application_name": name})
        return opened

    former = await backend_of(application_name("worker"))
    others = [
        await backend_of(name) for name in ("greenhouse-ingest catalog", application_name("worker-2"), "")
    ]
    async with WriterUnderTest(dsn, client_id="worker") as writer:
        await writer.commit(batch_of([row(series_of(), 1.0)]))
        with pytest.raises((asyncpg.AdminShutdownError, asyncpg.InterfaceError)):
            await former.fetchval("select 1")
        await former.close()
        for other in others:
            assert await other.fetchval("select 1") == 1
            await other.close()
    assert len(await stored(connection)) == 1


async def test_the_name_of_a_session_is_kept_as_it_is(timeseries_dsn: str) -> None:
    """What PostgreSQL cut or replaced would be another's name, too."""
    ids = ("worker", "w" * 38, "w" * 39, "w" * 128, "w" * 127 + "x", "invernadero-ñ", "invernadero-ó")
    names = [application_name(client_id) for client_id in ids]
    assert names[0] == "greenhouse-ingest writer worker"
    assert len(set(names)) == len(ids)
    for name in names:
        opened = await asyncpg.connect(timeseries_dsn, server_settings={"application_name": name})
        assert await opened.fetchval("show application_name") == name
        await opened.close()
