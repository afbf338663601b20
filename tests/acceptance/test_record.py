"""`ingest record` against a real Mosquitto: all of it is in the file, whoever is killed or restarted."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import signal
import stat
from typing import TYPE_CHECKING

import pytest

from tests.acceptance.command_line import CommandLine
from tests.acceptance.conftest import Greenhouse
from tests.acceptance.recorders import RecorderProcess, recorded
from tests.gateways import Message, publish

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ingest.load.recording import Recorded
    from tests.acceptance.conftest import WorkerMaker
    from tests.servers import Mosquitto, PostgresCluster

TOPIC = "greenhouse/A1/sensors/temperature"


def numbered(numbers: range, *, qos: int = 1) -> list[Message]:
    return [Message(TOPIC, b"%d" % number, qos) for number in numbers]


def numbers_of(found: Sequence[Recorded]) -> list[int]:
    return [int(each.payload) for each in found]


async def publish_5(broker: Mosquitto, *arguments: str) -> None:
    """Publish with mosquitto_pub, which knows properties."""
    process = await asyncio.create_subprocess_exec(
        "mosquitto_pub", "-p", str(broker.port), "-V", "5", "-q", "1", *arguments
    )
    assert await process.wait() == 0


async def test_everything_about_a_message_is_kept(broker: Mosquitto, tmp_path: Path) -> None:
    await publish(broker.port, [Message("GREENHOUSE/SARA", b'{"a": 1}', retain=True)])
    with RecorderProcess(tmp_path, broker.url, "--messages", "5") as recorder:
        await recorder.subscribed()
        await publish(broker.port, [Message(TOPIC, b"\xff\x00"), Message(TOPIC, b"24.5", 0)])
        properties = ("content-type", "text"), ("response-topic", "a/b"), ("correlation-data", "x")
        given = [word for pair in properties for word in ("-D", "PUBLISH", *pair)]
        given += ["-D", "PUBLISH", "user-property", "site", "north"]
        await publish_5(broker, *given, "-t", TOPIC, "-m", "1")
        await publish(broker.port, [Message("elsewhere", b"1"), Message("GREENHOUSE", b"{}")])
        report = await recorder.ended()
    found, damages = recorded(recorder.output)
    assert not damages
    times = [each.received_us for each in found]
    assert all(earlier < later for earlier, later in itertools.pairwise(times))
    assert [(each.topic, each.payload, each.qos, each.retain) for each in found] == [
        ("GREENHOUSE/SARA", b'{"a": 1}', 1, True),
        (TOPIC, b"\xff\x00", 1, False),
        (TOPIC, b"24.5", 0, False),
        (TOPIC, b"1", 1, False),
        ("GREENHOUSE", b"{}", 1, False),
    ]
    assert [each.properties for each in found if each.properties] == [
        {
            "content_type": "text",
            "response_topic": "a/b",
            "correlation_data_base64": "eA==",
            "user_properties": [["site", "north"]],
        }
    ]
    assert report["exit_code"] == 0
    assert (report["messages"], report["bytes"]) == (5, recorder.output.stat().st_size)
    assert stat.S_IMODE(recorder.output.stat().st_mode) == 0o600


async def test_a_killed_recorder_leaves_all_but_its_last_block(broker: Mosquitto, tmp_path: Path) -> None:
    with RecorderProcess(tmp_path, broker.url) as recorder:
        await recorder.subscribed()
        await publish(broker.port, numbered(range(3_500)))
        await recorder.holds(3_000)
        assert recorder.process is not None
        recorder.process.kill()
        recorder.process.wait()
    found, damages = recorded(recorder.output)
    assert not damages
    assert numbers_of(found) == [*range(len(found))]
    assert 3_000 <= len(found) <= 3_500
    with recorder.output.open("r+b") as file:  # what a crash of the machine does
        file.truncate(recorder.output.stat().st_size - 10)
    with RecorderProcess(tmp_path, broker.url, "--messages", "500") as again:
        await again.subscribed()
        await publish(broker.port, numbered(range(10_000, 10_600)))
        report = await again.ended()
    assert len(again.events("recording_repaired")) == 1
    assert (report["exit_code"], report["ended"], report["messages"]) == (0, "messages", 500)
    later, damages = recorded(again.output)
    assert not damages
    assert numbers_of(later[-500:]) == [*range(10_000, 10_500)]
    assert 2_000 <= len(later) - 500 < len(found)
    assert later[:-500] == found[: len(later) - 500]


async def test_a_broker_restarted_costs_nothing_and_doubles_nothing(
    broker: Mosquitto, tmp_path: Path
) -> None:
    with RecorderProcess(tmp_path, broker.url, "--client-id", "recorder", "--messages", "3300") as recorder:
        await recorder.subscribed()
        for start in range(0, 3_000, 1_000):
            await publish(broker.port, numbered(range(start, start + 1_000)))
            await asyncio.to_thread(broker.restart)
            await publish(broker.port, numbered(range(start + 5_000, start + 5_100)))
        report = await recorder.ended()
    assert report["exit_code"] == 0
    expected = [*range(3_000), *(n + start for start in (5_000, 6_000, 7_000) for n in range(100))]
    assert sorted(numbers_of(recorded(recorder.output)[0])) == expected
    assert recorder.events("broker_unavailable")
    assert any(each["session_present"] for each in recorder.events("broker_connected"))
    log = broker.log.read_text(errors="replace")
    assert log.rindex("as recorder (p5, c1") > log.rindex("as recorder (p5, c0")  # forgotten at the end


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it_with_everything_in_its_files(
    broker: Mosquitto, tmp_path: Path, number: int
) -> None:
    with RecorderProcess(tmp_path, broker.url, "--rotate-bytes", "6000", output="days/") as recorder:
        await recorder.subscribed()
        await publish(broker.port, numbered(range(2_500)))
        await recorder.holds(2_000)
        report = await recorder.stop(number)
    assert (report["exit_code"], report["ended"]) == (0, "signal")
    names = sorted(each.name for each in recorder.output.iterdir())
    assert [f"days/{name}" for name in names] == report["files"]
    assert len(names) >= 2
    found, damages = recorded(recorder.output)
    assert not damages
    assert numbers_of(found) == [*range(report["messages"])]
    assert 2_000 <= report["messages"] <= 2_500


async def test_a_full_disk_ends_it_and_keeps_what_is_written(broker: Mosquitto, tmp_path: Path) -> None:
    with RecorderProcess(tmp_path, broker.url).limited_to(file_kib=16) as recorder:
        await recorder.subscribed()
        await publish(broker.port, numbered(range(5_000)))
        report = await recorder.ended()
    assert (report["exit_code"], report["ended"]) == (1, "output")
    assert report["fault"] in report["said"]
    assert "a.jsonl.gz cannot be written: File too large" in report["fault"]
    found, damages = recorded(recorder.output)
    assert not damages
    assert numbers_of(found) == [*range(report["messages"])]
    assert report["messages"] in {1_000, 2_000, 3_000}


async def test_a_worker_beside_it_gets_everything(
    broker: Mosquitto, cluster: tuple[PostgresCluster, str], worker_of: WorkerMaker, tmp_path: Path
) -> None:
    greenhouse = Greenhouse(cluster[1])
    await greenhouse.register()
    worker = worker_of(greenhouse, greenhouse.dsn, broker.url)
    await worker.ready()
    topics = [word for each in greenhouse.filters for word in ("--topic", each)]
    with RecorderProcess(tmp_path, broker.url, *topics, "--anonymise", "--messages", "400") as recorder:
        await recorder.subscribed()
        await publish(broker.port, greenhouse.messages(range(400)))
        await recorder.ended()
    await publish(broker.port, greenhouse.messages(range(400, 500)))
    await worker.until(lambda: greenhouse.holds(500), "500 rows")
    await worker.stop()
    await greenhouse.holds_each_once(500)
    assert len(worker.events("broker_connected")) == 1
    found, _ = recorded(recorder.output)
    assert len(found) == 400
    lines = gzip.decompress(recorder.output.read_bytes())
    for name in (greenhouse.prefix, greenhouse.code, str(greenhouse.greenhouse_id)):
        assert all(name not in each.topic and name.encode() not in each.payload for each in found)
        assert name.encode() not in lines
    values = [json.loads(each.payload) for each in found]
    assert [next(iter(each.values())) if len(each) == 1 else each["value"] for each in values] == [
        *range(400)
    ]


@pytest.mark.parametrize(
    ("arguments", "complaints"),
    [
        (
            ["--client-id", "greenhouse-ingest", "--topic", "a/#/b", "--topic", "$share/g/a"],
            [
                "'greenhouse-ingest' is a worker's",
                "'a/#/b' is no MQTT topic filter",
                "'$share/g/a' would take messages away from the workers",
            ],
        ),
        (
            ["--client-id", "greenhouse-ingest-3", "--topic", "a/#", "--topic", "a/+"],
            ["'greenhouse-ingest-3' is a worker's", "'a/#' and 'a/+' overlap"],
        ),
        (["--rotate-bytes", "1000"], ["need a folder"]),
        (["--anonymise-key-file", "missing"], ["--anonymise-key-file: missing: No such file"]),
        (["--anonymise-key-file", "short"], ["short has 5 bytes, 16 are the least"]),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, arguments: list[str], complaints: list[str]) -> None:
    (tmp_path / "short").write_text("short")
    done = CommandLine(tmp_path)("record", "--output", "a.jsonl.gz", *arguments)
    assert done.returncode == 2
    said = " ".join(done.stderr.split())
    assert [each for each in complaints if each not in said] == []
    assert not (tmp_path / "a.jsonl.gz").exists()


async def test_what_cannot_be_written_is_told_before_anything_is_recorded(
    tmp_path: Path, broker: Mosquitto
) -> None:
    with RecorderProcess(tmp_path, broker.url, output="none/a.jsonl.gz") as recorder:
        report = await recorder.ended()
    assert report["exit_code"] == 1
    assert "none/a.jsonl.gz cannot be opened for writing: No such file or directory" in report["said"]
