"""The quality watch on a real database: it waits for one that is away, says so once, and loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import asyncpg
import pytest
from prometheus_client import generate_latest
from structlog.testing import capture_logs

from ingest.migrate import Database
from ingest.model import Delivery, Gateway, RejectedRow, Rejection, Row
from ingest.observe.logs import Repeats
from ingest.observe.metrics import Metrics
from ingest.quality import Conditions
from ingest.quality_watch import QualityWatch
from ingest.resolve import Catalog
from ingest.settings import Settings
from ingest.write import Batch, Outcome
from ingest.write.ledger import Booking
from tests.servers import PostgresCluster
from tests.templates import Templates
from tests.unit.catalog_examples import SARA, SARA_01, UNITS, example_catalog
from tests.unit.quality_stream import GREENHOUSE, series_of
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

THERMOMETER = series_of()
GATEWAY = Gateway("GREENHOUSE/SARA/01", SARA, SARA_01)


def now_us() -> int:
    return time.time_ns() // 1000


@pytest.fixture(scope="module")
def cluster() -> Iterator[PostgresCluster]:
    """A server that the tests stop and start."""
    with PostgresCluster() as server:
        yield server


@pytest.fixture(scope="module")
def templates_there(cluster: PostgresCluster) -> Templates:
    return Templates(cluster)


@pytest.fixture
def dsn(templates_there: Templates) -> str:
    return templates_there.copy(Database.METADATA)


def watch_of(dsn: str, metrics: Metrics | None = None, **quality: object) -> QualityWatch:
    settings = Settings.model_validate({"metadata_dsn": dsn, "quality": {"window_s": 0.2, **quality}})
    watch = QualityWatch(settings, metrics=metrics or Metrics(), repeats=Repeats(3_600))
    watch.on_catalog(example_catalog())
    return watch


@contextlib.asynccontextmanager
async def running(watch: QualityWatch) -> AsyncIterator[None]:
    task = asyncio.create_task(watch.run(lambda: True, lambda: 0))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def committed(
    watch: QualityWatch,
    rows: Sequence[Row] = (),
    rejections: Sequence[Rejection] = (),
    *,
    missing: frozenset[str] = frozenset(),
    gateway: Gateway = GATEWAY,
    refused: dict[int, Rejection] | None = None,
) -> None:
    """Tell *watch* of a batch of one message that was committed."""
    batch = Batch()
    delivery = Delivery("GREENHOUSE/SARA/01", b"", 2, 1)
    index = batch.add(delivery, now_us(), rows, list(rejections), SARA, gateway=gateway)
    if missing:
        batch.curable[index] = missing
    lost = refused or {}
    counts = batch.counts(written=len(rows) - len(lost), duplicate=0, refused=len(lost))
    watch.on_committed(batch, Outcome(counts, lost, staged=bool(lost), booking=Booking()))


def out_of_range() -> Rejection:
    return RejectedRow.of(Row(THERMOMETER, now_us(), 6_484.1, None, ""), "out_of_range", "6484.1 °C")


async def rows_of(dsn: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetch(
            "select *, sample_data ->> 'key' as key from metadata.data_quality_log order by id"
        )
    finally:
        await connection.close()


async def until_counted(dsn: str, kind: str, count: int) -> None:
    """Wait until the rows of *kind* tell of *count* readings."""

    async def holds() -> bool:
        rows = [row for row in await rows_of(dsn) if row["quality_issue_type"] == kind]
        return bool(sum(row["affected_records_count"] for row in rows) == count)

    await until(holds, f"{count} readings {kind}")


async def test_issues_are_written_when_the_window_is_over(dsn: str) -> None:
    metrics = Metrics()
    watch = watch_of(dsn, metrics)
    async with running(watch):
        for number in range(3):
            committed(watch, rejections=[out_of_range(), Rejection("", "unknown_unit", "no unit 'ell'")])
            await until_counted(dsn, "OUT_OF_RANGE", number + 1)
        counted = 'ingest_quality_issues_total{kind="OUT_OF_RANGE"} 3.0'  # once the connection is closed
        await until(lambda: counted in generate_latest(metrics.registry).decode(), counted)
    rows = await rows_of(dsn)
    assert [(row["quality_issue_type"], row["affected_records_count"]) for row in rows] == [
        ("OUT_OF_RANGE", 3),
        ("UNMAPPED_NAME", 3),
    ]
    assert (rows[0]["greenhouse_id"], rows[0]["sensor_id"]) == (GREENHOUSE, THERMOMETER.sensor_id)
    assert (rows[1]["tenant_id"], rows[1]["greenhouse_id"]) == (SARA, SARA_01)


async def test_a_name_is_resolved_when_the_catalog_has_it(dsn: str) -> None:
    watch = watch_of(dsn)
    async with running(watch):
        committed(
            watch,
            rejections=[Rejection("", "unknown_unit", "no unit or alias is called 'ell'")],
            missing=frozenset({"unit * ELL"}),
        )
        await until_counted(dsn, "UNMAPPED_NAME", 1)
        assert [row["status"] for row in await rows_of(dsn)] == ["OPEN"]
        watch.on_catalog(Catalog.build(units=UNITS, unit_aliases=[("ELL", 1)]))

        async def resolved() -> bool:
            return [row["status"] for row in await rows_of(dsn)] == ["RESOLVED"]

        await until(resolved, "the name is resolved")


async def test_what_the_database_refused_is_told_by_sensor(dsn: str) -> None:
    watch = watch_of(dsn)
    rows = [Row(THERMOMETER, now_us() + number, 20.0, None, "") for number in range(3)]
    refused = {
        1: Rejection("", "conflicting_value", "another"),
        2: Rejection("", "database_refused", "SQLSTATE 22003"),
    }
    committed(watch, rows, refused=refused)
    await watch.leave(20)
    found = {row["quality_issue_type"]: row for row in await rows_of(dsn)}
    assert set(found) == {"CONFLICTING_VALUE", "OTHER"}
    assert {row["sensor_id"] for row in found.values()} == {THERMOMETER.sensor_id}


async def test_issues_wait_for_a_database_that_is_away(cluster: PostgresCluster, dsn: str) -> None:
    watch = watch_of(dsn)
    with capture_logs() as logs:
        async with running(watch):
            cluster.stop()
            try:
                for _ in range(20):
                    committed(watch, rejections=[out_of_range()])
                    await asyncio.sleep(0.1)
                await until(lambda: watch.waiting == 1, "they are one, between two attempts to write it")
            finally:
                await asyncio.to_thread(cluster.start)
            await until_counted(dsn, "OUT_OF_RANGE", 20)
            await until(lambda: any(line["event"] == "quality_log_recovered" for line in logs), "it says so")
    assert len(await rows_of(dsn)) == 1
    events = [line["event"] for line in logs]
    assert events.count("quality_log_failed") == 1
    assert events.count("quality_log_recovered") == 1


async def test_a_leaving_watch_writes_what_it_has_or_says_what_is_lost(
    cluster: PostgresCluster, dsn: str
) -> None:
    watch = watch_of(dsn, window_s=3_600)
    committed(watch, rejections=[out_of_range()])
    async with running(watch):
        await asyncio.sleep(0.1)
    await watch.leave(20)
    assert watch.waiting == 0
    assert len(await rows_of(dsn)) == 1
    committed(watch, rejections=[out_of_range()])
    cluster.stop()
    try:
        with capture_logs() as logs:
            await watch.leave(5)
    finally:
        await asyncio.to_thread(cluster.start)
    assert [line["event"] for line in logs] == ["quality_log_failed", "quality_issues_lost"]


async def test_a_gap_that_an_earlier_process_left_open_is_ended_by_the_next(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    series = series_of(uuid4(), greenhouse_id=SARA_01)
    try:
        await connection.execute(
            """
            insert into metadata.data_quality_log (
                data_source, quality_issue_type, severity, greenhouse_id, sensor_id, time_range_start,
                time_range_end, affected_records_count, description, sample_data
            )
            select 'iot.sensor_readings', 'MISSING_DATA', 'LOW', $1, $2, since, since + interval '10 min',
                60, 'silent', jsonb_build_object(
                    'key', 'MISSING_DATA/' || $1::uuid || '/' || $2::uuid || '/1/-',
                    'silent', true, 'since', since, 'interval_s', 10.0, 'overdue', 60, 'sensor_type_id', 1
                )
            from (select now() - interval '16 min') as gap (since)
            """,
            series.greenhouse_id,
            series.sensor_id,
        )
    finally:
        await connection.close()
    watch = watch_of(dsn, resolve_after_s=0)
    async with running(watch):
        committed(watch, [Row(series, now_us(), 20.0, None, "")])

        async def resolved() -> bool:
            return [row["status"] for row in await rows_of(dsn)] == ["RESOLVED"]

        await until(resolved, "the gap is resolved")
    (row,) = await rows_of(dsn)
    assert row["affected_records_count"] == 95  # 960 s, one every 10 s, the last has come
    assert "readings are back" in row["description"]


async def test_a_row_that_somebody_edited_holds_up_nothing(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("""
            insert into metadata.data_quality_log (
                data_source, quality_issue_type, severity, greenhouse_id, sensor_id, description, sample_data
            )
            values ('x', 'MISSING_DATA', 'LOW', gen_random_uuid(), gen_random_uuid(), 'x', '{
                "key": "x", "silent": true, "since": "long ago", "interval_s": 1, "overdue": 1,
                "sensor_type_id": 1
            }')
        """)
    finally:
        await connection.close()
    watch = watch_of(dsn)
    with capture_logs() as logs:
        async with running(watch):
            committed(watch, rejections=[out_of_range()])
            await until_counted(dsn, "OUT_OF_RANGE", 1)
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["quality_gaps_unreadable"]


async def test_a_fault_of_the_survey_stops_nothing(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = watch_of(dsn)
    monkeypatch.setattr("ingest.quality.findings.subject_of_rejected", UUID)
    with capture_logs() as logs:
        for _ in range(3):
            committed(watch, rejections=[out_of_range()])
    assert [line["event"] for line in logs] == ["quality_survey_failed"]


async def test_switched_off_it_does_nothing(dsn: str) -> None:
    watch = watch_of(dsn, enabled=False)
    async with running(watch):
        committed(watch, rejections=[out_of_range()])
        assert watch.waiting == 0
        await asyncio.sleep(0.5)
    await watch.leave(5)
    assert await rows_of(dsn) == []


def test_a_fault_of_the_conditions_leaves_them_out(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = watch_of(dsn)
    committed(watch, [Row(series_of(greenhouse_id=SARA_01), now_us(), 21.5, None, "")])
    watch.catch_up()
    monkeypatch.setattr("ingest.quality.conditions.heapq.nsmallest", UUID)
    with capture_logs() as logs:
        for _ in range(3):
            assert watch.conditions == Conditions([], 0)
    assert [line["event"] for line in logs] == ["quality_survey_failed"]
    monkeypatch.undo()
    watch_again = watch_of(dsn)
    committed(watch_again, [Row(series_of(greenhouse_id=SARA_01), now_us(), 21.5, None, "")])
    watch_again.catch_up()
    conditions = watch_again.conditions
    assert conditions is not None
    assert [each.value for each in conditions.shown] == [21.5]
