"""A database that is not in UTF8: refused before anything is changed; no text holds up a worker in one."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from pydantic import SecretStr

from ingest.errors import ConfigurationError, Misconfigured
from ingest.migrate import Database
from ingest.model import ClockFault, Delivery, Gateway, Rejection
from ingest.operate.check import check
from ingest.operate.encoding import wrong_encoding
from ingest.operate.exchange import watch
from ingest.settings import Settings, WriteSettings
from ingest.write import Batch
from tests.acceptance.command_line import CommandLine
from tests.batches import NOW_US, WriterUnderTest, batch_of, counters_of, row, series_of
from tests.integration.plain_postgres import create_timeseries_schema
from tests.servers import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.servers import PostgresCluster

    Connection = asyncpg.Connection[asyncpg.Record]

TOPIC = "greenhouse/温室/readings"


@pytest.fixture
async def latin1_dsn(postgres_cluster: PostgresCluster, postgres_dsn: str) -> AsyncIterator[str]:
    """An empty database in LATIN1."""
    parts = urlsplit(postgres_dsn)
    name = f"{parts.path.removeprefix('/')}_latin1"
    server = await asyncpg.connect(postgres_dsn)
    await server.execute(f"create database {name} encoding 'LATIN1' locale 'C' template template0")
    await server.close()
    yield urlunsplit(parts._replace(path=name))
    await asyncio.to_thread(postgres_cluster.drop_database, name)


@pytest.fixture
async def latin1(latin1_dsn: str) -> AsyncIterator[Connection]:
    """A connection to one in LATIN1 with schema iot."""
    connection = await asyncpg.connect(latin1_dsn)
    await create_timeseries_schema(connection)
    yield connection
    await connection.close()


def settings_of(metadata_dsn: str, timeseries_dsn: str) -> Settings:
    return Settings(
        broker_url=f"mqtt://127.0.0.1:{free_port()}",
        metadata_dsn=SecretStr(metadata_dsn),
        timeseries_dsn=SecretStr(timeseries_dsn),
    )


def letter_of(topic: str = TOPIC, *more: Rejection) -> Batch:
    """Make a batch of one message without a row, whose every text the gateway chose."""
    batch = Batch()
    gateway = Gateway("GREENHOUSE/SARA/温")
    rejections = [Rejection("温", "unknown_greenhouse", "no greenhouse is called '温室'"), *more]
    batch.add(Delivery(topic, "温室".encode(), 2, 7), NOW_US, (), rejections, gateway=gateway)
    batch.curable[0] = frozenset({"greenhouse * 温室"})
    return batch


async def test_check_and_a_worker_that_starts_refuse_it(metadata_dsn: str, latin1_dsn: str) -> None:
    settings = settings_of(metadata_dsn, latin1_dsn)
    found = {each.name: each.detail for each in await check(settings) if not each.ok}
    assert "a database in LATIN1" in found["timeseries server"]
    assert "UTF8 is needed" in found["timeseries server"]
    assert "metadata server" not in found
    with pytest.raises(ConfigurationError, match=r"^timeseries_dsn names a database in LATIN1[^\n]*$"):
        await asyncio.wait_for(watch(settings), 30)
    assert await wrong_encoding(settings, [Database.METADATA]) is None


async def test_migrate_refuses_it_before_it_changes_either(
    postgres_dsn: str, latin1_dsn: str, tmp_path: Path
) -> None:
    environment = {"INGEST_METADATA_DSN": postgres_dsn, "INGEST_TIMESERIES_DSN": latin1_dsn}
    done = await asyncio.to_thread(CommandLine(tmp_path), "schema", "migrate", environment=environment)
    assert done.returncode == 2
    assert done.stderr.startswith("ingest: timeseries_dsn names a database in LATIN1, which")
    assert done.stderr.endswith("; nothing was changed\n")
    assert done.stderr.count("\n") == 1
    for dsn in environment.values():
        connection = await asyncpg.connect(dsn)
        made = await connection.fetch("select from pg_namespace where nspname in ('metadata', 'iot')")
        await connection.close()
        assert made == []


async def test_no_text_holds_up_what_is_behind_it(latin1: Connection, latin1_dsn: str) -> None:
    async with WriterUnderTest(latin1_dsn) as writer:
        outcome = await asyncio.wait_for(writer.commit(letter_of()), 30)
        assert (outcome.counts.committed, outcome.counts.rejected) == (1, 1)
        await writer.commit(batch_of([row(series_of(), 1.0)]))
        (told,) = writer.faults
    assert isinstance(told, Misconfigured)
    assert told.sqlstate == "22P05"
    letter = await latin1.fetchrow("select * from iot.ingest_dead_letters")
    assert letter is not None
    assert letter["topic"] == r"greenhouse/\u6e29\u5ba4/readings"
    assert letter["gateway"] == r"GREENHOUSE/SARA/\u6e29"
    assert letter["missing"] == [r"greenhouse * \u6e29\u5ba4"]
    assert json.loads(letter["rejected"]) == [
        {
            "field": r"\u6e29",
            "reason": "unknown_greenhouse",
            "detail": r"no greenhouse is called '\u6e29\u5ba4'",
        }
    ]
    assert letter["payload"].decode() == "温室"
    counters = await counters_of(latin1)
    assert (counters["committed"], counters["rejected"], counters["written"]) == (2, 1, 1)


async def test_past_its_budget_it_is_counted_under_such_names(latin1: Connection, latin1_dsn: str) -> None:
    settings, tenant_id = WriteSettings(retry_max_s=0.2, dead_letters_per_topic_per_hour=1), uuid.uuid4()
    async with WriterUnderTest(latin1_dsn, settings) as writer:
        for _ in range(2):
            batch = letter_of()
            batch.receipts_us, batch.tenants = [time.time_ns() // 1000], {0: tenant_id}  # of this month
            await asyncio.wait_for(writer.commit(batch), 30)
    gateways = await latin1.fetch(
        "select gateway from iot.ingest_dead_letter_overflow"
        " union all select distinct gateway from iot.ingest_gateway_hours"
    )
    assert [row["gateway"] for row in gateways] == [r"GREENHOUSE/SARA/\u6e29"] * 2


async def test_a_text_too_long_for_an_index_of_the_installation(
    connection: Connection, writer: WriterUnderTest
) -> None:
    await connection.execute("create index on iot.ingest_dead_letters (topic)")
    topic = "".join(chr(0x4E00 + number * 7_919 % 20_000) for number in range(10_000))
    ahead = Rejection("time", "bad_timestamp", ClockFault("in the future", "future", NOW_US + 10**9))
    outcome = await asyncio.wait_for(writer.commit(letter_of(topic, ahead)), 30)
    assert outcome.counts.rejected == 2
    assert [fault.sqlstate for fault in writer.faults] == ["54000"]
    assert str(await connection.fetchval("select topic from iot.ingest_dead_letters")).startswith(r"\u4e00")
    assert await connection.fetchval("select clock_future from iot.ingest_gateway_hours") == 1


async def test_what_is_no_matter_of_texts_is_held_as_before(
    connection: Connection, writer: WriterUnderTest
) -> None:
    await connection.execute("alter table iot.ingest_dead_letters add constraint none check (client_id = '')")
    committing = writer.committing(letter_of())
    while len(writer.faults) < 3:
        await writer.faulted.wait()
        writer.faulted.clear()
    assert {fault.sqlstate for fault in writer.faults} == {"23514"}
    await connection.execute("alter table iot.ingest_dead_letters drop constraint none")
    await committing
    assert await connection.fetchval("select topic from iot.ingest_dead_letters") == TOPIC
