"""A fleet is recorded, and replayed ten times as fast: a second database gets what the first one has."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import pytest

from ingest.decode import IGNORED, Decoder, Routes
from ingest.migrate import Database
from ingest.settings import Settings
from tests.acceptance.command_line import report
from tests.acceptance.recorders import RecorderProcess, recorded
from tests.acceptance.workers import WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ingest.load.recording import Recorded
    from tests.acceptance.command_line import CommandLine
    from tests.servers import Mosquitto
    from tests.templates import Templates

FLEET: Final = ("--seed", "11", "--gateways", "50", "--faults", "many", "--interval", "5")
SIMULATED_S: Final = 120
SPEED: Final = 40
FILTERS: Final = ["greenhouse/+/sensors/+", "greenhouse/+/readings", "GREENHOUSE/#"]
NO_TIME: Final = -1
READINGS: Final = "select * from iot.sensor_readings"
LETTERS: Final = """
    select topic, payload, tenant_id, gateway, reasons::text, rejected_count from iot.ingest_dead_letters
"""


@pytest.fixture
def second_dsn(templates: Templates) -> Iterator[str]:
    """Another database as `plain_dsn` is one."""
    dsn = templates.copy(*Database)
    yield dsn
    templates.drop(dsn)


async def test_replayed_ten_times_as_fast_a_second_database_is_as_the_first(
    ingest: CommandLine, plain_dsn: str, second_dsn: str, *, broker: Mosquitto, tmp_path: Path
) -> None:
    await asyncio.to_thread(_registered, ingest, plain_dsn, second_dsn)
    ingest.environment |= {"INGEST_BROKER_URL": broker.url}
    recorder = RecorderProcess(tmp_path, broker.url, output="night.jsonl.gz")
    with _worker(tmp_path, broker, plain_dsn) as worker, recorder:
        await worker.ready()
        await recorder.subscribed()
        live = ("--broker", broker.url, "--duration", str(SIMULATED_S), "--speed", str(SPEED), "--json")
        done = await asyncio.to_thread(ingest, "simulate", *FLEET, *live)
        assert done.returncode == 0, done.stderr
        published = report(done)["messages"]
        await recorder.holds(published)
        assert (await recorder.stop())["messages"] == published
        await _committed(worker, plain_dsn, published)
        await worker.stop()
    with _worker(tmp_path, broker, second_dsn) as worker:
        await worker.ready()
        ingest.environment |= dict.fromkeys(("INGEST_METADATA_DSN", "INGEST_TIMESERIES_DSN"), second_dsn)
        again = ("--speed", "10", "--gateways", "50", "--verify", "--json")
        done = await asyncio.to_thread(ingest, "replay", "night.jsonl.gz", *again)
        await worker.stop()
    said = report(done)
    assert (done.returncode, said["published"], said["gateways"]) == (0, published, 50), done.stderr
    account = said["verify"]
    assert (account["missing"], account["surplus"], account["there_before"]["found"]) == (0, 0, 0)
    messages, damages = recorded(recorder.output)
    assert damages == []
    recorded_s = (messages[-1].received_us - messages[0].received_us) / 1_000_000
    assert recorded_s > SIMULATED_S / SPEED * 0.9
    assert said["seconds"] > recorded_s / 10 - 0.01
    sent = _times_sent(messages)
    first, second = [_time_aside(await _fetched(dsn, READINGS), sent) for dsn in (plain_dsn, second_dsn)]
    assert first == second
    assert first.total() == account["landed_once"] > 4_000
    assert {time is None for time, *_ in first} == {True, False}
    letters, others = [Counter(await _fetched(dsn, LETTERS)) for dsn in (plain_dsn, second_dsn)]
    assert letters == others != Counter()


def _registered(ingest: CommandLine, *dsns: str) -> None:
    assert ingest("simulate", *FLEET, "--catalog", "catalog.json").returncode == 0
    for dsn in dsns:
        done = ingest("catalog", "import", "catalog.json", environment={"INGEST_METADATA_DSN": dsn})
        assert done.returncode == 0, done.stdout + done.stderr


def _worker(directory: Path, broker: Mosquitto, dsn: str) -> WorkerProcess:
    return WorkerProcess(directory, broker_url=broker.url, dsn=dsn, filters=FILTERS)


async def _committed(worker: WorkerProcess, dsn: str, messages: int) -> None:
    counted = "select sum(value) from iot.ingest_counters where counter in ('committed', 'ignored')"

    async def holds() -> bool:
        ((count,),) = await _fetched(dsn, counted)
        return bool(count == messages)

    await worker.until(holds, f"{messages} messages are committed or ignored")


def _times_sent(messages: Sequence[Recorded]) -> set[int]:
    """Give the times that gateways wrote, in µs: a reading with another has that of its receipt."""
    settings = Settings()
    decoder = Decoder(Routes(settings.route, settings.decode.ignore), settings.decode)
    decoded = [
        decoder.decode(each.topic, each.payload, NO_TIME, now_us=each.received_us) for each in messages
    ]
    return {reading.time_us for each in decoded if each is not IGNORED for reading in each.readings} - {
        NO_TIME
    }


def _time_aside(rows: list[asyncpg.Record], sent: set[int]) -> Counter[tuple[Any, ...]]:
    """Count *rows* as they are, but for the times that no gateway *sent*."""
    return Counter(
        (time if round(time.timestamp() * 1_000_000) in sent else None, *others) for time, *others in rows
    )


async def _fetched(dsn: str, query: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetch(query)
    finally:
        await connection.close()
