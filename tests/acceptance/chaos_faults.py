"""What the chaos run breaks: worker, broker, database and the network between them, each on its own.

A part is broken and mended by one task, one fault after the other, so that faults of different parts overlap
and those of one part do not. Which faults, and how long, a seed chooses; each is told with its time.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

import asyncpg

from tests.acceptance.chaos_account import Crash
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from tests.acceptance.workers import WorkerProcess
    from tests.proxy import Proxy
    from tests.servers import Mosquitto, PostgresCluster

LEAVE_S: Final = 30.0
"""For a worker that was asked to leave to end; its own deadlines add up to some ten seconds."""
TAKEN_OVER_S: Final = 120.0
"""For one that was taken over: its successor cannot claim the session before the database is back."""
TAKEN_OVER: Final = 2

Fault = tuple[str, int, "Callable[[random.Random], Awaitable[None]]"]
"""Name, weight, and what breaks and mends it."""


def some(seeded: random.Random, *, long_s: float) -> float:
    """Give a duration: mostly short ones, now and then one up to *long_s*."""
    return seeded.uniform(0, 1.5) if seeded.random() < 0.75 else seeded.uniform(1.5, long_s)


class Part:
    """One part and the task that breaks it; *tell* hears (part, fault) before each."""

    def __init__(self, name: str, faults: Sequence[Fault], *, rest_s: tuple[float, float]) -> None:
        self.name = name
        self.faults = faults
        self.rest_s = rest_s

    async def run(self, seed: str, ended: asyncio.Event, tell: Callable[[str, str], None]) -> None:
        """Break it again and again until *ended*; it is whole when this returns."""
        seeded = random.Random(f"{seed} {self.name}")  # noqa: S311 (moments of a test)
        weights = [weight for _, weight, _ in self.faults]
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seeded.uniform(*self.rest_s)):
                    await ended.wait()
            if ended.is_set():
                return
            ((name, _, fault),) = seeded.choices(self.faults, weights)
            tell(self.name, name)
            await fault(seeded)


def network(name: str, proxy: Proxy, *, rest_s: tuple[float, float]) -> Part:
    """Make the part of the network that *proxy* is."""

    async def cut(_: random.Random) -> None:
        proxy.cut()

    async def stall(seeded: random.Random) -> None:
        proxy.stall()
        await asyncio.sleep(some(seeded, long_s=10))
        proxy.flow()

    async def stall_and_cut(seeded: random.Random) -> None:
        proxy.stall()
        await asyncio.sleep(some(seeded, long_s=6))
        proxy.cut()
        proxy.flow()

    async def refuse(seeded: random.Random) -> None:
        proxy.refuse(refusing=True)
        await asyncio.sleep(some(seeded, long_s=4))
        proxy.refuse(refusing=False)

    faults = [("cut", 4, cut), ("stalled", 3, stall), ("stalled, then cut", 2, stall_and_cut)]
    return Part(name, [*faults, ("refused", 2, refuse)], rest_s=rest_s)


class BrokerFaults:
    """Breaks the broker, and notes what each kill -9 may have made it forget."""

    def __init__(self, broker: Mosquitto) -> None:
        self._broker = broker
        self.crashes: list[Crash] = []

    def part(self, rest_s: tuple[float, float]) -> Part:
        faults: list[Fault] = [("killed", 3, self._kill), ("restarted", 3, self._restart)]
        return Part("broker", [*faults, ("frozen", 3, self._freeze)], rest_s=rest_s)

    async def _kill(self, seeded: random.Random) -> None:
        killed_s = time.time()
        self._broker.kill9()
        saved_s = self._broker.saved_at_s
        await asyncio.sleep(some(seeded, long_s=4))
        await asyncio.to_thread(self._broker.start)
        self.crashes.append(Crash(saved_s, killed_s, time.time()))

    async def _restart(self, seeded: random.Random) -> None:
        await asyncio.to_thread(self._broker.stop)
        await asyncio.sleep(some(seeded, long_s=4))
        await asyncio.to_thread(self._broker.start)

    async def _freeze(self, seeded: random.Random) -> None:
        self._broker.freeze()
        await asyncio.sleep(some(seeded, long_s=10))
        self._broker.thaw()


class DatabaseFaults:
    """Breaks the PostgreSQL server; *dsn* is how to reach it past the proxies."""

    def __init__(self, server: PostgresCluster, dsn: str) -> None:
        self._server = server
        self._dsn = dsn

    def part(self, rest_s: tuple[float, float]) -> Part:
        faults: list[Fault] = [
            ("killed", 3, self._kill),
            ("stopped at once", 2, self._stop_at_once),
            ("restarted", 2, self._restart),
            ("frozen", 3, self._freeze),
            ("backends ended", 3, self._end_backends),
        ]
        return Part("database", faults, rest_s=rest_s)

    async def _kill(self, seeded: random.Random) -> None:
        await asyncio.to_thread(self._server.kill9)
        await self._start(seeded)

    async def _stop_at_once(self, seeded: random.Random) -> None:
        await asyncio.to_thread(lambda: self._server.stop(immediate=True))
        await self._start(seeded)

    async def _restart(self, seeded: random.Random) -> None:
        await asyncio.to_thread(self._server.stop)
        await self._start(seeded)

    async def _start(self, seeded: random.Random) -> None:
        await asyncio.sleep(some(seeded, long_s=5))
        await asyncio.to_thread(self._server.start)

    async def _freeze(self, seeded: random.Random) -> None:
        self._server.freeze()
        await asyncio.sleep(some(seeded, long_s=8))
        self._server.thaw()

    async def _end_backends(self, _: random.Random) -> None:
        connection = await asyncpg.connect(self._dsn)
        await connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where application_name like 'greenhouse%' and datname = current_database()"
        )
        await connection.close()


class WorkerFaults:
    """Keeps one worker running, and ends it in every way; *make* gives a new one of the same client id."""

    def __init__(self, make: Callable[[], WorkerProcess], violations: list[str]) -> None:
        self._make = make
        self._violations = violations
        self._ending: set[WorkerProcess] = set()
        """Those that have our leave to end."""
        self._elders: list[asyncio.Task[None]] = []
        self.logged: Counter[str] = Counter()
        """How often each event was logged, over all processes that have ended."""
        self.rss_bytes = 0
        """The most that any of them took."""
        self.worker = self._successor()

    def part(self, rest_s: tuple[float, float]) -> Part:
        faults: list[Fault] = [
            ("killed", 5, self._kill),
            ("asked to leave", 3, self._ask),
            ("frozen", 3, self._freeze),
            ("taken over", 1, self._take_over),
            ("taken over while frozen", 2, self._take_over_frozen),
        ]
        return Part("worker", faults, rest_s=rest_s)

    async def watch(self) -> None:
        """Start a worker again that has ended by itself, which it must not; runs until cancelled."""
        while True:
            worker = self.worker
            if worker.running:
                self.rss_bytes = max(self.rss_bytes, worker.rss_bytes)
            elif worker not in self._ending:
                await self._end_of(worker, "left alone", expected=None)
                self.worker = self._successor()
            await asyncio.sleep(0.2)

    async def finish(self) -> None:
        """Wait for every worker that was taken over, and have the last one leave."""
        await asyncio.gather(*self._elders)
        await self._leave(self.worker)

    async def _kill(self, seeded: random.Random) -> None:
        worker = self.worker
        self._ending.add(worker)
        worker.kill9()
        await self._end_of(worker, "killed", expected=-signal.SIGKILL)
        await asyncio.sleep(some(seeded, long_s=3))
        self.worker = self._successor()

    async def _ask(self, seeded: random.Random) -> None:
        if await self._has_logged("worker_started"):
            await self._leave(self.worker)
            await asyncio.sleep(some(seeded, long_s=3))
            self.worker = self._successor()

    async def _freeze(self, seeded: random.Random) -> None:
        worker = self.worker
        worker.signal(signal.SIGSTOP)
        await asyncio.sleep(some(seeded, long_s=10))
        worker.signal(signal.SIGCONT)

    async def _take_over(self, _: random.Random) -> None:
        if await self._has_logged("broker_connected"):
            self._hand_over()

    async def _take_over_frozen(self, seeded: random.Random) -> None:
        if await self._has_logged("broker_connected"):
            elder = self.worker
            elder.signal(signal.SIGSTOP)
            self._hand_over()
            await asyncio.sleep(some(seeded, long_s=8))
            elder.signal(signal.SIGCONT)

    async def _has_logged(self, event: str) -> bool:
        """Wait a while for the worker to come so far; before its first claim nobody can take it over."""
        worker = self.worker
        with contextlib.suppress(AssertionError):
            await until(lambda: bool(worker.events(event)), event, patience_s=LEAVE_S)
        return worker is self.worker and worker.running and bool(worker.events(event))

    def _hand_over(self) -> None:
        """Start a successor, and expect the worker to notice that it has one."""
        elder = self.worker
        self._ending.add(elder)
        self.worker = self._successor()
        self._elders.append(asyncio.create_task(self._ended(elder, "taken over", expected=TAKEN_OVER)))

    async def _leave(self, worker: WorkerProcess) -> None:
        self._ending.add(worker)
        worker.signal()
        await self._ended(worker, "asked to leave", expected=0)

    async def _ended(self, worker: WorkerProcess, how: str, *, expected: int) -> None:
        patience_s = LEAVE_S if expected == 0 else TAKEN_OVER_S
        try:
            await until(lambda: not worker.running, "the worker ends", patience_s=patience_s)
        except AssertionError:
            self._violations.append(f"worker {worker.pid}, {how}, did not end within {patience_s:g} s")
            worker.kill9()
        await self._end_of(worker, how, expected=expected)

    async def _end_of(self, worker: WorkerProcess, how: str, *, expected: int | None) -> None:
        code = await worker.exit_code()
        if code != expected:
            self._violations.append(f"worker {worker.pid}, {how}, ended with {code}: {worker.log_file}")
        if "Traceback" in worker.log_text:
            self._violations.append(f"worker {worker.pid}, {how}, has a traceback: {worker.log_file}")
        self.logged.update(line["event"] for line in worker.log_lines())

    def _successor(self) -> WorkerProcess:
        worker = self._make()
        worker.start()
        return worker
