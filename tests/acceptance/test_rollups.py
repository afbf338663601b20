"""From a gateway to the dashboard's tables: the worker stores, the jobs run, numbers are those of a GROUP BY.

The database has no other writer than the worker, which also notes what comes late.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.gateways import Message, publish
from tests.integration.timeseries_rows import agree, hold_jobs, midnight, run_all, run_jobs

if TYPE_CHECKING:
    import asyncpg

    from tests.acceptance.conftest import Greenhouse, WorkerMaker
    from tests.servers import Mosquitto

DAY = timedelta(days=1)
EVERY = timedelta(minutes=30)


def readings(greenhouse: Greenhouse, sensor_type: str, times: list[datetime]) -> Message:
    """Give one message of the type's readings; values are multiples of 0.25, exact in any order."""
    batch = [
        {
            "sensor_id": f"{sensor_type}-01",
            "sensor_type": sensor_type,
            "value": 20 + int(time.timestamp()) // 60 * 7 % 101 / 4,
            "timestamp": time.isoformat(),
        }
        for time in times
    ]
    return Message(f"greenhouse/{greenhouse.greenhouse_id}/readings", json.dumps(batch).encode())


@pytest.mark.timeout(240)
async def test_published_readings_are_in_every_aggregate_and_late_ones_too(
    greenhouse: Greenhouse,
    database: str,
    connection: asyncpg.Connection[asyncpg.Record],
    broker: Mosquitto,
    worker_of: WorkerMaker,
) -> None:
    await hold_jobs(connection)
    now = datetime.now(UTC)
    first = midnight(days_ago=4)
    times = [first + number * EVERY for number in range(int((now - first) / EVERY))]
    late = first + timedelta(hours=9, minutes=7)  # between two others of its sensor
    worker = worker_of(greenhouse, database, broker.url)
    await worker.ready()
    types = ("TEMPERATURA", "humidity", "CO2")
    await publish(broker.port, [readings(greenhouse, each, times) for each in types])
    await worker.until(lambda: greenhouse.holds(len(types) * len(times)), "all readings are stored")
    await run_jobs(connection, "recompute_late_buckets")  # the first two days are late already
    await run_all(connection)
    await agree(connection, first, now + DAY)

    await publish(broker.port, [readings(greenhouse, each, [late]) for each in types])
    await worker.until(lambda: greenhouse.holds(len(types) * (len(times) + 1)), "the late ones are stored")
    counted = "select count_readings from iot.cagg_sensor_readings_hourly where bucket = $1 order by 1"
    hour = late.replace(minute=0)
    assert [row[0] for row in await connection.fetch(counted, hour)] == [2, 2, 2]
    assert await run_jobs(connection, "recompute_late_buckets") == 1
    assert [row[0] for row in await connection.fetch(counted, hour)] == [3, 3, 3]
    await agree(connection, first, now + DAY)
    await worker.stop()
