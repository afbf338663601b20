"""`ingest simulate` as an operator runs it: files that are the same, a worker that accounts for all of it."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import time
from collections import Counter
from typing import TYPE_CHECKING

import asyncpg
import pytest

from ingest.decode import IGNORED, Decoder, Routes
from ingest.load.recording import Block, read
from ingest.settings import Settings
from tests.acceptance.command_line import CommandLine, report
from tests.acceptance.workers import WorkerProcess
from tests.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ingest.load.recording import Recorded
    from tests.servers import Mosquitto

SECRET = "s3cr3t-Zx"  # noqa: S105 (a value to look for in texts)


@pytest.fixture
def ingest(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


def recorded(path: Path) -> Iterator[Recorded]:
    for piece in read(path):
        assert isinstance(piece, Block), piece
        yield from piece.messages


def test_the_same_seed_gives_the_same_file_in_every_process(ingest: CommandLine) -> None:
    made: list[tuple[bytes, bytes]] = []
    for hash_seed, name in (("1", "a"), ("2", "b")):
        options = ("--seed", "7", "--gateways", "40", "--duration", "90", "--faults", "many")
        done = ingest(
            *("simulate", *options, "--output", f"{name}.jsonl.gz", "--catalog", f"{name}.json", "--json"),
            environment={"PYTHONHASHSEED": hash_seed},
        )
        assert done.returncode == 0, done.stderr
        assert report(done)["start"] == "2026-01-01T00:00:00+00:00"
        files = [ingest.directory / f"{name}{suffix}" for suffix in (".jsonl.gz", ".json")]
        made.append((files[0].read_bytes(), files[1].read_bytes()))
        assert len(list(recorded(files[0]))) == report(done)["messages"] > 1_000
    assert made[0] == made[1]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "give --output FILE, --broker URL or both"),
        (("--output", "x.jsonl.gz", "--speed", "2"), "--speed is for --broker"),
        (("--output", "x.jsonl.gz", "--formats", "plc,morse"), "'morse' is none of reading, bare"),
        (("--output", "x.jsonl.gz", "--start", "soon"), "--start: 'soon' is neither"),
        (("--output", "x.jsonl.gz", "--start", "9999-12-31"), "leave the years 1970 to 9998"),
        (
            ("--broker", f"mqtt://u:{SECRET}@127.0.0.1"),
            "--broker: may hold no login",
        ),
        (("--broker", "http://127.0.0.1"), "--broker: must begin with mqtt://"),
    ],
)
def test_what_cannot_be_simulated_is_exit_2_and_leaves_nothing(
    ingest: CommandLine, arguments: tuple[str, ...], text: str
) -> None:
    done = ingest("simulate", *arguments)
    assert done.returncode == 2
    assert text in " ".join(done.stderr.split())
    assert SECRET not in done.stderr + done.stdout
    assert list(ingest.directory.iterdir()) == []


def test_of_a_catalog_alone_nothing_else_is_told(ingest: CommandLine) -> None:
    done = ingest("simulate", "--catalog", "x.json", "--gateways", "3")
    told = [line.split() for line in done.stdout.splitlines()]
    assert told == [["simulated"], ["seed", "1"], ["gateways", "3"], ["catalog", "x.json"]]


def test_a_file_that_is_there_is_not_written_over(ingest: CommandLine) -> None:
    (ingest.directory / "x.jsonl.gz").write_bytes(b"somebody's")
    done = ingest("simulate", "--output", "x.jsonl.gz", "--duration", "1")
    assert (done.returncode, "exists already" in done.stderr) == (1, True)
    assert (ingest.directory / "x.jsonl.gz").read_bytes() == b"somebody's"


def test_more_gateways_than_file_handles_is_said_before_anything_is_published(ingest: CommandLine) -> None:
    command = ingest.command("simulate", "--broker", "mqtt://127.0.0.1", "--gateways", "100")
    limited = ["sh", "-c", 'ulimit -n 100 && exec "$@"', "sh", *command]
    done = subprocess.run(
        limited, capture_output=True, text=True, check=False, cwd=ingest.directory, env=ingest.environment
    )
    assert done.returncode == 2
    assert "more than the 100 allowed: raise `ulimit -Hn`" in done.stderr


def test_a_broker_that_stays_away_is_a_clear_end_with_an_account(ingest: CommandLine) -> None:
    url = f"mqtt://127.0.0.1:{free_port()}"
    done = ingest(
        *("simulate", "--broker", url, "--output", "x.jsonl.gz", "--gateways", "2", "--deadline", "0.5"),
        "--json",
    )
    assert done.returncode == 1
    assert "had no connection to 127.0.0.1" in done.stderr
    assert (report(done)["messages"], report(done)["acknowledged"]) == (0, 0)
    assert list(recorded(ingest.directory / "x.jsonl.gz")) == []


def test_interrupted_it_leaves_a_recording_that_can_be_read(ingest: CommandLine) -> None:
    path = ingest.directory / "x.jsonl.gz"
    running = ingest.start("simulate", "--output", str(path), "--duration", "1e8")
    deadline_s = time.monotonic() + 60
    while not (path.exists() and path.stat().st_size > 20_000):
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130, errors
    assert len(list(recorded(path))) > 500


async def test_fifty_gateways_are_accounted_for_message_by_message(
    ingest: CommandLine, plain_dsn: str, broker: Mosquitto, tmp_path: Path
) -> None:
    """Everything that goes wrong with gateways goes wrong; what the worker counts is what was published."""
    await asyncio.to_thread(_registered, ingest, plain_dsn)
    worker = WorkerProcess(
        tmp_path,
        broker_url=broker.url,
        dsn=plain_dsn,
        filters=["greenhouse/+/sensors/+", "greenhouse/+/readings", "GREENHOUSE/#"],
    )
    with worker:
        await worker.ready()
        options = ("--speed", "40", "--output", "x.jsonl.gz", "--broker", broker.url, "--json")
        done = await asyncio.to_thread(ingest, "simulate", *_FIFTY, "--duration", "150", *options)
        assert done.returncode == 0, done.stderr
        told = report(done)
        expected = _expected(list(recorded(ingest.directory / "x.jsonl.gz")))
        assert told["messages"] == told["acknowledged"] == expected["received"] > 1_500
        assert (told["refused"], told["reconnects"]) == (0, 0)

        async def taken() -> bool:
            counters = await _counters(plain_dsn, worker.client_id)
            return counters["committed"] + counters["ignored"] >= expected["received"]

        await worker.until(taken, "all messages are committed")
        await worker.stop()
    counters = await _counters(plain_dsn, worker.client_id)
    assert {name: counters[name] for name in ("received", "ignored", "decoded", "null")} == {
        name: expected[name] for name in ("received", "ignored", "decoded", "null")
    }
    assert counters["written"] + counters["duplicate"] + counters["rejected"] == (
        expected["decoded"] - expected["null"]
    )
    assert counters["rejected"] >= expected["bad_timestamp"] > 0
    connection = await asyncpg.connect(plain_dsn)
    try:
        rows = await connection.fetchval("select count(*) from iot.sensor_readings")
        strangers = await connection.fetchval(
            "select count(*) from iot.sensor_readings"
            " where sensor_id not in (select id from metadata.sensors)"
        )
        types = await connection.fetchval("select count(distinct sensor_type_id) from iot.sensor_readings")
        letters = await connection.fetch(
            "select distinct unnest(reasons) as reason from iot.ingest_dead_letters"
        )
    finally:
        await connection.close()
    assert rows == counters["written"]
    assert strangers == 0, "every reading is of a sensor that the catalog names"
    assert types == 11
    assert {letter["reason"] for letter in letters} <= {"bad_timestamp", "out_of_range"}


_FIFTY = ("--seed", "5", "--gateways", "50", "--faults", "many", "--interval", "5")


def _registered(ingest: CommandLine, dsn: str) -> None:
    assert ingest("simulate", *_FIFTY, "--catalog", "catalog.json").returncode == 0
    done = ingest("catalog", "import", "catalog.json", environment={"INGEST_METADATA_DSN": dsn})
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads((ingest.directory / "catalog.json").read_text())
    assert sum(len(tenant["greenhouses"]) for tenant in document["tenants"]) > 50


def _expected(messages: list[Recorded]) -> Counter[str]:
    """Count what the worker's own decoder makes of *messages*."""
    settings = Settings()
    decoder = Decoder(Routes(settings.route, settings.decode.ignore), settings.decode)
    counts: Counter[str] = Counter(received=len(messages))
    for message in messages:
        outcome = decoder.decode(message.topic, message.payload, message.received_us)
        if outcome is IGNORED:
            counts["ignored"] += 1
            continue
        counts["decoded"] += len(outcome.readings) + len(outcome.rejections) + outcome.nulls
        counts["null"] += outcome.nulls
        counts.update(rejection.reason for rejection in outcome.rejections)
    return counts


async def _counters(dsn: str, client_id: str) -> Counter[str]:
    connection = await asyncpg.connect(dsn)
    try:
        records = await connection.fetch(
            "select counter, value from iot.ingest_counters where client_id = $1", client_id
        )
    finally:
        await connection.close()
    return Counter({record["counter"]: record["value"] for record in records})
