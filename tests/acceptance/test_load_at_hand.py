"""`ingest record`, `replay` and `simulate` in somebody's hands: moving bars, Ctrl-C, other files."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from typing import TYPE_CHECKING

import pytest

from ingest.load.recording import Recorded, Recording
from tests.acceptance.recorders import RecorderProcess
from tests.servers import free_port
from tests.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.acceptance.command_line import CommandLine
    from tests.servers import Mosquitto

RECORDED_US = 1_764_147_600_000_000


def recorded(path: Path, count: int, client_id: str | None = None) -> Path:
    with Recording(path) as recording:
        for number in range(count):
            payload = json.dumps({"SENSOR_01": number}).encode()
            recording.write(
                Recorded(RECORDED_US + number * 1_000, "GREENHOUSE", payload, client_id=client_id)
            )
    return path


@pytest.fixture
def connected(ingest: CommandLine, broker: Mosquitto) -> CommandLine:
    ingest.environment |= {"INGEST_BROKER_URL": broker.url}
    return ingest


def test_the_bar_of_a_few_gateways_moves(connected: CommandLine, broker: Mosquitto) -> None:
    few = ("--gateways", "2", "--interval", "0.5", "--duration", "100", "--formats", "reading")
    running = connected.on_a_terminal("simulate", "--broker", broker.url, *few)
    running.until(lambda shown: re.search(rb"[2-9] messages, seconds simulated", shown) is not None)
    running.process.send_signal(signal.SIGINT)
    assert running.ended() == 130
    assert b"stopping; what is on its way is waited for" in running.shown


def test_rounds_are_counted_as_rounds(connected: CommandLine, tmp_path: Path) -> None:
    path = recorded(tmp_path / "day.jsonl.gz", 300)
    running = connected.on_a_terminal("replay", str(path), "--loop", "--fast")
    running.until(lambda shown: len(set(re.findall(rb"round \d+", shown))) >= 3)
    running.process.send_signal(signal.SIGINT)
    assert running.ended() == 0
    text = re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", running.shown).decode()
    assert re.search(r"\s-\d+/300", text) is None
    assert re.search(r"reading\s\S+\s[1-9]\d*/0", text) is None  # of how many is not known yet
    assert re.search(r"\d+ messages replayed to 127\.0\.0\.1:\d+ by 1 gateway, \d+ rounds, ", text)


def test_stopped_while_it_reads_nothing_is_published(connected: CommandLine, tmp_path: Path) -> None:
    content = recorded(tmp_path / "day.jsonl.gz", 1_000).read_bytes()
    for number in range(1_000):
        (tmp_path / f"{number}.jsonl.gz").write_bytes(content)
    running = connected.on_a_terminal("replay", str(tmp_path), "--fast")
    running.until(lambda shown: b"reading" in shown)
    running.process.send_signal(signal.SIGINT)
    assert running.ended() == 130
    assert b"stopped while it read the recordings: nothing was published" in running.shown


def test_what_cannot_be_gone_on_with_is_said(connected: CommandLine, tmp_path: Path) -> None:
    path = recorded(tmp_path / "day.jsonl.gz", 10)
    assert connected("replay", str(path), "--fast").returncode == 0
    dsn = "postgresql://127.0.0.1:1/none"
    done = connected(
        *("replay", str(path), "--resume", "--verify"),
        environment=dict.fromkeys(("INGEST_METADATA_DSN", "INGEST_TIMESERIES_DSN"), dsn),
    )
    assert (done.returncode, "--verify accounts for what it publishes itself" in done.stderr) == (1, True)
    noted = tmp_path / "day.jsonl.gz.resume"
    for place in ({"block": 5}, {"block": 0, "messages": 3}, {"messages": 11}):
        tree = json.loads(noted.read_bytes()) | {"finished": False} | place
        noted.write_text(json.dumps(tree))
        done = connected("replay", str(path), "--resume", "--fast", "--json")
        assert (done.returncode, done.stdout) == (1, ""), place
        assert "that is not there: the file is another, or was changed" in done.stderr
    done = connected("replay", "/dev/zero", "--fast")
    assert (done.returncode, "/dev/zero is neither a file nor a folder of recordings" in done.stderr) == (
        1,
        True,
    )


async def test_two_replays_that_take_each_others_place_are_told(
    connected: CommandLine, tmp_path: Path
) -> None:
    connected.environment |= {"INGEST_BROKER__RECONNECT_MIN_S": "0.05"}
    paths = [recorded(tmp_path / name, 75, "gateway-1") for name in ("a.jsonl.gz", "b.jsonl.gz")]
    both = [connected.start("replay", str(path), "--rate", "25") for path in paths]
    for each in both:
        _, err = await asyncio.to_thread(each.communicate)
        assert each.returncode == 0, err
        assert b"is somebody else connected under the same client ids" in err


async def test_ctrl_c_ends_the_wait_for_rows_with_the_account(
    connected: CommandLine, plain_dsn: str, tmp_path: Path
) -> None:
    path = recorded(tmp_path / "day.jsonl.gz", 10)
    connected.environment |= dict.fromkeys(("INGEST_METADATA_DSN", "INGEST_TIMESERIES_DSN"), plain_dsn)
    waiting = connected.start(
        "replay", str(path), "--fast", "--verify", "--patience", "600", "--json", stdout=-1
    )
    noted = tmp_path / "day.jsonl.gz.resume"
    await until(lambda: noted.exists() and json.loads(noted.read_bytes())["finished"], "all is published")
    waiting.send_signal(signal.SIGINT)
    out, err = await asyncio.to_thread(waiting.communicate)
    assert waiting.returncode == 130, err
    account = json.loads(out)["verify"]
    assert (account["messages"], account["missing"], account["complete"]) == (10, 10, False)


async def test_a_recorder_that_never_had_a_connection_has_failed(tmp_path: Path) -> None:
    with RecorderProcess(tmp_path, f"mqtt://127.0.0.1:{free_port()}", "--duration", "0.5") as recorder:
        said = await recorder.ended()
    assert (said["exit_code"], said["ended"], said["messages"]) == (1, "duration", 0)
    assert said["fault"].startswith("there never was a connection to the broker: cannot connect to 127.0.0.1")
