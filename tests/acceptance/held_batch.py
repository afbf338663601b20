"""A first batch that the database holds back, so that a test knows what is in the worker's next ones.

A batch is whatever has arrived when the writer is free: how much that is, a moment of the machine decides.
On plain PostgreSQL: the embedded TimescaleDB has but one session, which the lock would keep.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg

from tests.gateways import publish

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.acceptance.conftest import Greenhouse
    from tests.acceptance.workers import WorkerProcess
    from tests.gateways import Message
    from tests.servers import Mosquitto


async def arrive_behind_the_first(
    worker: WorkerProcess, greenhouse: Greenhouse, broker: Mosquitto, messages: Sequence[Message]
) -> None:
    """Publish *messages* to an idle *worker*: the first becomes a batch, all the others wait behind it.

    A lock on the table holds the first one's COPY back until the others have been received, so that these
    fill as many batches as `write.max_batch_rows` allows, and one more. Returns once the lock is gone.
    """
    connection = await asyncpg.connect(greenhouse.dsn)

    async def held_back() -> bool:
        query = (
            "select count(*) from pg_locks where relation = 'iot.sensor_readings'::regclass and not granted"
        )
        return bool(await connection.fetchval(query))

    async def received() -> bool:
        return (await worker.metrics())["ingest_in_flight_messages"] == len(messages)

    try:
        async with connection.transaction():
            await connection.execute("lock table iot.sensor_readings")
            await publish(broker.port, messages[:1])
            await worker.until(held_back, "the first batch is held back")
            await publish(broker.port, messages[1:])
            await worker.until(received, "the others are received")
    finally:
        await connection.close()
