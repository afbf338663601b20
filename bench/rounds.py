"""The rounds of one workload: all drain the same backlog in turn, and the table is counted each time."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from bench import contenders, limits
from bench.backlog import FILTERS, Backlog, end_session, keep_session, publish_all
from bench.contenders import Drained, Job, StuckError
from bench.figures import CONTENDERS, LIMITS, WORKER, Figures, rotated, summary
from bench.late import fill_day
from bench.servers import broker
from ingest.write.copy import pack

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.servers import Target
    from bench.workloads import Workload


def names_for(workload: Workload) -> list[str]:
    """Give who takes part: mq-bridge makes one row of a message, and knows one place and type, its columns'.

    It resolves no names; and what splits a message in it, `unpack`, reads its own envelopes, no JSON array.
    """
    fair = workload.topics == 1 and workload.shape == "reading"
    return [name for name in (*CONTENDERS, *LIMITS) if fair or name != "mq_bridge"]


async def measure(
    target: Target, workload: Workload, count: int, rounds: int, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Give the figures of *rounds* rounds of *count* messages."""
    names = names_for(workload)
    figures = {name: Figures() for name in names}
    backlog = Backlog.of(workload, count, time.time_ns() // 1000)
    packets, packed = backlog.packets(), pack(backlog.rows())
    await target.register(workload.fleet())
    with broker(workload.window) as running:
        for turn in range(rounds):
            sessions = {name: f"bench-{turn}-{name}" for name in figures if name != "raw_copy"}
            for client_id in sessions.values():
                keep_session(running.url, client_id, FILTERS[workload.shape])
            await asyncio.to_thread(publish_all, running.url, packets, count, workload.qos)
            for name in rotated([*figures], turn):
                await target.clear()
                if workload.compressed:
                    await fill_day(target, workload, backlog.published_us)
                before = await target.stored()
                job = Job(running.url, sessions.get(name, ""), target, backlog)
                try:
                    drained = await _run(name, job, packed)
                except StuckError as error:
                    if name == WORKER:
                        raise
                    tell(f"{workload.name}, round {turn + 1}: {name} takes no further part: {error}")
                    del figures[name]
                    continue
                expected = (0, 0) if name == "socket_drain" else backlog.expected(drained.messages)
                stored = await target.stored()
                gained = stored[0] - before[0], stored[1] - before[1]
                figures[name].add(drained, backlog.readings(drained.messages), exact=gained == expected)
                rate = figures[name].rows_per_s[-1]
                wrong = "" if gained == expected else f", {gained} stored instead of {expected}"
                tell(f"{workload.name}, round {turn + 1}: {name} {rate:,.0f} rows/s{wrong}")
            for client_id in sessions.values():
                end_session(running.url, client_id)
    await target.clear()
    return summary(figures, says=workload.says, messages=count, rounds=rounds)


async def _run(name: str, job: Job, packed: list[bytes]) -> Drained:
    if name == "raw_copy":
        return await limits.raw_copy(job, packed)
    run = {
        "worker": contenders.worker,
        "mq_bridge": contenders.mq_bridge,
        "paho_executemany": contenders.paho_executemany,
        "socket_drain": limits.socket_drain,
    }[name]
    return await run(job)
