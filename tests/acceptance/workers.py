"""The worker as an operator runs it: a process of `ingest run`, its log, its pages, its end.

Owns the process and its files. What a test wants to know it reads from outside: exit code, log lines,
/readyz, /metrics and the tables.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.log_page import hold
from tests.waiting import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

ROOT = Path(__file__).parents[2]

Settings = dict[str, dict[str, object]]


class WorkerProcess:
    """One `ingest run`; *settings* are tables of the configuration file. Started anew after each end."""

    def __init__(
        self,
        directory: Path,
        *,
        broker_url: str,
        dsn: str,
        filters: list[str],
        client_id: str = "",
        metadata_dsn: str = "",
        settings: Mapping[str, Mapping[str, object]] | None = None,
        fault: str | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        """*metadata_dsn*: *dsn* if empty. With *fault*, "name:n", it ends itself there: `faulty_worker`.

        *arguments* stand behind `run`.
        """
        self._arguments = arguments
        self.client_id = client_id or f"worker-{uuid.uuid4().hex[:12]}"
        self._module = "ingest" if fault is None else "tests.acceptance.faulty_worker"
        self._config = directory / f"{uuid.uuid4().hex}.toml"
        self.log_file = self._config.with_suffix(".log")
        self._environment = {
            "PATH": "/usr/bin:/bin",
            "INGEST_METADATA_DSN": metadata_dsn or dsn,
            "INGEST_TIMESERIES_DSN": dsn,
            "PYTHONPATH": str(ROOT),
            "FAULT": fault or "no_fault:0",
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._port: int | None = None
        """Of its HTTP server, once the log has said it."""
        tables: Settings = {
            "broker": {
                "client_id": self.client_id,
                "filters": filters,
                "reconnect_min_s": 0.05,
                "reconnect_max_s": 0.5,
            },
            "write": {"retry_max_s": 0.5},
            "observe": {"http_port": 0, "log_format": "json"},
        }
        for table, options in (settings or {}).items():
            tables.setdefault(table, {}).update(options)
        lines = [f"broker_url = {json.dumps(broker_url)}"]
        for table, options in tables.items():
            lines += [f"[{table}]", *(f"{name} = {json.dumps(value)}" for name, value in options.items())]
        self._config.write_text("\n".join(lines) + "\n")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill9()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start the process with an empty log; returns at once."""
        self._port = None
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self._module, "--config", str(self._config), "run", *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                cwd=ROOT,
            )

    def kill9(self) -> None:
        """SIGKILL, and wait for the end."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def signal(self, number: int = signal.SIGTERM) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def exit_code(self, patience_s: float = PATIENCE_S) -> int:
        """Wait for the process to end by itself."""
        process = self._process
        assert process is not None
        await until(lambda: process.poll() is not None, "the worker ends", patience_s=patience_s)
        return process.wait()

    async def stop(self) -> None:
        """Ask it to leave, and expect exit code 0."""
        self.signal()
        assert await self.exit_code() == 0, self.log_text

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def frozen(self) -> bool:
        """Whether the process is stopped (SIGSTOP) at the moment."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    @property
    def log_text(self) -> str:
        return self.log_file.read_text()

    @property
    def rss_bytes(self) -> int:
        """Give the resident memory of the running process."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
        return int(found[1]) * 1024 if found else 0

    def log_lines(self) -> list[dict[str, Any]]:
        """Give the log so far, each line as docs/logs.md has it; one that is being written is left out."""
        texts = self.log_text.splitlines(keepends=True)
        lines = [json.loads(text) for text in texts if text.startswith("{") and text.endswith("}\n")]
        for line in lines:
            hold(line)
        return lines

    def events(self, name: str) -> list[dict[str, Any]]:
        """Give the log lines of one event."""
        return [line for line in self.log_lines() if line["event"] == name]

    async def until(
        self, holds: Callable[[], bool | Awaitable[bool]], what: str, *, patience_s: float = PATIENCE_S
    ) -> None:
        """Wait as the function `until` does, and fail with the log; at once when the worker has ended."""

        async def holds_while_running() -> bool:
            held = holds()
            held = held if isinstance(held, bool) else await held
            assert held or self.running, "the worker has ended"
            return held

        try:
            await until(holds_while_running, what, patience_s=patience_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log_text}") from error

    def never_traced_back(self) -> None:
        """Expect no traceback in the log, whatever happened."""
        assert "Traceback" not in self.log_text, self.log_text

    async def logged(self, name: str, times: int = 1) -> None:
        """Wait until the log has the event *times* times."""
        await self.until(lambda: len(self.events(name)) >= times, f"{name} is logged {times} times")

    async def get(self, page: str) -> tuple[int, str]:
        """Ask the worker's own HTTP server for *page*; give (status, body)."""
        if self._port is None:
            await self.logged("http_listening")
            self._port = int(self.events("http_listening")[0]["port"])
        return await asyncio.to_thread(_fetch, f"http://127.0.0.1:{self._port}{page}")

    async def metrics(self) -> dict[str, float]:
        """Give /metrics as {'name{labels}': value}."""
        status, body = await self.get("/metrics")
        assert status == 200
        samples = (line.rpartition(" ") for line in body.splitlines() if line and line[0] != "#")
        return {name: float(value) for name, _, value in samples}

    async def ready(self, *, patience_s: float = PATIENCE_S) -> None:
        """Wait until /readyz says 200."""

        async def holds() -> bool:
            return (await self.get("/readyz"))[0] == 200

        await self.until(holds, "the worker is ready", patience_s=patience_s)

    async def not_ready_because(self, text: str) -> None:
        """Wait until /readyz says 503 with a reason that holds *text*."""

        async def holds() -> bool:
            status, body = await self.get("/readyz")
            return status == 503 and text in body

        await self.until(holds, f"/readyz names {text!r}")


def _fetch(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 (a loopback URL made above)
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
