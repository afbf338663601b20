"""Recordings into the database without a broker: every message accounted for, each reading once."""

from __future__ import annotations

import asyncio
import gzip
import multiprocessing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from ingest.load.recording import Damage, Recording, line_of
from ingest.write import backfiller
from tests.histories import HOUSE, PROBE, fetch, register, rows
from tests.proxy import Proxy
from tests.recordings import MAP_TOPIC, START_US, Backfills, messages_in, numbered, recorded, write

if TYPE_CHECKING:
    from pathlib import Path

    from ingest.load.direct import DirectReport
    from ingest.load.recording import Recorded

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BATCH_TOPIC = f"greenhouse/{HOUSE}/readings"
STORED = """
    select (extract(epoch from time) * 1000000)::bigint as at_us, value
    from iot.sensor_readings
    order by 1, 2
"""


@pytest.fixture
async def dsn(plain_dsn: str) -> str:
    await register(plain_dsn)
    return plain_dsn


@pytest.fixture
def backfills(dsn: str) -> Backfills:
    return Backfills(dsn)


def readings(report: DirectReport) -> tuple[int, int, int, int, int]:
    """Give decoded, written, duplicate, null and rejected, once they add up."""
    account = report.account
    rejected = account.rejected.total()
    assert account.decoded == account.written + account.duplicate + account.null + rejected
    return (account.decoded, account.written, account.duplicate, account.null, rejected)


MIXED = [
    recorded({"SENSOR_01": 1.5, "TEMP 01": 20, "HUMEDAD_01": None}),
    recorded({"SENSOR_01": 2.5, "BOMBA": 1}, 1),
    recorded({"SENSOR_01": 2.5}, 2, retain=True),
    recorded({"SENSOR_01": 2.5}, 3, "GREENHOUSE/RESPONSE"),
    recorded(b"", 4),
    recorded(b"\xff", 5),
    recorded([{"sensor_id": "X", "sensor_type": "CO2", "value": 400, "timestamp": "2024-07-03T09:00:00Z"},
              {"sensor_id": "X", "sensor_type": "CO2", "value": 401, "timestamp": "2025-07-03T09:00:00Z"}], 6,
             BATCH_TOPIC),
    recorded([{"sensor_id": "X", "sensor_type": "CO2", "value": 9, "timestamp": "2024-07-03T09:00:00Z"}], 7,
             BATCH_TOPIC),
    recorded({"SENSOR_01": 3}, 8, "GREENHOUSE/NOBODY"),
]  # fmt: skip


async def test_each_message_is_accounted_for(dsn: str, backfills: Backfills, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl.gz", MIXED, block=2)
    rejected = tmp_path / "rejected.jsonl.gz"
    report = await backfills(path, rejected=rejected)
    assert readings(report) == (10, 4, 0, 1, 5)
    account = report.account
    assert (account.messages, account.ignored, account.incomplete) == (9, 3, 5)
    assert account.rejected == {
        "unknown_sensor_type": 1, "bad_payload": 1, "bad_timestamp": 1, "conflicting_value": 1,
        "unknown_tenant": 1,
    }  # fmt: skip
    assert account.examples["unknown_sensor_type"].startswith(f"{MAP_TOPIC} 'BOMBA': ")
    assert not report.clean
    assert report.point.finished
    found = [tuple(each) for each in await fetch(dsn, STORED)]
    assert found == [
        (START_US - 3_600_000_000, 400.0),
        (START_US, 1.5),
        (START_US, 20.0),
        (START_US + 1, 2.5),
    ]
    assert messages_in(rejected) == [MIXED[number] for number in (1, 5, 6, 7, 8)], "to the microsecond"
    before = await rows(dsn)
    again = await backfills(path)
    assert readings(again) == (10, 0, 4, 1, 5)
    assert await rows(dsn) == before, "a second time changes nothing"
    # What the catalog lacked is registered: of the rejected messages, the rest comes to the keys of then.
    await fetch(dsn, "insert into metadata.sensor_type_aliases (alias, sensor_type_id) values ('BOMBA', 11)")
    await fetch(
        dsn,
        """
        insert into metadata.sensors
            (id, greenhouse_id, tenant_id, sensor_code, sensor_type, mqtt_field_name)
        select $1, id, tenant_id, 'B', 'SENSOR', 'BOMBA' from metadata.greenhouses where id = $2
        """,
        uuid4(), HOUSE,
    )  # fmt: skip
    cured = await backfills(rejected)
    assert readings(cured) == (7, 1, 2, 0, 4)
    assert (START_US + 1, 1.0) in [tuple(each) for each in await fetch(dsn, STORED)]


async def test_times_are_judged_by_when_they_came(dsn: str, backfills: Backfills, tmp_path: Path) -> None:
    day_us = 86_400_000_000

    def reading(age_us: int, at: int) -> Recorded:
        moment = EPOCH + timedelta(microseconds=START_US + at - age_us)
        return recorded(
            {"value": at, "timestamp": moment.isoformat()}, at, f"greenhouse/{HOUSE}/sensors/sensor"
        )

    path = write(
        tmp_path / "a.jsonl.gz",
        [
            reading(29 * day_us, 1),
            reading(31 * day_us, 2),
            reading(-299_000_000, 3),
            reading(-301_000_000, 4),
        ],
    )
    report = await backfills(path)
    assert report.account.rejected == {"bad_timestamp": 2}
    assert sorted(each["value"] for each in await rows(dsn)) == [1.0, 3.0]


@pytest.mark.parametrize("connections", [1, 3])
async def test_stopped_and_gone_on(dsn: str, backfills: Backfills, tmp_path: Path, connections: int) -> None:
    messages = numbered(4_000)
    messages[::100] = [
        recorded({"SENSOR_01": "x", "SENSOR_02": 1}, number) for number in range(0, 4_000, 100)
    ]
    first, second = write(tmp_path / "a.jsonl.gz", messages[:2_000], block=50), tmp_path / "b.jsonl.gz"
    write(second, messages[2_000:], block=50)
    rejected, stop = tmp_path / "r.jsonl.gz", asyncio.Event()

    def on_progress(_: object) -> None:
        if len(backfills.points) > 5:  # the first is where it begins
            stop.set()

    report = await backfills(
        first,
        second,
        connections=connections,
        rejected=rejected,
        batch=100,
        stop=stop,
        on_progress=on_progress,
    )
    assert (report.interrupted, report.clean, report.point.finished) == (True, False, False)
    stored = await rows(dsn)
    assert 500 <= len(stored) < 4_000
    assert report.account.written == len(stored), (
        "what is stored is counted: all pieces under way were finished"
    )
    # A kill loses the end of what was counted, and leaves in the file of rejects what comes once more.
    backfills.point = backfills.points[2]
    report = await backfills(
        first, second, connections=connections, rejected=rejected, batch=100, resume=True
    )
    assert (report.point.finished, report.failure, report.account.messages) == (True, None, 4_000)
    assert readings(report)[0] == 4_040
    assert report.account.rejected == {"bad_value": 40}
    found = await rows(dsn)
    assert sorted(each["value"] for each in found if each["value"] != 1.0) == sorted(
        float(number) for number in range(4_000) if number % 100 and number != 1
    )
    assert len(found) == 4_000, "none twice, without a time of their own"
    assert report.account.written + report.account.duplicate == 4_000
    kept = messages_in(rejected)
    assert sorted(each.received_us for each in kept) == [START_US + number for number in range(0, 4_000, 100)]
    booked = "select sum(rows)::int, min(client_id), max(client_id) from iot.ingest_written_hours"
    (row,) = await fetch(dsn, booked)
    assert tuple(row) == (4_000, "(direct)", "(direct)")


async def test_a_file_that_grew_is_not_done_before_it_is_read(
    dsn: str, backfills: Backfills, tmp_path: Path
) -> None:
    path, stop = write(tmp_path / "a.jsonl.gz", numbered(20)), asyncio.Event()
    assert (await backfills(path)).clean
    with Recording(path, append=True) as recording:
        recording.write(numbered(21)[-1])
    stop.set()
    report = await backfills(path, resume=True, stop=stop)
    assert (report.interrupted, report.clean, report.point.finished) == (True, False, False)
    assert (await backfills(path, resume=True)).clean
    assert len(await rows(dsn)) == 21


async def test_damage_is_named_and_the_rest_is_there(dsn: str, backfills: Backfills, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl.gz", numbered(1_000), block=100)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 20] = bytes(20)
    more = gzip.compress(line_of(recorded({"SENSOR_01": 1}, 2_000)).rstrip())
    path.write_bytes(content + more + gzip.compress(b"{}"))
    report = await backfills(path)
    damage, lines = report.damages
    assert isinstance(damage, Damage)
    assert damage.offset <= middle < damage.offset + damage.length
    assert (lines.offset, lines.reason) == (len(content) + len(more), "line 1 has no received_us")
    assert (report.account.messages, len(await rows(dsn)), report.clean) == (901, 901, False)
    report = await backfills(path, resume=True)
    assert (report.damages, report.damaged_before, report.clean) == ([], 2, False), "it is still not there"


async def test_a_database_away_ends_it_with_the_point(
    dsn: str, backfills: Backfills, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.jsonl.gz", numbered(1_000), block=100)
    monkeypatch.setattr(backfiller, "PATIENCE_S", 0.3)
    await fetch(dsn, "alter table iot.sensor_readings rename to away")
    report = await backfills(path, batch=100)
    assert "iot.sensor_readings" in (report.failure or "")
    assert (report.failure or "").endswith("; run `ingest schema migrate`")
    assert (report.account.messages, report.point.finished) == (0, False)
    await fetch(dsn, "alter table iot.away rename to sensor_readings")
    ended = await fetch(dsn, "select count(*) from pg_stat_activity where application_name like '%(direct)'")
    assert ended[0][0] == 0, "no connection is left behind"
    report = await backfills(path, batch=100, resume=True)
    assert (report.failure, report.account.written) == (None, 1_000)


async def test_a_process_tells_of_a_connection_that_it_lost(dsn: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl.gz", numbered(200), block=50)
    async with Proxy(urlsplit(dsn).port or 0) as proxy:
        backfills = Backfills(proxy.url(dsn))
        proxy.set_trap(b"PGCOPY", "cut", forward=False)
        report = await backfills(path, batch=50, connections=2)
        assert proxy.sprung.is_set()
    assert (report.failure, len(await rows(dsn))) == (None, 200)
    assert len(backfills.retried) == 1


async def test_a_process_killed_ends_it_with_the_point(
    dsn: str, backfills: Backfills, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.jsonl.gz", numbered(2_000), block=50)

    def on_progress(_: object) -> None:
        for process in multiprocessing.active_children()[:1]:
            process.kill()

    report = await backfills(path, batch=50, connections=2, on_progress=on_progress)
    assert "a process of the backfill has ended; run it again with --resume" in (report.failure or "")
    assert multiprocessing.active_children() == []
    assert 0 < len(await rows(dsn)) < 2_000
    report = await backfills(path, batch=50, connections=2, resume=True)
    assert (report.failure, report.account.messages) == (None, 2_000)
    assert sorted(each["value"] for each in await rows(dsn)) == [float(number) for number in range(2_000)]


async def test_a_file_that_is_no_recording(backfills: Backfills, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(b"time,value\n")
    report = await backfills(path)
    assert "is no recording" in (report.failure or "")
    assert not report.clean


async def test_into_compressed_chunks(migrated_dsn: str, tmp_path: Path) -> None:
    await register(migrated_dsn)
    backfills = Backfills(migrated_dsn)

    def messages(off: int) -> list[Recorded]:
        return [
            recorded({"sensor_id": str(PROBE), "value": 20 + number % 7}, 10 * number + off,
                     f"greenhouse/{HOUSE}/sensors/temperature")
            for number in range(2_000)
        ]  # fmt: skip

    stored = write(tmp_path / "a.jsonl.gz", messages(0))
    assert (await backfills(stored)).account.written == 2_000
    await fetch(migrated_dsn, "select compress_chunk(c) from show_chunks('iot.sensor_readings') as c")
    between = write(tmp_path / "b.jsonl.gz", [*messages(5), *messages(0)[:100]])
    report = await backfills(between)
    # The writer of recordings keeps times strictly increasing: the repeated ones came later, and are new.
    assert report.account.written == 2_100
    again = await backfills(stored, between)
    assert (again.account.written, again.account.duplicate) == (0, 4_100)
    assert len(await rows(migrated_dsn)) == 4_100
    (note,) = await fetch(migrated_dsn, "select sum(rows)::int from iot.ingest_late_buckets")
    assert note[0] == 4_100
