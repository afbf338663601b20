"""`ingest replay` called wrongly: said before anything is read or connected, and no secret in it."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from ingest.cli import app


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--speed", "2", "--rate", "1"), "exclude one another"),
        (("--fast", "--rate", "1"), "exclude one another"),
        (("--verify", "postgresql://ingest:s3cr3t@db/readings"), "--verify takes no DSN"),
        (("--gateways", "0"), "--gateways"),
    ],
)
def test_wrong_calls(arguments: tuple[str, ...], said: str) -> None:
    done = CliRunner().invoke(app, ["replay", "day.jsonl.gz", *arguments], prog_name="ingest")
    assert done.exit_code == 2, done.output
    assert said in " ".join(done.output.split())
    assert "s3cr3t" not in done.output
