"""What is wrong with the data is in metadata.data_quality_log: one row an issue, extended while it lasts."""

from __future__ import annotations

import json
import time
import uuid
from typing import TYPE_CHECKING, Any

from tests.gateways import Message, publish

if TYPE_CHECKING:
    from tests.acceptance.conftest import Greenhouse, WorkerMaker
    from tests.acceptance.workers import WorkerProcess
    from tests.servers import Mosquitto

QUICK = {"window_s": 0.5, "min_gap_s": 1.0}


async def register(greenhouse: Greenhouse, code: str, expected_interval_s: int) -> uuid.UUID:
    """Register a thermometer."""
    sensor_id = uuid.uuid4()
    await greenhouse.fetch(
        "insert into metadata.sensors (id, tenant_id, greenhouse_id, sensor_code, sensor_type, unit,"
        " expected_interval_s) values ($1, $2, $3, $4, 'TEMPERATURE', '°C', $5)",
        sensor_id,
        greenhouse.tenant_id,
        greenhouse.greenhouse_id,
        code,
        expected_interval_s,
    )
    return sensor_id


async def issues(greenhouse: Greenhouse, kind: str) -> list[dict[str, Any]]:
    rows = await greenhouse.fetch(
        "select * from metadata.data_quality_log"
        " where quality_issue_type = $1 and tenant_id = $2 order by id",
        kind,
        greenhouse.tenant_id,
    )
    return [{**row, "sample_data": json.loads(row["sample_data"])} for row in rows]


async def counted(greenhouse: Greenhouse, kind: str) -> int:
    return sum(issue["affected_records_count"] for issue in await issues(greenhouse, kind))


class Gateway:
    """Publishes a thermometer's readings, with the times of an hour ago."""

    def __init__(self, greenhouse: Greenhouse, port: int) -> None:
        self._topic = f"greenhouse/{greenhouse.greenhouse_id}/sensors/temperature"
        self._port = port
        self._time_ms = time.time_ns() // 1_000_000 - 3_600_000

    async def publish(self, *values: float, unit: str = "°C", pause_s: float = 0.0) -> None:
        """Send *values* ten seconds apart, the first *pause_s* later."""
        self._time_ms += int(pause_s * 1_000)
        messages = []
        for value in values:
            self._time_ms += 10_000
            reading = {"sensor_id": "DHT22-01", "value": value, "unit": unit, "timestamp": self._time_ms}
            messages.append(Message(self._topic, json.dumps(reading).encode()))
        await publish(self._port, messages)


async def test_spikes_gaps_nonsense_and_unknown_names_are_one_row_each_however_often_they_come(
    greenhouse: Greenhouse, database: str, broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    sensor_id = await register(greenhouse, "DHT22-01", expected_interval_s=10)
    settings = {"quality": {**QUICK, "resolve_after_s": 7_200.0}}
    worker = worker_of(greenhouse, database, broker.url, settings=settings)
    await worker.ready()
    gateway = Gateway(greenhouse, broker.port)
    unknown = f"furlong{uuid.uuid4().hex[:6]}"
    await gateway.publish(20.0, unit=unknown)

    async def hears() -> bool:
        return await counted(greenhouse, "UNMAPPED_NAME") == 1

    await worker.until(hears, "a first window")  # from then on a silence is the sensor's
    await gateway.publish(*[20.0, 20.1] * 12)
    for turn in range(3):
        before = {
            kind: await counted(greenhouse, kind) for kind in ("SPIKE", "OUT_OF_RANGE", "UNMAPPED_NAME")
        }
        await gateway.publish(20.0, 85.0, 20.1, 20.0)
        await gateway.publish(6_484.1)
        await gateway.publish(20.0, unit=unknown)
        missing = await counted(greenhouse, "MISSING_DATA")
        await gateway.publish(20.0, pause_s=200)

        async def grown(before: dict[str, int] = before, missing: int = missing) -> bool:
            return await counted(greenhouse, "MISSING_DATA") > missing and all(
                [await counted(greenhouse, kind) == count + 1 for kind, count in before.items()]
            )

        await worker.until(grown, f"each issue has grown, turn {turn}")
    (spike,) = await issues(greenhouse, "SPIKE")
    (nonsense,) = await issues(greenhouse, "OUT_OF_RANGE")
    (name,) = await issues(greenhouse, "UNMAPPED_NAME")
    (gap,) = await issues(greenhouse, "MISSING_DATA")
    assert [each["affected_records_count"] for each in (spike, nonsense, name)] == [3, 3, 4]
    assert gap["affected_records_count"] == 3 * 21  # 220 s, one every ten, that in furlongs is none of them
    for issue in (spike, nonsense, gap):
        assert (issue["sensor_id"], issue["greenhouse_id"]) == (sensor_id, greenhouse.greenhouse_id)
        assert "DHT22-01" in issue["description"]
    assert spike["sample_data"]["first"]["value"] == 85.0
    assert nonsense["sample_data"]["worst"]["value"] == 6_484.1
    assert unknown in name["description"]
    assert name["greenhouse_id"] == greenhouse.greenhouse_id
    assert {each["status"] for each in (spike, nonsense, name, gap)} == {"OPEN"}
    metrics = await worker.metrics()
    assert metrics['ingest_quality_issues_total{kind="SPIKE"}'] >= 1
    await greenhouse.fetch("insert into metadata.unit_aliases values ($1, 1)", unknown.upper())

    async def resolved() -> bool:
        return [issue["status"] for issue in await issues(greenhouse, "UNMAPPED_NAME")] == ["RESOLVED"]

    await worker.until(resolved, "the name is known, and its issue resolved")
    await worker.stop()
    worker.never_traced_back()


async def test_a_silent_sensor_is_open_until_it_is_back_whatever_becomes_of_the_worker(
    greenhouse: Greenhouse, database: str, broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    sensor_id = await register(greenhouse, "DHT22-02", expected_interval_s=1)
    message = Message(
        f"greenhouse/{greenhouse.greenhouse_id}/sensors/temperature",
        b'{"sensor_id": "DHT22-02", "value": 20}',
    )
    settings = {"quality": {**QUICK, "resolve_after_s": 2.0}}
    first = worker_of(greenhouse, database, broker.url, settings=settings)
    await first.ready()
    await publish(broker.port, [message])

    async def state(worker: WorkerProcess, status: str, *, silent: bool) -> None:
        async def holds() -> bool:
            found = [
                (issue["sensor_id"], issue["status"], issue["sample_data"]["silent"])
                for issue in await issues(greenhouse, "MISSING_DATA")
            ]
            assert len(found) <= 1, found
            return found == [(sensor_id, status, silent)]

        await worker.until(holds, f"the gap is {status}, silent: {silent}")

    await state(first, "OPEN", silent=True)
    await first.stop()
    second = worker_of(greenhouse, database, broker.url, settings=settings, client_id=first.client_id)
    await second.ready()
    await publish(broker.port, [message])
    await state(second, "RESOLVED", silent=False)
    (gap,) = await issues(greenhouse, "MISSING_DATA")
    assert gap["affected_records_count"] >= 4
    assert (gap["time_range_end"] - gap["time_range_start"]).total_seconds() > 5
    await second.stop()
    for worker in (first, second):
        worker.never_traced_back()


async def test_a_stopping_worker_writes_what_it_has(
    greenhouse: Greenhouse, database: str, broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    worker = worker_of(greenhouse, database, broker.url, settings={"quality": {"window_s": 3_600}})
    await worker.ready()
    await publish(
        broker.port,
        [Message(greenhouse.map_topic, b'{"BOMBA": 1, "TEMP_01": 6484.1, "SENSOR_01": "warm"}')] * 7,
    )

    async def rejected() -> bool:
        return len(await greenhouse.dead_letters(worker.client_id)) == 7

    await worker.until(rejected, "seven dead letters")
    await worker.stop()
    for kind in ("UNMAPPED_NAME", "OUT_OF_RANGE", "OTHER"):
        assert await counted(greenhouse, kind) == 7, worker.log_text
        assert len(await issues(greenhouse, kind)) == 1
