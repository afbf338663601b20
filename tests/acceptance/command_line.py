"""The command line as an operator meets it: `ingest` as a process in an empty directory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


class CommandLine:
    """Starts `ingest` in an empty directory with the environment given and nothing else of ours."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        kept = {name: text for name, text in os.environ.items() if not name.upper().startswith("INGEST_")}
        root = str(Path(__file__).parents[2])
        self.environment = {**kept, "PYTHONPATH": root, "COLUMNS": "120"}

    def __call__(
        self, *arguments: str, stdin: bytes = b"", environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(*arguments),
            input=stdin,
            capture_output=True,
            cwd=self.directory,
            env={**self.environment, **(environment or {})},
            timeout=60,
            check=False,
        )
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:  # noqa: ANN401 (Popen's own)
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.directory,
            env=self.environment,
            stderr=subprocess.PIPE,
            **options,
        )

    @staticmethod
    def command(*arguments: str) -> list[str]:
        return [sys.executable, "-m", "ingest", *arguments]


def report(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return the one JSON object a `--json` report is."""
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    assert isinstance(found, dict)
    return found
