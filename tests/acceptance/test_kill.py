"""kill -9 at any moment, then a restart: each reading is in the table once, no more and no fewer.

Half of the messages carry their time, so that the unique key knows them; the other half are flat maps
without one, which only the delivery journal can recognise. Every message has a value of its own.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.gateways import Message, publish
from tests.acceptance.workers import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.acceptance.conftest import Greenhouse
    from tests.acceptance.workers import WorkerProcess
    from tests.servers import Mosquitto

SMALL_BATCHES = {"write": {"max_batch_rows": 200}}
"""Many COMMITs, so that a kill has many moments to hit."""


def messages_of(greenhouse: Greenhouse, count: int) -> list[Message]:
    """Even numbers as readings with their time, odd ones as flat maps without."""
    now_ms = int(time.time() * 1000)
    return [
        Message(greenhouse.map_topic, json.dumps({"SENSOR_01": number}).encode())
        if number % 2
        else Message(
            greenhouse.topic,
            json.dumps({"sensor_id": "S1", "value": number, "timestamp": now_ms - number}).encode(),
        )
        for number in range(count)
    ]


async def each_is_there_once(greenhouse: Greenhouse, count: int) -> None:
    expected = Counter(float(number) for number in range(count))
    stored = await greenhouse.values()
    assert not expected - stored, f"lost: {sorted((expected - stored).elements())[:20]}"
    assert not stored - expected, f"twice: {sorted((stored - expected).elements())[:20]}"


async def test_killed_at_random_moments_under_load(
    greenhouse: Greenhouse, broker: Mosquitto, worker_of: Callable[..., WorkerProcess]
) -> None:
    count, kills = 20_000, 5
    seeded = random.Random(20_251_117)  # noqa: S311 (moments of a test)
    worker = worker_of(settings=SMALL_BATCHES)
    worker.start()
    await worker.ready()
    publishing = asyncio.create_task(publish(broker.port, messages_of(greenhouse, count)))
    for goal in sorted(seeded.sample(range(500, count - 2_000), kills)):

        async def reached(goal: int = goal) -> bool:
            return await greenhouse.count() >= goal

        await until(reached, f"{goal} rows")
        await asyncio.sleep(seeded.uniform(0, 0.02))
        worker.kill9()
        worker.start()
    await publishing

    async def complete() -> bool:
        return len(await greenhouse.values()) >= count

    await until(complete, "all readings are stored")
    await worker.ready()
    await worker.stop()
    await each_is_there_once(greenhouse, count)
    counters = await greenhouse.counters(worker.client_id)
    assert counters["written"] == count
    assert counters["received"] == counters["committed"] + counters["skipped"] + counters["ignored"]
    assert counters["decoded"] == counters["written"] + counters["duplicate"]


@pytest.mark.parametrize(
    ("fault", "skipped"),
    [
        ("before_commit:3", False),
        ("before_puback:3", True),
        ("half_of_pubacks:3", True),
        ("after_puback:3", False),
        ("after_proof:2", False),
    ],
)
async def test_killed_between_commit_and_proof(
    fault: str,
    skipped: bool,  # noqa: FBT001 (a column of the table above)
    greenhouse: Greenhouse,
    broker: Mosquitto,
    worker_of: Callable[..., WorkerProcess],
) -> None:
    count = 2_000
    worker = worker_of(settings=SMALL_BATCHES, fault=fault)
    worker.start()
    await worker.ready()
    await publish(broker.port, messages_of(greenhouse, count))
    assert await worker.exit_code() == -9
    successor = worker_of(worker.client_id, settings=SMALL_BATCHES)
    successor.start()

    async def complete() -> bool:
        return len(await greenhouse.values()) >= count

    await until(complete, "all readings are stored")
    await successor.ready()
    await successor.stop()
    await each_is_there_once(greenhouse, count)
    if skipped:
        assert successor.events("redelivery_skipped")
        assert (await greenhouse.counters(worker.client_id))["skipped"] > 0
