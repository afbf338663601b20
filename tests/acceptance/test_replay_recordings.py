"""Recordings replayed into a broker with a worker behind it, and the account that `--verify` takes."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from ingest.load.account import Accountant
from ingest.load.recording import Recorded, Recording
from ingest.load.replay import Outgoing
from ingest.load.resume import Position
from ingest.settings import Settings
from tests.acceptance.command_line import CommandLine, report

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence
    from pathlib import Path

    from ingest.load.expected import Judgement
    from tests.acceptance.conftest import Greenhouse, WorkerMaker
    from tests.servers import Mosquitto

RECORDED_S = 1_600_000_000
"""Years ago: of these times the worker takes none unless they are moved."""
LOSE = """
    create function iot.lose() returns trigger language plpgsql as
    $$ begin return case when new.value in (40, 41) then null else new end; end $$
"""
LOSING = """
    create trigger lose before insert on iot.sensor_readings for each row execute function iot.lose()
"""


@pytest.fixture
def ingest(tmp_path: Path, database: str, broker: Mosquitto) -> CommandLine:
    made = CommandLine(tmp_path)
    made.environment |= {
        "INGEST_BROKER_URL": broker.url,
        "INGEST_TIMESERIES_DSN": database,
        "INGEST_METADATA_DSN": database,
        "INGEST_BROKER__RECONNECT_MIN_S": "0.05",
    }
    return made


def record(path: Path, messages: Sequence[tuple[str, Any]], *, every_us: int) -> Path:
    with Recording(path, block_messages=100) as recording:
        for number, (topic, body) in enumerate(messages):
            payload = body if isinstance(body, bytes) else json.dumps(body).encode()
            recording.write(Recorded(RECORDED_S * 1_000_000 + number * every_us, topic, payload))
    return path


def reading(number: int, **others: object) -> dict[str, object]:
    return {"sensor_id": "S1", "value": number, "timestamp": RECORDED_S * 1_000 + number, **others}


async def ended(ingest: CommandLine, *arguments: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(lambda: ingest(*arguments))


async def test_at_ten_times_the_speed_with_every_kind_of_outcome(
    greenhouse: Greenhouse,
    database: str,
    broker: Mosquitto,
    *,
    worker_of: WorkerMaker,
    ingest: CommandLine,
    tmp_path: Path,
) -> None:
    worker = worker_of(greenhouse, database, broker.url)
    await worker.ready()
    batch = f"greenhouse/{greenhouse.greenhouse_id}/readings"
    unknown = f"greenhouse/{greenhouse.greenhouse_id}/sensors/nonsense"
    messages: list[tuple[str, Any]] = []
    for number in range(100):
        messages += [
            (greenhouse.topic, reading(number)),
            (batch, [reading(number + 1_000, sensor_type="sensor"), reading(number, sensor_type="sensor")]),
            (greenhouse.map_topic, {"SENSOR_01": number, "SENSOR_02": None, "timestamp": None}),
            (unknown, reading(number)),
        ]
    messages += [(greenhouse.topic, reading(7) | {"value": 8}), ("GREENHOUSE/STATUS", {"SENSOR_01": 1})]
    path = record(tmp_path / "day.jsonl.gz", messages, every_us=25_000)
    began_s = time.time()
    done = await ended(
        ingest, "replay", str(path), "--speed", "10", "--shift-time", "--gateways", "7", "--verify", "--json"
    )
    said = report(done)
    assert (done.returncode, said["ok"], said["finished"], done.stderr) == (0, True, True, "")
    assert (said["published"], said["acknowledged"], said["gateways"]) == (402, 402, 7)
    assert 0.9 <= said["seconds"] < 30
    verified = said["verify"]
    latency = verified.pop("latency_s")
    assert latency["watched"] > 0
    assert 0 < latency["p50"] <= latency["p99"] <= latency["max"] < 30
    there = verified.pop("there_before")
    assert there["found"] < there["looked_for"], "but a reading that another gateway sent first"
    assert verified == {
        "messages": 402,
        "ignored": 1,
        "readings": 501,
        "landed_once": 300,
        "duplicate": 100,
        "dead": 101,
        "dead_only_counted": 0,
        "missing": 0,
        "null": 100,
        "surplus": 0,
        "first_missing": [],
        "complete": True,
    }
    times = await greenhouse.fetch(
        "select (extract(epoch from time) * 1000)::bigint - value::bigint as zero_ms"
        " from iot.sensor_readings where tenant_id = $1 and metadata::text like '%S1%'",
        greenhouse.tenant_id,
    )
    (zero_ms,) = {record["zero_ms"] for record in times}
    assert zero_ms == (RECORDED_S + said["shift_s"]) * 1_000  # each as much later as the others
    last_s = RECORDED_S + said["shift_s"] + 401 * 0.025
    assert began_s - 2 < last_s < time.time()
    counters = await greenhouse.counters(worker.client_id)
    assert (counters["written"], counters["duplicate"], counters["rejected"]) == (300, 100, 101)


async def test_a_row_that_is_gone_is_found_missing_and_named(
    greenhouse: Greenhouse,
    database: str,
    broker: Mosquitto,
    *,
    worker_of: WorkerMaker,
    ingest: CommandLine,
    tmp_path: Path,
) -> None:
    worker = worker_of(greenhouse, database, broker.url)
    await worker.ready()
    messages = [
        (greenhouse.map_topic, {"SENSOR_01": number}) if number % 2 else (greenhouse.topic, reading(number))
        for number in range(300)
    ]
    path = record(tmp_path / "day.jsonl.gz", messages, every_us=1_000)
    await greenhouse.fetch(LOSE)
    await greenhouse.fetch(LOSING)
    try:
        done = await ended(
            ingest, "replay", str(path), "--fast", "--shift-time", "--verify", "--patience", "2"
        )
    finally:
        await greenhouse.fetch("drop function iot.lose() cascade")
    assert done.returncode == 1, done.stderr
    assert (await greenhouse.counters(worker.client_id))["written"] == 300  # or so the worker believes
    assert await greenhouse.count() == 298
    text = done.stdout
    assert "2 MISSING" in text
    assert "298 landed once" in text
    (timed,) = [line for line in text.splitlines() if " 40.0 " in line]
    assert greenhouse.topic in timed
    assert "no row" in timed
    (timeless,) = [line for line in text.splitlines() if " 41.0 " in line]
    assert greenhouse.map_topic in timeless
    assert "SENSOR_01" in timeless


async def test_killed_halfway_and_resumed_nothing_with_a_time_is_doubled(
    greenhouse: Greenhouse,
    database: str,
    broker: Mosquitto,
    *,
    worker_of: WorkerMaker,
    ingest: CommandLine,
    tmp_path: Path,
) -> None:
    worker = worker_of(greenhouse, database, broker.url)
    await worker.ready()
    count = 4_000
    messages = [(greenhouse.topic, reading(number)) for number in range(count)]
    path = record(tmp_path / "day.jsonl.gz", messages, every_us=1_000)
    replaying = ingest.start("replay", str(path), "--rate", "800", "--shift-time", stdout=-1)
    noted = tmp_path / "day.jsonl.gz.resume"

    async def on_its_way() -> bool:
        return (
            noted.exists() and json.loads(noted.read_bytes())["block"] > 0 and await greenhouse.holds(1_000)
        )

    await worker.until(on_its_way, "a resume point and 1 000 rows")
    replaying.kill()
    await asyncio.to_thread(replaying.communicate)
    assert await greenhouse.count() < count
    done = await ended(ingest, "replay", str(path), "--resume", "--fast", "--verify", "--json")
    assert (done.returncode, "--shift-time" in done.stderr) == (2, True)  # else each reading would be two
    options = ("--resume", "--fast", "--shift-time", "--verify", "--json")
    said = report(await ended(ingest, "replay", str(path), *options))
    assert (said["ok"], said["finished"]) == (True, True)
    assert 0 < said["done_before"] < count
    assert said["published"] == count - said["done_before"]
    assert (said["verify"]["landed_once"], said["verify"]["missing"]) == (said["published"], 0)
    await greenhouse.holds_each_once(count)
    # What the killed run had published since it last noted how far it was came again, and was recognised.
    counters = await greenhouse.counters(worker.client_id)
    assert counters["written"] == count
    assert counters["duplicate"] < said["published"]


class Judging(Accountant):
    """An Accountant that counts how often it looks for everything."""

    judged = 0

    async def _judge(self) -> Judgement:
        self.judged += 1
        return await super()._judge()


async def test_a_missing_dead_letter_is_not_looked_for_all_the_time(
    greenhouse: Greenhouse, database: str
) -> None:
    settings = Settings.model_validate({"metadata_dsn": database, "timeseries_dsn": database})
    async with Judging(settings, patience_s=1.5) as accountant:
        nobody = f"greenhouse/{greenhouse.greenhouse_id}/sensors/nonsense"  # a dead letter, and no row
        message = Outgoing(
            1, Position(), RECORDED_S * 1_000_000, nobody, b'{"value": 1}', 1, retain=False, properties=None
        )
        accountant.delivered(message, RECORDED_S * 1_000_000)
        account = await accountant.settle(asyncio.Event(), lambda *_: None)
    assert len(account.judgement.missing) == 1
    assert 2 <= accountant.judged <= 4  # it looked some thirty times for what may have come
