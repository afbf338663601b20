"""`ingest record` as an operator runs it: a process, its log, its files, its end."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import TYPE_CHECKING, Any, Self

from ingest.load.recording import Block, Damage, files, read
from tests.acceptance.command_line import CommandLine
from tests.log_page import hold
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ingest.load.recording import Recorded


class RecorderProcess:
    """One `ingest record --json`; killed at the end of the `with` block if it still runs."""

    def __init__(self, directory: Path, broker_url: str, *arguments: str, output: str = "a.jsonl.gz") -> None:
        """*output* is a place in *directory*; *arguments* are further ones."""
        line = CommandLine(directory)
        self.output = directory / output
        self._log = directory / "recorder.log"
        self._command = line.command("record", "--json", "--output", output, *arguments)
        self._directory = directory
        self._environment = {
            **line.environment,
            "INGEST_BROKER_URL": broker_url,
            "INGEST_BROKER__RECONNECT_MIN_S": "0.05",
            "INGEST_BROKER__RECONNECT_MAX_S": "0.5",
        }
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self._directory,
                env=self._environment,
            )
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def limited_to(self, file_kib: int) -> Self:
        """Have it write no file larger than that, as on a disk that is full."""
        self._command = ["sh", "-c", f'ulimit -f {file_kib * 2}; exec "$@"', "sh", *self._command]
        return self

    def events(self, name: str) -> list[dict[str, Any]]:
        """Give the log lines of one event; each line is held to docs/logs.md."""
        texts = self._log.read_text(errors="replace").splitlines(keepends=True)
        lines = [json.loads(text) for text in texts if text.startswith("{") and text.endswith("}\n")]
        for line in lines:
            hold(line)
        return [line for line in lines if line["event"] == name]

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait as the function `until` does, and fail with the log."""
        try:
            await until(holds, what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self._log.read_text(errors='replace')}") from error

    async def subscribed(self, times: int = 1) -> None:
        """Wait until it has subscribed *times* times."""
        await self.until(lambda: len(self.events("broker_connected")) >= times, "the recorder subscribes")

    async def holds(self, count: int) -> None:
        """Wait until so many messages can be read from its files."""
        await self.until(lambda: len(recorded(self.output)[0]) >= count, f"{count} messages are recorded")

    async def ended(self) -> dict[str, Any]:
        """Wait until it ends by itself; give its report, with its exit code and what it said besides."""
        process = self.process
        assert process is not None
        await self.until(lambda: process.poll() is not None, "the recorder ends")
        said = self._log.read_text(errors="replace")
        assert "Traceback" not in said, said
        assert process.stdout is not None
        output = process.stdout.read()
        report = json.loads(output) if output else {}
        return {**report, "exit_code": process.returncode, "said": said}

    async def stop(self, number: int = signal.SIGTERM) -> dict[str, Any]:
        """Ask it to end, as `ended`."""
        assert self.process is not None
        self.process.send_signal(number)
        return await self.ended()


def recorded(place: Path) -> tuple[list[Recorded], list[Damage]]:
    """Give the messages that a file or folder holds, and the damage."""
    if not place.exists() or (place.is_dir() and not any(place.iterdir())):
        return [], []
    found = [each for path in files([place]) for each in read(path)]
    messages = [each for block in found if isinstance(block, Block) for each in block.messages]
    return messages, [each for each in found if isinstance(each, Damage)]
