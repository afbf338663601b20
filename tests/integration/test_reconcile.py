"""`ingest reconcile` on real tables: what adds up is said to, and each kind of damage is named."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest

from ingest.errors import CheckFailed, ConfigurationError, Misconfigured
from ingest.migrate import Database, migrate
from ingest.model import UNPLACED, Delivery, Gateway, Rejection, Row
from ingest.operate.reconcile import Findings, Question, reconcile
from ingest.operate.reconcile_judge import judge
from ingest.write import Batch, Counts
from ingest.write.backfill import Source, book, land
from ingest.write.ledger import HOUR_US
from tests.batches import WriterUnderTest, series_of

Connection = asyncpg.Connection
EVERY_S = 30
START_US = (time.time_ns() // 1000 // HOUR_US - 3) * HOUR_US
"""Three whole hours ago."""
START = datetime.fromtimestamp(START_US / 1e6, UTC)
ONE, OTHER = series_of(), series_of()
GATEWAY = Gateway("greenhouse/A1", ONE.tenant_id, ONE.greenhouse_id)
TENANT_WIDE = Gateway("GREENHOUSE/SARA", OTHER.tenant_id)


def hour_batch(hour: int) -> Batch:
    """One hour of two gateways at their interval, with a dead letter and an ignored message."""
    batch = Batch()
    for number in range(3600 // EVERY_S):
        time_us = START_US + hour * HOUR_US + number * EVERY_S * 1_000_000
        for series, gateway in ((ONE, GATEWAY), (OTHER, TENANT_WIDE)):
            row = Row(series, time_us, 1.0, None, "")
            batch.add(Delivery("t", b"1", 2, len(batch) + 1), time_us + 500_000, [row], gateway=gateway)
    at_us = START_US + hour * HOUR_US + 5
    rejection = Rejection("", "bad_payload", "no JSON")
    batch.add(Delivery("greenhouse/A1/x", b"?", 2, 9), at_us, (), [rejection], gateway=GATEWAY)
    batch.ignore(Delivery("SYSTEM/x", b"", 0, 0), at_us)
    return batch


@pytest.fixture
async def tables(writer: WriterUnderTest, connection: Connection) -> Connection:
    """Two hours of readings, booked by a writer."""
    for hour in range(2):
        batch = hour_batch(hour)
        await writer.commit(batch, [1 << 32, 2 << 32, 3 << 32], also=Counts(received=len(batch)))
    return connection


async def ask(dsn: str, metadata_dsn: str | None = None, **wanted: str) -> Findings:
    until = START + timedelta(hours=2)
    question = Question(START, until, wanted.get("tenant"), wanted.get("gateway"))
    return await reconcile(dsn, metadata_dsn, question, datetime.now(UTC))


async def faults(dsn: str, **wanted: str) -> list[str]:
    return judge(await ask(dsn, **wanted), replaces=False, max_gaps=0, complete_pct=100).faults


@pytest.mark.usefixtures("tables")
async def test_what_adds_up_is_found_so(timeseries_dsn: str) -> None:
    found = await ask(timeseries_dsn)
    verdict = judge(found, replaces=False, max_gaps=0, complete_pct=100)
    assert verdict.faults == []
    assert [each[:12] for each in verdict.remarks] == ["metadata_dsn"]
    per_hour = 3600 // EVERY_S
    rows = {each["gateway"]: (each["received"], each["written"], each["rejected"]) for each in found.gateways}
    assert rows == {
        GATEWAY.name: (2 * per_hour + 2, 2 * per_hour, 2),
        TENANT_WIDE.name: (2 * per_hour, 2 * per_hour, 0),
        UNPLACED.name: (2, 0, 0),
    }
    assert [(each["booked"], each["stored"]) for each in found.rows] == [(2 * per_hour,) * 2] * 2
    assert [each.pauses.completeness_pct for each in found.sensors] == [100.0, 100.0]
    assert [each.pauses.interval_s for each in found.sensors] == [float(EVERY_S)] * 2
    assert found.dead_letters == {GATEWAY.name: (2, 2)}
    (session,) = found.sessions
    assert session["unproven"] == 3
    assert {each["behind_s"] for each in found.gateways} == {0.5, None}


HOUR = f"{START:%Y-%m-%dT%H:00Z}"
DAMAGE = {
    "a removed reading": (
        "delete from iot.sensor_readings where time = $1 and sensor_id = $2",
        f"of tenant {ONE.tenant_id}: 1 rows are gone that were written, of the hour {HOUR}",
    ),
    "a counter of a gateway": (
        """
            update iot.ingest_gateway_hours set written = written + 2
            where hour = $1 and gateway = 'greenhouse/A1' and $2::uuid is not null
        """,
        "decoded, but 122 written + 0 duplicate + 1 rejected + 0 nulls = 123: 2 too many",
    ),
    "a hour of a gateway": (
        """
            delete from iot.ingest_gateway_hours
            where hour = $1 and gateway = 'GREENHOUSE/SARA' and $2::uuid is not null
        """,
        "its total of written is 480, its hours add up to 360",
    ),
    "a total": (
        """
            update iot.ingest_counters set value = value - 1
            where counter = 'committed' and ($1::timestamptz, $2::uuid) is not null
        """,
        "its total of committed is 481, its hours add up to 482",
    ),
    "a message too many": (
        """
            update iot.ingest_gateway_hours set received = received + 1, committed = committed + 2
            where hour = $1 and gateway = '(unplaced)' and $2::uuid is not null
        """,
        f"gateway (unplaced) at {HOUR}",
    ),
    "a dead letter nobody counted": (
        """
            insert into iot.ingest_dead_letters (
                received_at, client_id, topic, payload, payload_bytes, rejected, reasons, rejected_count,
                gateway
            )
            select $1, $2::uuid::text, topic, payload, payload_bytes, rejected, reasons, 1, gateway
            from iot.ingest_dead_letters
            limit 1
        """,
        "gateway greenhouse/A1: 2 readings were rejected, its dead letters hold 3",
    ),
}


@pytest.mark.parametrize(("statement", "fault"), DAMAGE.values(), ids=DAMAGE)
async def test_damage_is_named(statement: str, fault: str, tables: Connection, timeseries_dsn: str) -> None:
    await tables.execute(statement, START, ONE.sensor_id)
    found = judge(await ask(timeseries_dsn), replaces=False).faults
    assert any(fault in each for each in found), found


async def test_a_gap_is_named_by_sensor_begin_and_length(tables: Connection, timeseries_dsn: str) -> None:
    began, ended = START + timedelta(minutes=10), START + timedelta(minutes=20)
    gone = "delete from iot.sensor_readings where sensor_id = $1 and time > $2 and time < $3"
    await tables.execute(gone, ONE.sensor_id, began, ended)
    booked = "update iot.ingest_written_hours set rows = 101 where hour = $1 and greenhouse_id = $2"
    await tables.execute(booked, START, ONE.greenhouse_id)
    found = await faults(timeseries_dsn)
    assert found == [
        f"1 gaps, 0 are allowed; the longest: sensor {ONE.sensor_id}, 600 s from {began:%Y-%m-%dT%H:%M:%SZ}",
        f"sensor {ONE.sensor_id}: 221 of 240 readings, 92.08 % where 100 % are asked for",
    ]
    assert judge(await ask(timeseries_dsn), replaces=False, max_gaps=1, complete_pct=90).faults == []
    (pauses,) = [each.pauses for each in (await ask(timeseries_dsn)).sensors if each.pauses.gaps]
    (gap,) = pauses.longest
    assert (gap.began_at, gap.ended_at) == (began, ended)


async def test_a_registered_sensor_is_judged_by_its_interval_also_when_it_is_silent(
    tables: Connection, timeseries_dsn: str
) -> None:
    silent = uuid4()
    await tables.executemany(
        "insert into iot.sensor_intervals values ($1, $2, $3)",
        [(ONE.sensor_id, ONE.greenhouse_id, 10), (silent, ONE.greenhouse_id, 60)],
    )
    sensors = {each.sensor_id: each for each in (await ask(timeseries_dsn)).sensors}
    assert sensors[ONE.sensor_id].pauses.completeness_pct == pytest.approx(33.33)
    assert sensors[ONE.sensor_id].registered
    assert sensors[silent].pauses.expected == 120
    assert sensors[silent].pauses.silent_since == START
    assert not sensors[OTHER.sensor_id].registered


async def test_what_cannot_be_compared_is_only_remarked_on(tables: Connection, timeseries_dsn: str) -> None:
    await tables.execute("delete from iot.ingest_dead_letters where dead_letter_id = 1")
    legacy = """
        insert into iot.sensor_readings (time, greenhouse_id, tenant_id, sensor_type, value)
        values ($1, $2, $3, 'temperature', 1)
    """
    await tables.execute(legacy, START, ONE.greenhouse_id, ONE.tenant_id)
    verdict = judge(await ask(timeseries_dsn), replaces=False)
    assert verdict.faults == []
    assert verdict.remarks[1:] == [
        "1 rejected readings are not among the dead letters any more: replayed or purged",
        "1 rows are booked nowhere: a legacy writer's, or put in by hand",
    ]
    await tables.execute("delete from iot.sensor_readings where sensor_id = $1", ONE.sensor_id)
    assert judge(await ask(timeseries_dsn), replaces=True).faults == []


@pytest.mark.parametrize("source", get_args(Source))
async def test_what_no_session_delivered_is_booked_all_the_same(
    tables: Connection, timeseries_dsn: str, source: Source
) -> None:
    before = judge(await ask(timeseries_dsn), replaces=False)
    rows = [Row(series_of(like=ONE, unit_id=2), START_US + number, 1.0, None, "") for number in (1, 2)]
    async with tables.transaction():
        landed = await land(tables, rows, policy="dead_letter", now_us=START_US)
        await book(tables, landed.new, source)
    assert landed.written == 2
    assert judge(await ask(timeseries_dsn), replaces=False) == before
    page = Path(__file__).parents[2] / "docs/reconciling.md"
    assert f"`{source}`" in page.read_text(encoding="utf-8")


async def test_one_gateway_or_tenant_alone(tables: Connection, timeseries_dsn: str) -> None:
    await tables.execute(
        "delete from iot.sensor_readings where time = $1 and sensor_id = $2", START, ONE.sensor_id
    )
    placed = await ask(timeseries_dsn, gateway=GATEWAY.name)
    assert [each["gateway"] for each in placed.gateways] == [GATEWAY.name]
    assert [each["greenhouse_id"] for each in placed.rows] == [ONE.greenhouse_id]
    assert [each.sensor_id for each in placed.sensors] == [ONE.sensor_id]
    assert len(judge(placed, replaces=False).faults) == 1
    wide = await ask(timeseries_dsn, gateway=TENANT_WIDE.name)
    assert [each["greenhouse_id"] for each in wide.rows] == [OTHER.greenhouse_id]
    assert judge(wide, replaces=False).faults == []
    tenant = await ask(timeseries_dsn, tenant=str(OTHER.tenant_id))
    assert [each["gateway"] for each in tenant.gateways] == [TENANT_WIDE.name]
    assert [each.sensor_id for each in tenant.sensors] == [OTHER.sensor_id]
    unplaced = await ask(timeseries_dsn, gateway=UNPLACED.name)
    assert (list(unplaced.rows), list(unplaced.sensors)) == ([], [])
    with pytest.raises(CheckFailed, match="nobody"):
        await ask(timeseries_dsn, gateway="nobody")
    with pytest.raises(ConfigurationError, match="metadata_dsn"):
        await ask(timeseries_dsn, tenant="SARA")


async def test_names_come_from_the_catalog(tables: Connection, timeseries_dsn: str) -> None:
    await migrate(timeseries_dsn, Database.METADATA)
    await tables.execute(
        "insert into metadata.tenants (id, name, mqtt_topic_prefix) values ($1, 'Sara', 'SARA')",
        ONE.tenant_id,
    )
    await tables.execute(
        "insert into metadata.greenhouses (id, tenant_id, name, greenhouse_code) values ($1, $2, 'g', 'A1')",
        ONE.greenhouse_id,
        ONE.tenant_id,
    )
    found = await ask(timeseries_dsn, timeseries_dsn, tenant="SARA")
    assert [each["gateway"] for each in found.gateways] == [GATEWAY.name]
    assert (found.names.tenant(ONE.tenant_id), found.names.greenhouse(ONE.greenhouse_id)) == ("SARA", "A1")
    assert found.names.remark is None
    with pytest.raises(ConfigurationError, match="one of: SARA"):
        await ask(timeseries_dsn, timeseries_dsn, tenant="HORTAMED")


async def test_the_operator_may_and_the_reader_may_not(tables: Connection, timeseries_dsn: str) -> None:
    for role in ("greenhouse_operator", "greenhouse_reader"):
        login = f"{role}_{uuid4().hex[:8]}"
        await tables.execute(f"create role {login} login in role {role}")
        parts = urlsplit(timeseries_dsn)
        dsn = urlunsplit(parts._replace(netloc=f"{login}@{parts.hostname}:{parts.port}"))
        if role == "greenhouse_operator":
            assert judge(await ask(dsn), replaces=False).faults == []
        else:
            with pytest.raises(Misconfigured, match="greenhouse_operator"):
                await ask(dsn)
        await tables.execute(f"drop role {login}")


def test_the_hours_of_a_range_are_whole() -> None:
    half = timedelta(minutes=30)
    question = Question(START + half, START + timedelta(hours=2, minutes=30))
    assert (question.first_hour, question.before_hour) == (START, START + timedelta(hours=3))
    assert Question(START, START + timedelta(hours=2)).before_hour == START + timedelta(hours=2)
