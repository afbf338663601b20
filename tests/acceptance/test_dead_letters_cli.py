"""`ingest dead-letters`: list, filters, show; nothing raw on the terminal."""

from __future__ import annotations

import asyncio
import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg

from ingest.operate.dead_letters import list_dead_letters
from ingest.operate.letter_filter import LetterFilter
from tests.integration.plain_postgres import create_timeseries_schema

if TYPE_CHECKING:
    from tests.servers import PostgresCluster
from tests.acceptance.command_line import CommandLine, report

TENANT = UUID(int=0xA0)
RECEIVED = datetime(2026, 3, 1, 12, tzinfo=UTC)

INSERT = """
    insert into iot.ingest_dead_letters
        (received_at, client_id, topic, payload, payload_bytes, payload_sha256, rejected, reasons,
         rejected_count, tenant_id, missing)
    values ($1, 'c', $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""


async def fill(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await create_timeseries_schema(connection)
        letters: list[tuple[str, bytes, int, list[tuple[str, str]]]] = [
            ("GREENHOUSE/SARA", b'{"x\x1b[2J": 1}', 13, [("x\x1b[2J", "unknown_sensor_type")]),
            ("GREENHOUSE/SARA/01", b"\xff\xfe\x00", 3, [("", "bad_payload")]),
            ("a.b/c", b"y" * 10, 300_000, [("", "too_large"), ("a", "bad_value")]),
        ]
        for number, (topic, payload, size, rejected) in enumerate(letters):
            await connection.execute(
                INSERT,
                RECEIVED + timedelta(hours=number),
                topic,
                payload,
                size,
                hashlib.sha256(payload).digest() if size > len(payload) else None,
                json.dumps(
                    [{"field": field, "reason": why, "detail": "because \x1b"} for field, why in rejected]
                ),
                [why for _, why in rejected],
                len(rejected),
                None if number else TENANT,
                None if number else ["label x pump\x1b"],
            )
        await connection.execute(
            "insert into iot.ingest_dead_letter_overflow values ('c', $1, 'g', null, $2, 'bad_value', 7, 9)",
            RECEIVED,
            "GREENHOUSE/SARA",
        )
    finally:
        await connection.close()


async def filters_narrow(dsn: str) -> None:
    async def topics(**conditions: Any) -> list[str]:  # noqa: ANN401 (the filter's own arguments)
        return [each.topic for each in await list_dead_letters(dsn, LetterFilter(**conditions), limit=10)]

    assert await topics(reasons=("bad_payload",)) == ["GREENHOUSE/SARA/01"]
    assert await topics(reasons=("bad_payload", "bad_value")) == ["a.b/c", "GREENHOUSE/SARA/01"]
    assert await topics(letters=(1, 3, 99)) == ["a.b/c", "GREENHOUSE/SARA"]
    assert await topics(tenant_id=TENANT) == ["GREENHOUSE/SARA"]
    assert await topics(tenant_id=TENANT, topic="a.b/c") == []
    assert await topics(topic="GREENHOUSE/SARA") == ["GREENHOUSE/SARA"]
    assert await topics(topic="GREENHOUSE/SARA/#") == ["GREENHOUSE/SARA/01", "GREENHOUSE/SARA"]
    assert await topics(topic="GREENHOUSE/+") == ["GREENHOUSE/SARA"]
    assert await topics(topic="a.b/+") == ["a.b/c"]
    assert await topics(topic="a+b/#") == []
    assert await topics(topic="#") == await topics() == ["a.b/c", "GREENHOUSE/SARA/01", "GREENHOUSE/SARA"]
    assert await topics(since=RECEIVED + timedelta(hours=1)) == ["a.b/c", "GREENHOUSE/SARA/01"]
    assert await topics(until=RECEIVED + timedelta(hours=1)) == ["GREENHOUSE/SARA"]


def test_dead_letters_are_listed_filtered_and_shown(
    ingest: CommandLine, postgres_cluster: PostgresCluster
) -> None:
    dsn = postgres_cluster.create_database()
    environment = {"INGEST_TIMESERIES_DSN": dsn}
    missing = ingest("dead-letters", "list", environment=environment)
    assert missing.returncode == 1
    assert "ingest schema migrate" in missing.stderr
    asyncio.run(fill(dsn))

    listed = report(ingest("dead-letters", "list", "--json", environment=environment))
    topics = [each["topic"] for each in listed["dead_letters"]]
    assert topics == ["a.b/c", "GREENHOUSE/SARA/01", "GREENHOUSE/SARA"]
    one = ingest(
        "dead-letters", "list", "--json", "--reason", "bad_payload", "--topic", "GREENHOUSE/#", "--until",
        "2026-03-01T13:00:01", "--since", "2026-03-01T13:00:00Z", environment=environment,
    )  # fmt: skip
    assert [each["topic"] for each in report(one)["dead_letters"]] == ["GREENHOUSE/SARA/01"]
    asyncio.run(filters_narrow(dsn))
    limited = ingest("dead-letters", "list", "--limit", "2", "--json", environment=environment)
    assert (len(report(limited)["dead_letters"]), report(limited)["more"]) == (2, True)
    table = ingest("dead-letters", "list", environment=environment)
    assert table.returncode == 0
    assert len(table.stdout.splitlines()) == 5
    assert table.stdout.endswith("\n9 more rejected readings were past a budget and only counted\n")
    assert report(limited)["readings_only_counted"] == 9
    assert ingest("dead-letters", "list", "--reason", "x", environment=environment).returncode == 2
    faults = ingest(
        "dead-letters", "list", "--since", "yesterday", "--until", "999999d", "--topic", "a/#/b",
        "--reason", "x", environment=environment,
    )  # fmt: skip
    assert faults.returncode == 2
    assert "4 faults" in faults.stderr

    text = report(ingest("dead-letters", "show", "1", "--json", environment=environment))
    assert text["payload"] == '{"x\x1b[2J": 1}'
    assert text["rejected"] == [
        {"field": "x\x1b[2J", "reason": "unknown_sensor_type", "detail": "because \x1b"}
    ]
    assert text["missing"] == ["label x pump\x1b"]
    shown = ingest("dead-letters", "show", "1", environment=environment)
    assert shown.stdout.replace("\n", "").isprintable()
    assert r"x\x1b[2J" in shown.stdout
    assert r"label x pump\x1b" in shown.stdout
    assert "ff fe 00" in ingest("dead-letters", "show", "2", environment=environment).stdout
    assert (
        report(ingest("dead-letters", "show", "2", "--json", environment=environment))["payload_encoding"]
        == "hex"
    )
    cut = ingest("dead-letters", "show", "3", environment=environment).stdout
    assert "300000 bytes, SHA-256" in cut
    assert "its first 10 bytes" in cut
    none = ingest("dead-letters", "show", "99", environment=environment)
    assert none.returncode == 1
    assert none.stderr == "ingest: dead letter 99 does not exist: see `ingest dead-letters list`\n"
