"""The rows of metadata.data_quality_log: one an open issue, whoever finds it; closed by whom it concerns."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from ingest.errors import Unavailable
from ingest.quality import KINDS, Issue, Kind, OpenGap, Subject
from ingest.write.quality_log import QualityLog
from tests.batches import NOW_US
from tests.proxy import Proxy
from tests.servers import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from ingest.errors import Poison
    from ingest.quality.issues import Severity

    Connection = asyncpg.Connection[asyncpg.Record]

TENANT, GREENHOUSE, SENSOR = (uuid.UUID(int=number) for number in (1, 2, 3))
SECOND_US = 1_000_000


def issue_of(
    kind: Kind = "SPIKE",
    count: int = 1,
    *,
    sensor_id: uuid.UUID = SENSOR,
    at_s: int = 0,
    severity: Severity = "LOW",
    value: float = 60.0,
    by: float = 1.0,
    text: str = "look at the cable",
) -> Issue:
    """Make an issue of *count* readings in the second *at_s*."""
    at_us = NOW_US + at_s * SECOND_US
    issue = Issue(
        Subject(kind, TENANT, GREENHOUSE, sensor_id, 1), "iot.sensor_readings", text, severity, at_us, at_us
    )
    issue.add(at_us, at_us + SECOND_US, count=count, by=by)
    issue.show({"value": value}, by)
    return issue


def gap_of(seconds: int, *, silent: bool, since_s: int = 0) -> Issue:
    issue = issue_of("MISSING_DATA", seconds // 10, at_s=since_s, by=float(seconds))
    issue.last_us = issue.first_us + seconds * SECOND_US
    issue.facts = {
        "silent": silent,
        "since": "2025-11-17T10:16:00+00:00",
        "interval_s": 10.0,
        "overdue": seconds // 10,
        "sensor_type_id": 1,
    }
    return issue


class LogUnderTest(QualityLog):
    """A QualityLog for a catalog that learns no name, unless the test says otherwise."""

    def __init__(self, dsn: str, client_id: str = "worker-1", *, resolve_after_s: float = 3_600) -> None:
        super().__init__(dsn, client_id, resolve_after_s=resolve_after_s)

    async def write(
        self, issues: Sequence[Issue], is_cured: Callable[[Sequence[str]], bool] = lambda _: False
    ) -> list[tuple[Issue, Poison]]:
        return await super().write(issues, is_cured)


@pytest.fixture
async def admin(metadata_dsn: str) -> AsyncIterator[Connection]:
    """The superuser, in a migrated database."""
    connection = await asyncpg.connect(metadata_dsn)
    yield connection
    await connection.close()


@pytest.fixture
async def worker_dsn(admin: Connection, metadata_dsn: str) -> AsyncIterator[str]:
    """The DSN of a login that may do what a worker may."""
    name = f"login_{uuid.uuid4().hex[:12]}"
    await admin.execute(f"create role {name} login in role greenhouse_worker")
    parts = urlsplit(metadata_dsn)
    yield urlunsplit(parts._replace(netloc=f"{name}@{parts.hostname}:{parts.port}"))
    await admin.execute(f"drop role {name}")


@pytest.fixture
def quality_log(worker_dsn: str) -> LogUnderTest:
    return LogUnderTest(worker_dsn)


async def rows_of(admin: Connection) -> list[dict[str, Any]]:
    rows = await admin.fetch("select * from metadata.data_quality_log order by id")
    return [{**row, "sample_data": json.loads(row["sample_data"] or "null")} for row in rows]


async def test_an_issue_that_goes_on_extends_its_row(admin: Connection, quality_log: LogUnderTest) -> None:
    assert await quality_log.write([issue_of(at_s=0, value=60.0, by=2.0)]) == []
    await quality_log.write(
        [issue_of(count=5, at_s=300, value=99.0, by=4.0, severity="HIGH", text="look again")]
    )
    await quality_log.write([issue_of(at_s=600, value=61.0, by=2.5)])
    (row,) = await rows_of(admin)
    assert row["affected_records_count"] == 7
    assert row["severity"] == "HIGH"
    assert row["description"] == "look at the cable"  # the latest word
    assert (row["time_range_end"] - row["time_range_start"]).total_seconds() == 601
    assert row["sample_data"] == {
        "key": f"SPIKE/{GREENHOUSE}/{SENSOR}/1/-",
        "first": {"value": 60.0},
        "worst": {"value": 99.0},
        "worst_by": 4.0,
    }
    assert (row["greenhouse_id"], row["sensor_id"], row["tenant_id"]) == (GREENHOUSE, SENSOR, TENANT)
    assert (row["status"], row["data_source"]) == ("OPEN", "iot.sensor_readings")


async def test_every_kind_can_be_written(admin: Connection, quality_log: LogUnderTest) -> None:
    assert await quality_log.write([issue_of(kind) for kind in KINDS]) == []
    assert {row["quality_issue_type"] for row in await rows_of(admin)} == set(KINDS)


async def test_workers_at_the_same_time_share_one_row_an_issue(admin: Connection, worker_dsn: str) -> None:
    sensors = [uuid.UUID(int=number) for number in range(10, 60)]

    async def write(worker: int) -> None:
        log = LogUnderTest(worker_dsn, f"worker-{worker}")
        for turn in range(10):
            found = [issue_of(sensor_id=each, at_s=worker + turn) for each in sensors]
            assert await log.write(found[::-1] if worker % 2 else found) == []

    await asyncio.gather(*(write(worker) for worker in range(4)))
    rows = await rows_of(admin)
    assert len(rows) == len(sensors)
    assert {row["affected_records_count"] for row in rows} == {40}


async def test_what_a_person_decided_holds(admin: Connection, quality_log: LogUnderTest) -> None:
    sensors = [uuid.UUID(int=number) for number in range(10, 13)]
    issues = [issue_of(sensor_id=each) for each in sensors]
    await quality_log.write(issues)
    for status, sensor_id in zip(("IGNORED", "INVESTIGATING", "RESOLVED"), sensors, strict=True):
        await admin.execute(
            "update metadata.data_quality_log set status = $1 where sensor_id = $2", status, sensor_id
        )
    await quality_log.write(issues)
    assert [(row["status"], row["affected_records_count"]) for row in await rows_of(admin)] == [
        ("IGNORED", 2),
        ("INVESTIGATING", 2),
        ("RESOLVED", 1),
        ("OPEN", 1),
    ]


async def test_a_gap_is_resolved_some_time_after_readings_are_back(
    admin: Connection, quality_log: LogUnderTest, worker_dsn: str
) -> None:
    patient = LogUnderTest(worker_dsn, "worker-2", resolve_after_s=10 * 366 * 86_400)
    await quality_log.write([gap_of(600, silent=True)])
    (row,) = await rows_of(admin)
    assert (row["status"], row["affected_records_count"]) == ("OPEN", 60)
    await patient.write([gap_of(900, silent=False)])
    assert [row["status"] for row in await rows_of(admin)] == ["OPEN"]
    await quality_log.write([])
    assert [row["status"] for row in await rows_of(admin)] == ["RESOLVED"]
    await quality_log.write([gap_of(600, silent=True)])
    assert [row["status"] for row in await rows_of(admin)] == ["RESOLVED", "OPEN"]


async def test_another_gap_before_that_is_the_same_row(admin: Connection, worker_dsn: str) -> None:
    patient = LogUnderTest(worker_dsn, resolve_after_s=10 * 366 * 86_400)
    for number in range(5):
        await patient.write([gap_of(600, silent=True, since_s=number * 1_000)])
        await patient.write([gap_of(600, silent=False, since_s=number * 1_000)])
    (row,) = await rows_of(admin)
    assert row["status"] == "OPEN"
    assert (row["time_range_end"] - row["time_range_start"]).total_seconds() == 4_600


async def test_only_open_gaps_are_resolved_by_the_worker(
    admin: Connection, quality_log: LogUnderTest, worker_dsn: str
) -> None:
    patient = LogUnderTest(worker_dsn, "worker-2", resolve_after_s=10 * 366 * 86_400)
    await patient.write([gap_of(600, silent=False), issue_of("SPIKE"), issue_of("OUT_OF_RANGE")])
    await admin.execute(
        "update metadata.data_quality_log set status = 'INVESTIGATING'"
        " where quality_issue_type = 'MISSING_DATA'"
    )
    await quality_log.write([])
    assert {row["status"] for row in await rows_of(admin)} == {"INVESTIGATING", "OPEN"}


async def test_open_gaps_are_given_to_the_next_process(admin: Connection, quality_log: LogUnderTest) -> None:
    assert await quality_log.open_gaps() == []
    await quality_log.write([gap_of(600, silent=True), issue_of("SPIKE")])
    assert await quality_log.open_gaps() == [OpenGap(GREENHOUSE, SENSOR, 1, NOW_US, 10 * SECOND_US, 60)]
    await quality_log.write([gap_of(900, silent=False)])
    assert await quality_log.open_gaps() == []
    await admin.execute("""
        insert into metadata.data_quality_log
            (data_source, quality_issue_type, severity, description, sample_data)
        values ('by hand', 'MISSING_DATA', 'LOW', 'not the worker''s', '{"silent": true}')
    """)
    assert await quality_log.open_gaps() == []


async def test_an_issue_that_the_database_refuses_holds_up_no_other(
    admin: Connection, quality_log: LogUnderTest
) -> None:
    bad = issue_of("OUT_OF_RANGE", count=-5)
    ((refused, fault),) = await quality_log.write([issue_of("SPIKE"), bad, issue_of("OTHER")])
    assert refused is bad
    assert fault.sqlstate == "23514"
    assert [row["quality_issue_type"] for row in await rows_of(admin)] == ["SPIKE", "OTHER"]


async def test_an_issue_follows_its_greenhouse_to_another_tenant(
    admin: Connection, quality_log: LogUnderTest
) -> None:
    before, after = issue_of(), issue_of()
    after.subject = before.subject._replace(tenant_id=uuid.UUID(int=9))
    await quality_log.write([before])
    await quality_log.write([after])
    (row,) = await rows_of(admin)
    assert (row["affected_records_count"], row["tenant_id"]) == (2, after.subject.tenant_id)


async def test_two_of_one_key_hold_up_no_other_and_are_both_counted(
    admin: Connection, quality_log: LogUnderTest
) -> None:
    issues = [issue_of("SPIKE"), issue_of("OTHER"), issue_of("SPIKE")]
    assert await quality_log.write(issues) == []
    rows = await rows_of(admin)
    assert {row["quality_issue_type"]: row["affected_records_count"] for row in rows} == {
        "SPIKE": 2,
        "OTHER": 1,
    }


async def test_whatever_text_a_gateway_chose_is_stored(admin: Connection, quality_log: LogUnderTest) -> None:
    issue = issue_of(text="a \x00 and \ud800")
    issue.subject = Subject("UNMAPPED_NAME", None, None, about="x\x00\ud800" * 50)
    issue.first = {"topic": "a\x00\ud800", "number": float("inf")}
    assert await quality_log.write([issue]) == []
    await quality_log.write([issue])
    (row,) = await rows_of(admin)
    assert row["affected_records_count"] == 2
    assert row["sample_data"]["first"]["topic"] == "a\ufffd\ufffd"


async def test_names_in_the_catalog_and_names_on_the_wire_do_not_fight(
    admin: Connection, quality_log: LogUnderTest
) -> None:
    await admin.execute("""
        insert into metadata.tenants (name, mqtt_topic_prefix) values ('Sara', 'SARA');
        insert into metadata.greenhouses (tenant_id, name, greenhouse_code)
        select id, '01', '01' from metadata.tenants;
        insert into metadata.sensors (tenant_id, greenhouse_id, sensor_code, sensor_type)
        select tenant_id, id, 'S1', 'EXTRACTOR' from metadata.greenhouses;
    """)
    await quality_log.write([issue_of("UNMAPPED_NAME")])
    assert await admin.fetchval("select metadata.note_unmapped_names()") == 1
    await quality_log.write([issue_of("UNMAPPED_NAME")])
    assert await admin.fetchval("select metadata.note_unmapped_names()") == 0
    rows = await rows_of(admin)
    assert [(row["data_source"], row["status"]) for row in rows] == [
        ("iot.sensor_readings", "OPEN"),
        ("metadata.sensors.sensor_type", "OPEN"),
    ]
    await admin.execute("update metadata.sensors set sensor_type = 'CO2'")
    await admin.fetchval("select metadata.note_unmapped_names()")
    assert [row["status"] for row in await rows_of(admin)] == ["OPEN", "RESOLVED"]


async def test_an_unmapped_name_is_resolved_once_the_catalog_has_it(
    admin: Connection, quality_log: LogUnderTest
) -> None:
    known: set[str] = set()
    names = {"unit * furlong": 0, "unit * ell": 1, "sensor_type * bomba": 2}

    def found() -> list[Issue]:
        issues = [issue_of("UNMAPPED_NAME", sensor_id=uuid.UUID(int=number + 9)) for number in names.values()]
        for issue, name in zip(issues, names, strict=True):
            issue.facts = {"missing": [name, "unit * ell"] if name.startswith("sensor") else [name]}
        return issues

    def is_cured(missing: Sequence[str]) -> bool:
        return known.issuperset(missing)

    await quality_log.write(found(), is_cured)
    assert {row["status"] for row in await rows_of(admin)} == {"OPEN"}
    known |= {"unit * furlong", "sensor_type * bomba"}
    await quality_log.write([], is_cured)
    assert [row["status"] for row in await rows_of(admin)] == ["RESOLVED", "OPEN", "OPEN"]
    await admin.execute("update metadata.data_quality_log set status = 'IGNORED' where status = 'OPEN'")
    known.add("unit * ell")
    await quality_log.write(found()[1:], is_cured)
    assert [row["status"] for row in await rows_of(admin)] == ["RESOLVED", "IGNORED", "IGNORED"]


async def test_a_worker_changes_only_the_rows_of_workers(
    admin: Connection, quality_log: LogUnderTest, worker_dsn: str
) -> None:
    await admin.execute("""
        insert into metadata.data_quality_log (data_source, quality_issue_type, severity, description)
        values ('by hand', 'OTHER', 'LOW', 'look at this')
    """)
    await quality_log.write([issue_of()])
    connection = await asyncpg.connect(worker_dsn)
    try:
        assert (
            await connection.execute("update metadata.data_quality_log set status = 'IGNORED'") == "UPDATE 1"
        )
    finally:
        await connection.close()
    assert [row["status"] for row in await rows_of(admin)] == ["OPEN", "IGNORED"]


async def test_a_server_that_is_not_there_or_does_not_answer_is_unavailable(
    worker_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = urlsplit(worker_dsn)
    nowhere = urlunsplit(parts._replace(netloc=f"{parts.username}@127.0.0.1:{free_port()}"))
    with pytest.raises(Unavailable, match="cannot be reached"):
        await LogUnderTest(nowhere).write([issue_of()])
    monkeypatch.setattr("ingest.write.quality_log.WRITE_TIMEOUT_S", 1.0)
    assert parts.port is not None
    async with Proxy(parts.port) as proxy:
        log = LogUnderTest(proxy.url(worker_dsn))
        for way in ("stall", "cut"):
            proxy.set_trap(b"insert into metadata", way, forward=False)
            with pytest.raises(Unavailable):
                await log.write([issue_of()])
        assert await log.write([issue_of()]) == []
