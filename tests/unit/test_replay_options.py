"""`ingest replay` called wrongly: said before anything is read or connected, and no secret in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from ingest.cli import app
from ingest.load.recording import Recorded, Recording

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--speed", "2", "--rate", "1"), 2, "exclude one another"),
        (("--verify", "postgresql://ingest:s3cr3t@db/readings"), 2, "--verify takes no DSN"),
        (("--broker", "mqtt://me:s3cr3t@127.0.0.1"), 2, "--broker: may hold no login"),
        (("--broker", "http://127.0.0.1"), 2, "--broker: must begin with"),
        (("--verify",), 2, "metadata_dsn: not set"),
        (("gone.jsonl.gz",), 1, "gone.jsonl.gz cannot be read"),
        (("--resume",), 1, "is no resume point"),
    ],
)
def test_wrong_calls(
    arguments: tuple[str, ...], code: int, said: str, *, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "day.jsonl.gz"
    with Recording(path) as recording:
        recording.write(Recorded(1, "GREENHOUSE/SARA", b"{}"))
    (tmp_path / "day.jsonl.gz.resume").write_text("{}")
    done = CliRunner().invoke(app, ["replay", str(path), *arguments], prog_name="ingest")
    assert done.exit_code == code, done.output
    assert said in " ".join(done.output.replace("│", " ").split())
    assert "s3cr3t" not in done.output
