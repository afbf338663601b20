"""`ingest run` with a probe in its event loop: how late it is, and how long the garbage collector takes.

    python -m bench.probed_worker CONFIG

Each line on stdin ends a phase; its figures go to stdout as one JSON object. CPU is what the event loop's
thread computed between two wake-ups of the probe: the pause without the part of others on the machine.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

from ingest import worker
from ingest.configuration import load_settings
from ingest.observe.logs import configure

_EVERY_S: Final = 0.001


class Probe:
    """What was seen since the phase began, in s."""

    def __init__(self) -> None:
        """Begin a phase."""
        self.late_s: list[float] = [0.0]
        self.computed_s = 0.0
        self.collected_s: list[float] = [0.0]
        self._began_s = 0.0

    async def watch(self) -> None:
        """Ask again and again how late the event loop is."""
        while True:
            due_s = time.perf_counter() + _EVERY_S
            before_s = time.thread_time()
            await asyncio.sleep(_EVERY_S)
            self.late_s.append(time.perf_counter() - due_s)
            self.computed_s = max(self.computed_s, time.thread_time() - before_s)

    def on_collection(self, phase: str, _: dict[str, int]) -> None:
        """Time a run of the garbage collector."""
        if phase == "start":
            self._began_s = time.thread_time()
        else:
            self.collected_s.append(time.thread_time() - self._began_s)

    def figures(self) -> dict[str, Any]:
        """Give the figures of the phase, and begin the next."""
        late_s, self.late_s = sorted(self.late_s), [0.0]
        collected_s, self.collected_s = self.collected_s, [0.0]
        computed_s, self.computed_s = self.computed_s, 0.0
        status = Path("/proc/self/status").read_text()
        (resident,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
        return {
            "longest_pause_ms": round(late_s[-1] * 1e3, 1),
            "p999_pause_ms": round(late_s[int(len(late_s) * 0.999)] * 1e3, 1),
            "longest_cpu_ms": round(computed_s * 1e3, 1),
            "longest_collection_ms": round(max(collected_s) * 1e3, 1),
            "rss_mb": round(int(resident) / 1024),
            "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
            "cpu_s": round(time.process_time(), 1),
        }


async def run(config: Path) -> int:
    """Run the worker until stdin ends."""
    settings = load_settings(config)
    configure("info", "json")
    probe = Probe()
    gc.callbacks.append(probe.on_collection)
    loop = asyncio.get_running_loop()

    def tell() -> None:
        sys.stdout.write(f"{json.dumps(probe.figures())}\n")
        sys.stdout.flush()

    def listen() -> None:
        for _ in sys.stdin:
            loop.call_soon_threadsafe(tell)
        signal.raise_signal(signal.SIGTERM)

    threading.Thread(target=listen, daemon=True).start()
    watching = asyncio.create_task(probe.watch())
    try:
        return await worker.run(settings)
    finally:
        watching.cancel()


if __name__ == "__main__":
    sys.exit(asyncio.run(run(Path(sys.argv[1]))))
