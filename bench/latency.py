"""From publish to COMMIT: how long a reading takes when nothing is behind, at steady rates.

The start is the moment at which a message was due (`bench.steady`). The end is the worker's own line of its
batch, written once COMMIT has returned: later than the COMMIT by the PUBACKs and the accounts of the batch,
so what is said here is never too little. Messages are committed in the order of their publishing, so a
batch's line, which counts messages, tells which they were. It needs no setting of the server (commit
timestamps do), no proxy in the way, and no polling beside it. The first second is left out: names are looked
up then.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from datetime import datetime
from math import ceil
from typing import TYPE_CHECKING, Any, Final

from bench.contenders import ROOT, running_worker
from bench.servers import broker
from bench.workloads import BY_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from bench.servers import Target

RATES: Final = {10: 30, 100: 30, 1_000: 20, 10_000: 15}
"""Messages a second -> seconds."""
_PERCENTILES: Final = {"p50_ms": 50.0, "p99_ms": 99.0, "p99_9_ms": 99.9}
_PATIENCE_S: Final = 60.0


async def measure(target: Target, rates: dict[int, int], tell: Callable[[str], None]) -> dict[str, Any]:
    """Give the percentiles by rate, in ms."""
    workload = BY_NAME["single_qos1"]
    await target.register(workload.fleet())
    channel = workload.fleet().channels[0]
    done = {}
    for rate, seconds in rates.items():
        await target.clear()
        count = rate * seconds
        with broker(workload.window) as running:
            environment = {"INGEST_OBSERVE__LOG_LEVEL": "debug"}
            client_id = f"bench-latency-{rate}"
            with running_worker(running.url, client_id, target.dsn, workload, environment) as worker:
                await worker.said(b"broker_connected")
                sender = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "bench.steady", running.url, str(rate), str(count),
                    str(channel.greenhouse_id), str(channel.sensor_id), cwd=ROOT, stdout=subprocess.PIPE,
                )  # fmt: skip
                said, _ = await sender.communicate()
                lines: list[tuple[float, int]] = []
                waited_s = 0.0
                while sum(messages for _, messages in lines) < count:
                    if waited_s > _PATIENCE_S:
                        raise SystemExit(f"{count} messages at {rate} a second were not committed")
                    await asyncio.sleep(0.2)
                    waited_s += 0.2
                    lines = commits(worker.log.read_text().splitlines())
        spent_ms = latencies_ms(float(said), rate, lines)[rate:]
        done[str(rate)] = {"messages": len(spent_ms), **percentiles(spent_ms)}
        tell(f"{rate} messages a second: {done[str(rate)]}")
    await target.clear()
    return done


def commits(lines: Iterable[str]) -> list[tuple[float, int]]:
    """Give time (s since 1970) and number of messages of each batch that a worker's log tells of. Pure."""
    batches = [json.loads(line) for line in lines if '"batch_committed"' in line]
    return [(datetime.fromisoformat(each["timestamp"]).timestamp(), each["messages"]) for each in batches]


def latencies_ms(first_s: float, rate: float, batches: Iterable[tuple[float, int]]) -> list[float]:
    """Give each message's wait from the moment it was due to the COMMIT of its batch. Pure."""
    spent_ms: list[float] = []
    for committed_s, messages in batches:
        at = len(spent_ms)
        spent_ms += ((committed_s - first_s - number / rate) * 1000 for number in range(at, at + messages))
    return spent_ms


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Give the nearest-rank percentiles: each is a value that was measured. Pure."""
    ordered = sorted(values)
    return {
        name: round(ordered[max(ceil(len(ordered) * percent / 100), 1) - 1], 2)
        for name, percent in _PERCENTILES.items()
    }
