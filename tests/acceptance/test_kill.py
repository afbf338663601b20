"""kill -9 at any moment, then a restart: each reading is in the table once, no more and no fewer.

Half of the messages carry their time, so that the unique key knows them; the other half are flat maps
without one, which only the delivery journal can recognise. Every message has a value of its own.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from tests.gateways import publish

if TYPE_CHECKING:
    from tests.acceptance.conftest import Greenhouse, WorkerMaker
    from tests.servers import Mosquitto

SMALL_BATCHES: dict[str, dict[str, object]] = {"write": {"max_batch_rows": 200}}
"""Many COMMITs, so that a kill has many moments to hit."""


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_killed_at_random_moments_under_load(
    protocol: str, greenhouse: Greenhouse, database: str, broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    count, kills = 12_000, 3
    seeded = random.Random(f"{protocol}, seed 20251117")  # noqa: S311 (moments of a test)
    settings = SMALL_BATCHES | {"broker": {"protocol": protocol}}
    worker = worker_of(greenhouse, database, broker.url, settings=settings)
    await worker.ready()
    publishing = asyncio.create_task(publish(broker.port, greenhouse.messages(range(count))))
    for goal in sorted(seeded.sample(range(500, count - 2_000), kills)):

        async def reached(goal: int = goal) -> bool:
            return await greenhouse.holds(goal)

        await worker.until(reached, f"{goal} rows")
        await asyncio.sleep(seeded.uniform(0, 0.02))
        worker.kill9()
        worker.start()
    await publishing
    await worker.until(lambda: greenhouse.holds(count), "all readings are stored")
    await worker.ready()
    await worker.stop()
    await greenhouse.holds_each_once(count)
    counters = await greenhouse.counters(worker.client_id)
    assert counters["written"] == count
    assert counters["received"] == counters["committed"] + counters["skipped"] + counters["ignored"]
    assert counters["decoded"] == counters["written"] + counters["duplicate"]


@pytest.mark.parametrize(
    ("fault", "skips"),
    [
        ("before_puback:3", True),
        ("after_puback:3", False),
        ("after_proof:2", False),  # the first is at the start, where a new session has nothing to prove
    ],
)
async def test_killed_between_commit_and_proof(
    fault: str,
    *,
    skips: bool,
    greenhouse: Greenhouse,
    database: str,
    broker: Mosquitto,
    worker_of: WorkerMaker,
) -> None:
    count = 2_000
    worker = worker_of(greenhouse, database, broker.url, settings=SMALL_BATCHES, fault=fault)
    await worker.ready()
    await publish(broker.port, greenhouse.messages(range(count)))
    assert await worker.exit_code() == -9
    successor = worker_of(
        greenhouse, database, broker.url, client_id=worker.client_id, settings=SMALL_BATCHES
    )
    await successor.until(lambda: greenhouse.holds(count), "all readings are stored")
    await successor.ready()
    await successor.stop()
    await greenhouse.holds_each_once(count)
    if skips:
        assert successor.events("redelivery_skipped")
        assert (await greenhouse.counters(worker.client_id))["skipped"] > 0
