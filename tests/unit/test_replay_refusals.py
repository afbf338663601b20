"""What `ingest replay` and `simulate` refuse before they publish; nothing listens where they would go to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from ingest.cli import app
from ingest.commands.broker_option import chosen_broker
from ingest.load import resume
from ingest.load.recording import Recorded, Recording, read
from ingest.load.resume import Position, ResumePoint
from ingest.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

TARGET = "127.0.0.1:9"
BEGAN_US = 1_764_147_600_000_000


def recorded(path: Path, *messages: Recorded) -> Path:
    with Recording(path) as recording:
        for message in messages:
            recording.write(message)
    return path


def one(received_us: int = BEGAN_US, *, retain: bool = False, client_id: str | None = None) -> Recorded:
    return Recorded(received_us, "GREENHOUSE/T1", b'{"SENSOR_01": 1}', retain=retain, client_id=client_id)


def called(command: str, *arguments: str, own: str = "greenhouse") -> tuple[int, str]:
    environment = {"INGEST_BROKER_URL": f"mqtt://{TARGET}", "INGEST_BROKER__CLIENT_ID": own}
    done = CliRunner().invoke(app, [command, *arguments], env=environment, prog_name="ingest")
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, " ".join(done.output.split())


@pytest.mark.parametrize(("client_id", "refused"), [("gw-7", True), ("gw-7-2", True), ("gw-7-b", False)])
def test_no_recording_takes_a_workers_session(tmp_path: Path, client_id: str, *, refused: bool) -> None:
    path = recorded(tmp_path / "day.jsonl.gz", one(), one(client_id=client_id))
    exit_code, said = called("replay", str(path), "--fast", "--deadline", "0.1", own="gw-7")
    assert (exit_code, f"{client_id!r} is to publish, and is a worker's client id" in said) == (
        2 if refused else 1,
        refused,
    )
    assert ("had no connection" in said) is not refused


def test_no_simulated_gateway_takes_a_workers_session() -> None:
    exit_code, said = called("simulate", "--broker", f"mqtt://{TARGET}", own="simulated-1")
    assert exit_code == 2
    assert "'simulated-1-00000' is to publish, and is a worker's client id" in said


def test_nothing_is_not_published_again_and_again(tmp_path: Path) -> None:
    empty = recorded(tmp_path / "empty.jsonl.gz")
    old = recorded(tmp_path / "old.jsonl.gz", one(retain=True), one(retain=True))
    options = ("--loop", "--fast", "--deadline", "0.1")
    for path in (empty, old):
        exit_code, said = called("replay", str(path), *options)
        assert (exit_code, "nothing in the recordings to publish again and again" in said) == (2, True)
    exit_code, said = called("replay", str(old), "--retained", *options)
    assert (exit_code, "had no connection" in said) == (1, True)


def kept(path: Path, shift_us: int | None) -> ResumePoint:
    block = list(read(path))[1]  # the first holds the header
    point = ResumePoint(Position(0, block.offset, 1), shift_us=shift_us, began_us=(BEGAN_US,))
    resume.write(resume.resume_file([path]), point, [path], TARGET, to_disk=False)
    return point


@pytest.mark.parametrize("shift_us", [None, 3_600_000_000])
def test_half_of_a_replay_is_not_shifted(tmp_path: Path, shift_us: int | None) -> None:
    path = recorded(tmp_path / "day.jsonl.gz", one(), one())
    kept(path, shift_us)
    options = () if shift_us else ("--shift-time",)
    exit_code, said = called("replay", str(path), "--resume", *options)
    assert (exit_code, "--resume: the replay that it goes on with has moved" in said) == (2, True)


def test_another_recording_of_the_same_name_is_not_gone_on_with(tmp_path: Path) -> None:
    path = recorded(tmp_path / "day.jsonl.gz", one(), one())
    point = kept(path, None)
    options = ("--resume", "--fast", "--deadline", "0.1")
    with Recording(path, append=True) as recording:  # it may have grown
        recording.write(one())
    exit_code, said = called("replay", str(path), *options)
    assert (exit_code, "had no connection" in said) == (1, True)
    path.unlink()
    recorded(path, one(BEGAN_US + 1), one())
    exit_code, said = called("replay", str(path), *options)
    assert (exit_code, "that is not there: the file is another, or was changed" in said) == (1, True)
    assert resume.read(resume.resume_file([path]), [path], TARGET) == point


def test_a_login_that_goes_out_in_clear_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings(broker_url="mqtts://field.example:8884")
    chosen_broker(settings, None)
    chosen_broker(settings, "mqtt://127.0.0.1")
    assert capsys.readouterr().err == ""
    chosen_broker(settings, "mqtt://field.example")
    said = "--broker: messages and login go to field.example in clear; use mqtts:// for mqtt://"
    assert said in capsys.readouterr().err
    chosen_broker(Settings(broker_url="ws://field.example"), None)
    assert "broker_url: messages and login go to field.example in clear" in capsys.readouterr().err
