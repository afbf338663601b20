"""The command line as an operator meets it: `ingest` as a process in an empty directory, or on a terminal."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


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

    def answered(self, answer: bytes, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        """Run it with a terminal for stdin and stderr, at which somebody types *answer*."""
        ours, theirs = pty.openpty()
        try:
            os.write(ours, answer)
            return subprocess.run(
                self.command(*arguments),
                stdin=theirs,
                stdout=subprocess.PIPE,
                stderr=theirs,
                env=self.environment,
                cwd=self.directory,
                timeout=60,
                check=False,
            )
        finally:
            os.close(ours)
            os.close(theirs)

    def on_a_terminal(self, *arguments: str, environment: dict[str, str] | None = None) -> OnTerminal:
        """Start it on a terminal."""
        ours, theirs = pty.openpty()
        try:
            process = subprocess.Popen(
                self.command(*arguments),
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
                env={**self.environment, **(environment or {}), "TERM": "xterm"},
                cwd=self.directory,
            )
        finally:
            os.close(theirs)
        return OnTerminal(process, ours)

    @staticmethod
    def command(*arguments: str) -> list[str]:
        return [sys.executable, "-m", "ingest", *arguments]


class OnTerminal:
    """A command at work on a terminal, and what it has shown there."""

    def __init__(self, process: subprocess.Popen[bytes], terminal: int) -> None:
        """Own both."""
        self.process = process
        self._terminal = terminal
        self.shown = b""

    def until(self, holds: Callable[[bytes], bool]) -> None:
        """Wait until *holds* of what is shown; OSError when the command ends before."""
        while not holds(self.shown):
            self.shown += os.read(self._terminal, 65_536)

    def ended(self) -> int:
        """Wait for the end; give the exit code."""
        with contextlib.suppress(OSError):  # EIO: nobody has the other side open any more
            while data := os.read(self._terminal, 65_536):
                self.shown += data
        os.close(self._terminal)
        code = self.process.wait(60)
        assert b"Traceback" not in self.shown, self.shown.decode()
        return code


def report(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return the one JSON object a `--json` report is."""
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    assert isinstance(found, dict)
    return found
