"""What a soak reads every few seconds: the worker's process and page, the tables, the database's disk.

Each from outside, each for itself: while the database or the worker is away, what they alone know is None.
Owns a connection, which it makes anew, and the file of samples, a JSON object a line.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import asyncpg

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.acceptance.workers import WorkerProcess

_ANSWER_S: Final = 3.0
_COUNTERS: Final = """
    select
        counter,
        sum(value)::bigint as value
    from iot.ingest_counters
    where client_id = $1
    group by counter
"""
_DISK: Final = """
    select
        pg_database_size(current_database()) as database_bytes,
        (select sum(size)::bigint from pg_ls_waldir()) as wal_bytes,
        pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint as wal_written_bytes
"""
_CHUNKS: Final = """
    select
        count(*) as chunks,
        count(*) filter (where is_compressed) as compressed
    from timescaledb_information.chunks
    where hypertable_name = 'sensor_readings'
"""
_TIMESCALE: Final = "select count(*) from pg_extension where extname = 'timescaledb'"
_SETTLED: Final = ("committed", "skipped", "ignored")
_OF_DATABASE: Final = (
    "settled",
    "rows",
    "database_bytes",
    "wal_bytes",
    "wal_written_bytes",
    "chunks",
    "compressed",
)


class Sampler:
    """See the module's header; entered with ``async with`` it samples every *every_s* until it is left."""

    def __init__(
        self,
        path: Path,
        dsn: str,
        client_id: str,
        worker: Callable[[], WorkerProcess],
        *,
        published: Callable[[], tuple[int, int]],
        every_s: float,
    ) -> None:
        """*published* gives how many messages were published and acknowledged so far."""
        self.samples: list[dict[str, Any]] = []
        self._file = path.open("w")
        self._dsn = dsn
        self._client_id = client_id
        self._worker = worker
        self._published = published
        self._every_s = every_s
        self._connection: asyncpg.Connection | None = None
        self._timescale = False
        self._started_s = time.monotonic()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._connection is not None:
            self._connection.terminate()
        self._file.close()

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._started_s

    async def _run(self) -> None:
        number = 0
        while True:
            await self.take()
            number += 1
            await asyncio.sleep(max(0.0, self._started_s + number * self._every_s - time.monotonic()))

    async def take(self) -> dict[str, Any]:
        """Take one sample, keep it and give it."""
        published, acknowledged = self._published()
        sample: dict[str, Any] = {
            "at_s": round(self.elapsed_s, 3),
            **self._process(),
            **await self._page(),
            "published": published,
            "acknowledged": acknowledged,
            **await self._database(),
        }
        settled = sample["settled"]
        sample["lag"] = None if settled is None else acknowledged - settled
        self.samples.append(sample)
        self._file.write(json.dumps(sample) + "\n")
        self._file.flush()
        return sample

    def _process(self) -> dict[str, Any]:
        worker = self._worker()
        with contextlib.suppress(OSError):  # it may end meanwhile
            if worker.running:
                handles = sum(1 for _ in Path(f"/proc/{worker.pid}/fd").iterdir())
                return {"pid": worker.pid, "rss_bytes": worker.rss_bytes or None, "handles": handles}
        return {"pid": None, "rss_bytes": None, "handles": None}

    async def _page(self) -> dict[str, Any]:
        """Ask the worker for what it holds; a frozen one does not answer."""
        with contextlib.suppress(TimeoutError, OSError, AssertionError):
            async with asyncio.timeout(_ANSWER_S):
                metrics = await self._worker().metrics()
                return {
                    "queue": int(metrics["ingest_in_flight_messages"]),
                    "waits_s": round(metrics["ingest_lag_seconds"], 3),
                }
        return {"queue": None, "waits_s": None}

    async def _database(self) -> dict[str, Any]:
        with contextlib.suppress(TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            async with asyncio.timeout(_ANSWER_S):
                return await self._ask()
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
        return dict.fromkeys(_OF_DATABASE)

    async def _ask(self) -> dict[str, Any]:
        if self._connection is None:
            self._connection = await asyncpg.connect(self._dsn)
            self._timescale = bool(await self._connection.fetchval(_TIMESCALE))
        connection = self._connection
        counters = {
            row["counter"]: row["value"] for row in await connection.fetch(_COUNTERS, self._client_id)
        }
        (disk,) = await connection.fetch(_DISK)
        chunks = (
            (await connection.fetch(_CHUNKS))[0] if self._timescale else {"chunks": None, "compressed": None}
        )
        return {
            "settled": sum(counters.get(name, 0) for name in _SETTLED),
            "rows": counters.get("written", 0),
            **dict(disk),
            **dict(chunks),
        }
