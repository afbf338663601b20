"""`make soak-memory`: the worker's memory at full rate, with the database down for half of the time.

Gateways publish as fast as they are let, so that the worker's buffer is full whenever the database is away
and the broker holds a queue. The database goes down and comes back in turn; the worker's resident memory is
read every half second. At the end it may be no more than a tenth above what it was after the first turn, in
which the buffers were full for the first time, nor ever over 200 MB; and every reading must be in the table
once.

    python -m tests.acceptance.soak_memory --seconds 600

The last line is a JSON object; exit code 0 when nothing is amiss, else 1.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.acceptance.conftest import Greenhouse
from tests.acceptance.workers import WorkerProcess
from tests.gateways import publish
from tests.integration.plain_postgres import create_both_schemas
from tests.servers import PostgresCluster, shipped_broker
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_BYTES: Final = 200_000_000
MOST_GROWTH: Final = 1.10
TURNS: Final = 10
"""Each half with the database, half without."""
SLICE: Final = 5_000
AHEAD: Final = 150_000
"""How far gateways get ahead of the table before they wait: the buffer (40 000) and a queue behind it."""
DRAIN_S: Final = 180.0


class Soak:
    """One worker, its gateways, and what its memory was; times in s since the start."""

    def __init__(
        self, server: PostgresCluster, worker: WorkerProcess, greenhouse: Greenhouse, port: int
    ) -> None:
        self._server = server
        self._worker = worker
        self._greenhouse = greenhouse
        self._port = port
        self._started_s = time.monotonic()
        self._ended = asyncio.Event()
        self.published = 0
        self.samples: list[tuple[float, int]] = []

    async def run(self, seconds: float, say: Callable[[str], None]) -> dict[str, Any]:
        """Soak for *seconds*; give the report."""
        half_s = seconds / TURNS / 2
        tasks = [asyncio.create_task(each) for each in (self._publish(), self._sample())]
        first_bytes = last_bytes = 0
        for turn in range(TURNS):
            await asyncio.sleep(half_s)
            last_bytes = self._worker.rss_bytes
            if turn == 1:  # the first has filled the buffers once, and caught up
                first_bytes = last_bytes
            await asyncio.to_thread(self._server.stop)
            await asyncio.sleep(half_s)
            without_bytes = self._worker.rss_bytes
            await asyncio.to_thread(self._server.start)
            say(
                f"{self._elapsed_s:7.1f} s  turn {turn + 1}: {self.published:>9} published, "
                f"{last_bytes / 1e6:.1f} MB with the database, {without_bytes / 1e6:.1f} MB without"
            )
        self._ended.set()
        await tasks[0]
        await self._worker.until(self._complete, "all readings are stored", patience_s=DRAIN_S)
        tasks[1].cancel()
        await asyncio.gather(tasks[1], return_exceptions=True)
        last_bytes = self._worker.rss_bytes
        rows, values = (
            await self._greenhouse.fetch("select count(*), count(distinct value) from iot.sensor_readings")
        )[0]
        most_bytes = max(rss_bytes for _, rss_bytes in self.samples)
        return {
            "ok": most_bytes < MOST_BYTES
            and last_bytes <= first_bytes * MOST_GROWTH
            and rows == values == self.published,
            "seconds": seconds,
            "published": self.published,
            "rows": rows,
            "values": values,
            "rss_bytes": {"first": first_bytes, "last": last_bytes, "most": most_bytes},
            "growth": round(last_bytes / first_bytes, 3),
        }

    @property
    def _elapsed_s(self) -> float:
        return time.monotonic() - self._started_s

    async def _publish(self) -> None:
        while not self._ended.is_set():
            await publish(
                self._port, self._greenhouse.messages(range(self.published, self.published + SLICE))
            )
            self.published += SLICE
            await until(self._may_go_on, "the table catches up", patience_s=2 * DRAIN_S)

    async def _may_go_on(self) -> bool:
        return self._ended.is_set() or self.published - await self._committed() <= AHEAD

    async def _committed(self) -> float:
        return (await self._worker.metrics())['ingest_messages_total{outcome="committed"}']

    async def _complete(self) -> bool:
        return await self._committed() >= self.published

    async def _sample(self) -> None:
        while True:
            self.samples.append((self._elapsed_s, self._worker.rss_bytes))
            await asyncio.sleep(0.5)


async def soak(seconds: float, directory: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Start the servers and a worker as shipped, soak it, stop them; give the report."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(PostgresCluster())
        dsn = server.create_database()
        await create_both_schemas(dsn)
        greenhouse = await Greenhouse.registered(dsn)
        broker = stack.enter_context(shipped_broker(directory))
        worker = stack.enter_context(
            WorkerProcess(directory, broker_url=broker.url, dsn=dsn, filters=greenhouse.filters)
        )
        await worker.ready()
        report = await Soak(server, worker, greenhouse, broker.port).run(seconds, say)
        await worker.stop()
        worker.never_traced_back()
        return report


def main() -> int:
    """Read the arguments, soak, and give the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.soak_memory", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="half of it without the database (600)")
    given = parser.parse_args()

    def say(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    with tempfile.TemporaryDirectory(prefix="greenhouse-soak-") as directory:
        report = asyncio.run(soak(given.seconds, Path(directory), say))
    say(json.dumps(report))
    return 0 if report["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
