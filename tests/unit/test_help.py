"""`ingest --help`: what belongs together stands together."""

from __future__ import annotations

import re

from typer.testing import CliRunner

from ingest.cli import app


def test_recordings_and_simulation_stand_together_behind_what_runs_the_worker() -> None:
    text = CliRunner().invoke(app, ["--help"], prog_name="ingest").output
    commands = re.findall(r"(?m)^  ([a-z-]+) {2,}[A-Z]", text.partition("Commands:")[2])
    at = commands.index("record")
    assert commands[0] == "run"
    assert commands[at : at + 3] == ["record", "replay", "simulate"]
    assert at > commands.index("dead-letters")
    assert "130 interrupted" in " ".join(text.split())
