"""The ledgers of each gateway through kill -9, and `ingest reconcile` on what a real worker left behind."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from ingest.write import Counts
from tests.acceptance.command_line import CommandLine, report
from tests.gateways import Message, publish
from tests.ledgers import LEDGER

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.acceptance.conftest import Greenhouse, WorkerMaker
    from tests.servers import Mosquitto

SMALL_BATCHES: dict[str, dict[str, object]] = {"write": {"max_batch_rows": 100}}
Reconcile: TypeAlias = "Callable[..., Awaitable[tuple[int, Any]]]"
"""Runs `ingest reconcile`; gives the exit code and its report, or its text."""
UNPLACED = "(unplaced)"


@pytest.fixture
def reconcile(tmp_path: Path, database: str) -> Reconcile:
    ingest = CommandLine(tmp_path)
    environment = {"INGEST_TIMESERIES_DSN": database, "INGEST_METADATA_DSN": database}

    async def run(*arguments: str) -> tuple[int, Any]:
        asked = ("reconcile", "--since", "2h", *arguments)
        done = await asyncio.to_thread(lambda: ingest(*asked, environment=environment))
        return done.returncode, report(done) if "--json" in arguments else done.stdout

    return run


async def ledger(greenhouse: Greenhouse, client_id: str) -> dict[str, Counts]:
    return {record[0]: Counts(*list(record)[1:]) for record in await greenhouse.fetch(LEDGER, client_id)}


async def published_by_all(greenhouse: Greenhouse, port: int, count: int) -> dict[str, Counts]:
    """Publish *count* messages of each kind, interleaved; give what each gateway's ledger should say."""
    single, flat = f"greenhouse/{greenhouse.greenhouse_id}", greenhouse.map_topic
    coded, unknown = f"{flat}/{greenhouse.code}", f"{flat}/NOWHERE"
    made_ms = time.time_ns() // 1_000_000
    messages = []
    for number in range(count):
        reading = {"sensor_id": "S1", "value": number, "timestamp": made_ms - number}
        messages += [
            Message(f"{single}/sensors/sensor", json.dumps(reading).encode()),
            Message(
                f"{single}/readings", json.dumps([reading | {"sensor_type": "sensor"}]).encode()
            ),  # again
            Message(flat, json.dumps({"SENSOR_01": number, "SENSOR_02": None}).encode()),
            Message(coded, json.dumps({"SENSOR_03": number, "RESERVA": "warm"}).encode()),
            Message(coded, b""),
            Message(unknown, json.dumps({"SENSOR_01": number}).encode()),
        ]
    await publish(port, messages)
    return {
        single: Counts(committed=2 * count, decoded=2 * count, written=count, duplicate=count),
        flat: Counts(committed=count, decoded=2 * count, written=count, null=count),
        coded: Counts(committed=count, ignored=count, decoded=2 * count, written=count, rejected=count),
        UNPLACED: Counts(committed=count, decoded=count, rejected=count),
    }


async def test_killed_under_load_each_gateway_s_ledger_is_what_it_published(
    greenhouse: Greenhouse, database: str, broker: Mosquitto, worker_of: WorkerMaker, reconcile: Reconcile
) -> None:
    count = 600
    worker = worker_of(greenhouse, database, broker.url, settings=SMALL_BATCHES)
    await worker.ready()
    publishing = asyncio.create_task(published_by_all(greenhouse, broker.port, count))
    for goal in (300, 1_100):

        async def reached(goal: int = goal) -> bool:
            return await greenhouse.holds(goal)

        await worker.until(reached, f"{goal} rows")
        worker.kill9()
        worker.start()
    expected = await publishing

    async def everything() -> bool:
        return (await greenhouse.counters(worker.client_id))["committed"] >= 5 * count

    await worker.until(everything, "all messages are committed")
    await worker.ready()
    await worker.stop()
    found = await ledger(greenhouse, worker.client_id)
    for gateway, counts in expected.items():
        received = counts.committed + counts.ignored + found[gateway].skipped
        counts.received, counts.skipped = received, found[gateway].skipped
    assert found == expected
    total = Counts()
    for counts in found.values():
        total = total.plus(counts)
    assert await greenhouse.counters(worker.client_id) == total.as_dict()

    code, said = await reconcile("--json")
    assert (code, said["faults"], said["ok"]) == (0, [], True)
    mine = {each["gateway"]: each for each in said["gateways"]}
    assert mine[greenhouse.map_topic]["tenant"] == greenhouse.prefix
    assert mine[f"{greenhouse.map_topic}/{greenhouse.code}"]["dead_letters"]["readings"] == count
    assert all(each["adds_up"] for each in mine.values())
    (rows,) = [each for each in said["rows"] if each["greenhouse"] == greenhouse.code]
    assert (rows["booked"], rows["stored"]) == (3 * count, 3 * count)

    await greenhouse.fetch(
        "delete from iot.sensor_readings where tenant_id = $1 and value = 77 and metadata is null",
        greenhouse.tenant_id,
    )
    await greenhouse.fetch(
        "delete from iot.sensor_readings where tenant_id = $1 and value = 77", greenhouse.tenant_id
    )
    code, text = await reconcile("--tenant", greenhouse.prefix)
    assert code == 1
    assert "DOES NOT ADD UP" in text
    assert f"greenhouse {greenhouse.code} of tenant {greenhouse.prefix}: " in text
    assert "rows are gone that were written" in text


async def test_what_was_skipped_is_stored_though_nothing_follows(
    greenhouse: Greenhouse, database: str, broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    worker = worker_of(greenhouse, database, broker.url, fault="before_puback:1")
    await worker.ready()
    await publish(broker.port, greenhouse.messages(range(1, 2)))
    assert await worker.exit_code() == -9
    successor = worker_of(greenhouse, database, broker.url, client_id=worker.client_id)

    async def stored() -> bool:
        return (await greenhouse.counters(worker.client_id))["skipped"] == 1

    await successor.until(stored, "the skip is stored while nothing else is to be committed")
    await successor.stop()
    expected = Counts(received=2, committed=1, skipped=1, decoded=1, written=1)
    assert await ledger(greenhouse, worker.client_id) == {greenhouse.map_topic: expected}
    assert await greenhouse.counters(worker.client_id) == expected.as_dict()


async def test_a_clock_that_is_off_is_measured_and_named(
    greenhouse: Greenhouse, database: str, broker: Mosquitto, worker_of: WorkerMaker, reconcile: Reconcile
) -> None:
    worker = worker_of(greenhouse, database, broker.url)
    await worker.ready()
    now_s = time.time()

    def reading(number: int, timestamp: float) -> Message:
        body = {"sensor_id": "S1", "value": number, "timestamp": timestamp}
        return Message(greenhouse.topic, json.dumps(body).encode())

    gateway = f"greenhouse/{greenhouse.greenhouse_id}"
    await publish(broker.port, [reading(1, now_s + 200), reading(2, now_s + 200.5), reading(3, 3600)])
    await worker.until(lambda: greenhouse.holds(2), "2 rows")
    await worker.logged("gateway_clock_skew")
    (line,) = worker.events("gateway_clock_skew")
    assert line["gateway"] == gateway
    assert 150 < line["skew_s"] < 201
    assert line["never_set"] == 1
    metrics = await worker.metrics()
    assert 150 < metrics["ingest_clock_skew_seconds"] < 201
    assert metrics["ingest_skewed_gateways"] == 1
    await publish(broker.port, [reading(4, now_s + 900)])

    async def rejected() -> bool:
        return (await greenhouse.counters(worker.client_id))["rejected"] == 2

    await worker.until(rejected, "the reading from the future is rejected")
    await worker.stop()
    _, said = await reconcile("--gateway", gateway, "--json")
    (found,) = said["gateways"]
    assert 800 < found["clock"]["ahead_s"] < 901
    assert (found["clock"]["future"], found["clock"]["unset"], found["clock"]["ancient"]) == (1, 1, 0)
    code, text = await reconcile("--gateway", gateway)
    assert code == 0
    assert "s ahead, 1 in the future, 1 from 1970" in text


async def test_a_gap_fails_only_when_it_is_asked_for(
    greenhouse: Greenhouse, database: str, broker: Mosquitto, worker_of: WorkerMaker, reconcile: Reconcile
) -> None:
    worker = worker_of(greenhouse, database, broker.url)
    await worker.ready()
    start_ms = (int(time.time()) - 3_600) * 1_000
    times = [start_ms + 10_000 * number for number in range(360) if not 100 <= number < 130]
    body = [{"sensor_id": "S1", "sensor_type": "sensor", "value": 1, "timestamp": each} for each in times]
    topic = f"greenhouse/{greenhouse.greenhouse_id}/readings"
    await publish(broker.port, [Message(topic, json.dumps(body).encode())])
    await worker.until(lambda: greenhouse.holds(len(times)), "all rows")
    await worker.stop()
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(start_ms / 1_000))
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(start_ms / 1_000 + 3_600))
    span = ("--since", since, "--until", until, "--tenant", greenhouse.prefix)
    assert (await reconcile(*span))[0] == 0
    code, said = await reconcile(*span, "--max-gaps", "0", "--complete", "99", "--json")
    assert code == 1
    (sensor,) = said["sensors"]
    assert (sensor["readings"], sensor["expected"], sensor["gaps"]) == (330, 360, 1)
    assert [each["seconds"] for each in sensor["longest"]] == [310.0]
    assert any("1 gaps, 0 are allowed" in each for each in said["faults"])
    assert any("330 of 360 readings, 91.67 % where 99 %" in each for each in said["faults"])
    assert (await reconcile(*span, "--max-gaps", "1", "--complete", "91"))[0] == 0
    assert (await reconcile("--since", until, "--until", since))[0] == 2
