"""Who drains the backlog into the table: this worker, mq-bridge, and the loop that most people write.

Each runs as a process of its own and is watched from outside. The clock starts when it is about to connect to
the broker, and stops when its last row can be seen; CPU time is that of the whole process in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.backlog import FILTERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.backlog import Backlog
    from bench.servers import Target
    from bench.workloads import Workload

ROOT: Final = Path(__file__).parents[1]
_PATIENCE_S: Final = 150.0
_LOOK_S: Final = 0.01
"""Between two looks at the database: 0.2 ms of its time each."""
_TICKS_A_S: Final = os.sysconf("SC_CLK_TCK")
_LAST_ACKS_S: Final = 0.5
"""What it may still have under way once its last row is there."""
_COMMITTED = "select value from iot.ingest_counters where counter = 'committed'"
_THERE = "select exists (select from iot.sensor_readings where time = $1 and sensor_id = $2)"
_PAHO_SHARE: Final = 5
"""The loop drains a fifth of its backlog: at a twentieth of the speed it would be most of a round."""


class StuckError(Exception):
    """A contender ended, or took too long, before it had drained its backlog."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a contender is given."""

    url: str
    client_id: str
    target: Target
    backlog: Backlog


@dataclass(frozen=True, slots=True)
class Drained:
    """What one contender did in one round."""

    messages: int
    seconds: float
    cpu_us_per_message: float | None = None
    """Of its process, from where the clock starts."""
    cpu_us_with_start: float | None = None
    """The same with the start of its interpreter and whatever it loads."""
    rss_mb: float | None = None


class Watched:
    """A contender's process, seen from outside."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log
        self.name = name

    def cpu_s(self) -> float:
        """Give the CPU time of all its threads so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_A_S

    def peak_mb(self) -> float:
        """Give the most memory it ever had, in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1024

    async def said(self, word: bytes) -> float:
        """Wait until its log has *word*; give the time (perf_counter)."""
        deadline = time.monotonic() + _PATIENCE_S
        while word not in self.log.read_bytes():
            self.alive(deadline)
            await asyncio.sleep(0.002)
        return time.perf_counter()

    def alive(self, deadline: float) -> None:
        """Raise StuckError, with what it said, when the process is gone or its time is over."""
        if self.process.poll() is not None or time.monotonic() > deadline:
            what = self.name
            said = self.log.read_text(errors="replace")[-2000:]
            raise StuckError(f"{what} did not drain its backlog:\n{said}")


@contextlib.contextmanager
def _watched(command: list[str], environment: dict[str, str]) -> Iterator[Watched]:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, cwd=ROOT, env=os.environ | environment, stdout=output, stderr=output
            )
        try:
            yield Watched(" ".join(command[1:3]), process, log)
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def running_worker(
    url: str, client_id: str, dsn: str, workload: Workload, environment: dict[str, str]
) -> Iterator[Watched]:
    """Run `ingest run` as it comes, everything on, but for the port of its HTTP server."""
    given = {
        "INGEST_BROKER_URL": url,
        "INGEST_BROKER__CLIENT_ID": client_id,
        "INGEST_BROKER__FILTERS": json.dumps([FILTERS[workload.shape]]),
        "INGEST_BROKER__PROTOCOL": workload.protocol,
        "INGEST_METADATA_DSN": dsn,
        "INGEST_TIMESERIES_DSN": dsn,
        "INGEST_OBSERVE__HTTP_PORT": "0",
        "INGEST_OBSERVE__LOG_FORMAT": "json",
    }
    command = [sys.executable, "-m", "ingest", "--config", os.devnull, "run"]
    with _watched(command, given | environment) as watched:
        yield watched


async def worker(job: Job) -> Drained:
    """Drain by this worker."""
    count = len(job.backlog)
    with running_worker(job.url, job.client_id, job.target.dsn, job.backlog.workload, {}) as watched:
        # The last line before it connects: broker_connected comes with the SUBACK, behind the backlog.
        started_s = await watched.said(b"catalog_loaded")
        before_s = watched.cpu_s()
        deadline = time.monotonic() + _PATIENCE_S
        while (await job.target.connection.fetchval(_COMMITTED) or 0) < count:
            watched.alive(deadline)
            await asyncio.sleep(_LOOK_S)
        return _drained(watched, count, started_s, before_s)


async def mq_bridge(job: Job) -> Drained:
    """Run mq-bridge from PyPI with the route of `bench.peer`."""
    count = len(job.backlog)
    last = job.backlog.last_key()
    command = [
        sys.executable,
        "-m",
        "bench.peer",
        job.url,
        job.client_id,
        job.target.dsn,
        job.backlog.workload.name,
    ]
    with _watched(command, {}) as watched:
        started_s = await watched.said(b"starting")
        before_s = watched.cpu_s()
        deadline = time.monotonic() + _PATIENCE_S
        while not await job.target.connection.fetchval(_THERE, *last):
            watched.alive(deadline)
            await asyncio.sleep(_LOOK_S)
        drained = _drained(watched, count, started_s, before_s)
        await asyncio.sleep(_LAST_ACKS_S)
        return drained


async def paho_executemany(job: Job) -> Drained:
    """Run the usual loop over a part of its backlog: see `bench.drain`."""
    count = max(len(job.backlog) // _PAHO_SHARE, 1)
    command = [
        sys.executable, "-m", "bench.drain",
        job.url, job.client_id, job.target.dsn, job.backlog.workload.name, str(count),
    ]  # fmt: skip
    with _watched(command, {}) as watched:
        started_s = await watched.said(b"starting")
        before_s = watched.cpu_s()
        await watched.said(b"drained")
        return _drained(watched, count, started_s, before_s)


def _drained(watched: Watched, count: int, started_s: float, before_s: float) -> Drained:
    seconds = time.perf_counter() - started_s
    after_s = watched.cpu_s()
    return Drained(
        count, seconds, (after_s - before_s) / count * 1e6, after_s / count * 1e6, watched.peak_mb()
    )
