"""A message that ends the worker: it is found after some starts, dead-lettered unread, and costs no other."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from ingest.caution import MESSAGES_ALONE, STARTS
from tests.acceptance.conftest import Greenhouse
from tests.gateways import Message, publish

if TYPE_CHECKING:
    from tests.acceptance.conftest import WorkerMaker
    from tests.acceptance.workers import WorkerProcess
    from tests.servers import Mosquitto, PostgresCluster

COUNT = 300
HARMLESS = "no_fault:0"
DEATHS = STARTS + 1
"""The last over the message alone."""


async def deaths_until(worker: WorkerProcess, greenhouse: Greenhouse, count: int) -> int:
    """Start *worker* again and again until *count* rows are stored; give how often that was."""
    deaths = 0
    while True:
        while worker.running:
            if await greenhouse.holds(count):
                return deaths
            await asyncio.sleep(0.1)
        assert await worker.exit_code() != 0, worker.log_text
        deaths += 1
        assert deaths <= 3 * DEATHS, worker.log_text
        worker.start()


@pytest.mark.parametrize("deadly", ["SIGKILL", "STILL", "EXCEPTION"])
async def test_a_message_that_ends_the_worker(
    deadly: str, plain_dsn: str, broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    greenhouse = await Greenhouse.registered(plain_dsn)
    settings: dict[str, dict[str, object]] = {"observe": {"hang_s": 3}, "write": {"max_batch_rows": 50}}
    worker = worker_of(greenhouse, plain_dsn, broker.url, settings=settings, fault=HARMLESS)
    await worker.ready()
    await worker.stop()
    messages = greenhouse.messages(range(COUNT))
    poison = Message(greenhouse.map_topic, json.dumps({"SENSOR_01": -1, "note": deadly}).encode())
    messages.insert(COUNT // 3, poison)
    await publish(broker.port, messages)
    worker.start()
    # The first does not count where it had committed what came before.
    assert await deaths_until(worker, greenhouse, COUNT) in {DEATHS, DEATHS + 1}
    assert worker.events("careful_start")
    await worker.ready()
    await worker.stop()
    await greenhouse.holds_each_once(COUNT)
    (letter,) = await greenhouse.dead_letters(worker.client_id)
    assert (letter["topic"], letter["payload"]) == poison[:2]
    assert letter["tenant_id"] == greenhouse.tenant_id
    (rejected,) = json.loads(letter["rejected"])
    assert rejected["reason"] == "poison"
    assert rejected["detail"].startswith(f"{DEATHS} workers in a row")
    counters = await greenhouse.counters(worker.client_id)
    assert counters["received"] == counters["committed"] + counters["skipped"]
    assert (counters["committed"], counters["written"], counters["rejected"]) == (COUNT + 1, COUNT, 1)


async def test_caution_ends_and_the_next_such_message_costs_one_start(
    plain_dsn: str, broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    greenhouse = await Greenhouse.registered(plain_dsn)
    worker = worker_of(greenhouse, plain_dsn, broker.url, fault=HARMLESS)
    await worker.ready()
    await worker.stop()
    poison = [
        Message(greenhouse.map_topic, json.dumps({"SENSOR_01": -at, "note": "SIGKILL"}).encode())
        for at in range(2)
    ]
    first, second = (greenhouse.messages(range(at, at + 300)) for at in (0, 300))
    third = greenhouse.messages(range(600, 600 + MESSAGES_ALONE))
    count = 600 + MESSAGES_ALONE
    await publish(broker.port, [*first, poison[0], *second, poison[1], poison[0], poison[1], *third])
    worker.start()
    assert await deaths_until(worker, greenhouse, count) in {DEATHS + 1, DEATHS + 2}
    await publish(broker.port, greenhouse.messages(range(count, count + 2)))  # fresh ones
    await worker.until(lambda: greenhouse.holds(count + 2), "the fresh ones are stored")
    assert worker.events("careful_no_more")
    assert await unfinished_starts(greenhouse, worker) == 0
    await worker.stop()
    await greenhouse.holds_each_once(count + 2)
    letters = await greenhouse.dead_letters(worker.client_id)
    assert [letter["payload"] for letter in letters] == [each.payload for each in (*poison, *poison)]
    assert {reason for letter in letters for reason in letter["reasons"]} == {"poison"}


async def unfinished_starts(greenhouse: Greenhouse, worker: WorkerProcess) -> int:
    (session,) = await greenhouse.fetch(
        "select unfinished_starts, suspect from iot.ingest_sessions where client_id = $1", worker.client_id
    )
    assert session["suspect"] is None
    return int(session["unfinished_starts"])


async def test_what_is_no_reason_for_caution(
    cluster: tuple[PostgresCluster, str], broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    server, dsn = cluster
    greenhouse = await Greenhouse.registered(dsn)
    worker = worker_of(greenhouse, dsn, broker.url)
    for _ in range(STARTS + 1):  # orderly ends
        await worker.ready()
        assert await unfinished_starts(greenhouse, worker) == 1
        await worker.stop()
        assert await unfinished_starts(greenhouse, worker) == 0
        worker.start()
    await worker.ready()
    for _ in range(STARTS + 1):  # connections lost to both servers
        connections = len(worker.events("broker_connected"))
        await asyncio.to_thread(server.restart)
        await asyncio.to_thread(broker.restart)
        await worker.logged("broker_connected", connections + 1)
    assert await unfinished_starts(greenhouse, worker) == 1
    for _ in range(STARTS + 1):  # sessions taken over
        successor = worker_of(greenhouse, dsn, broker.url, client_id=worker.client_id)
        await successor.ready()
        await publish(broker.port, greenhouse.messages(range(1)))
        assert await worker.exit_code() == 2
        worker = successor
    await worker.stop()
    assert await unfinished_starts(greenhouse, worker) == 0
