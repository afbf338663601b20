"""kill -9 at each moment of a transaction and of a shutdown: the successor finds each reading once.

On PostgreSQL, whose server sees a COPY end in the middle of its rows. Between COMMIT and the proof of its
PUBACKs, and at random moments, workers are killed in test_kill.py.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.gateways import Message, publish

if TYPE_CHECKING:
    from tests.acceptance.conftest import Greenhouse, WorkerMaker
    from tests.acceptance.workers import WorkerProcess
    from tests.servers import Mosquitto

COUNT = 2_000
SMALL_BATCHES: dict[str, dict[str, object]] = {"write": {"max_batch_rows": 200}}
BAD = 10
"""Messages whose only field is a dead letter, spread over the batches."""


def messages(greenhouse: Greenhouse) -> list[Message]:
    made = greenhouse.messages(range(COUNT))
    for number in range(BAD):
        made.insert(number * COUNT // BAD, Message(greenhouse.topic, b'{"value": "bad %d"}' % number))
    return made


async def each_once(
    worker: WorkerProcess,
    greenhouse: Greenhouse,
    dsn: str,
    broker: Mosquitto,
    worker_of: WorkerMaker,
) -> WorkerProcess:
    """Start a successor of a killed *worker*, let it finish, and expect each row and letter once."""
    successor = worker_of(greenhouse, dsn, broker.url, client_id=worker.client_id, settings=SMALL_BATCHES)
    await successor.ready()
    await publish(broker.port, [Message(greenhouse.topic, b"%d" % COUNT)])  # behind whatever was left
    await successor.until(lambda: greenhouse.holds(COUNT + 1), "all readings are stored")
    await successor.stop()
    await greenhouse.holds_each_once(COUNT + 1)
    letters = await greenhouse.dead_letters(worker.client_id)
    assert sorted(letter["payload"] for letter in letters) == sorted(
        b'{"value": "bad %d"}' % number for number in range(BAD)
    )
    counters = await greenhouse.counters(worker.client_id)
    assert counters["written"] == COUNT + 1
    assert counters["rejected"] == BAD
    assert counters["received"] == counters["committed"] + counters["skipped"]
    assert counters["decoded"] == counters["written"] + counters["rejected"] + counters["duplicate"]
    return successor


@pytest.mark.parametrize(
    ("fault", "committed"),
    [
        ("before_copy:3", False),
        ("half_of_copy:3", False),
        ("before_journal:3", False),
        ("before_commit:3", False),
        ("commit_sent:3", True),
        ("before_puback:3", True),
        ("half_of_pubacks:3", True),
    ],
)
async def test_killed_within_a_batch(
    fault: str,
    *,
    committed: bool,
    greenhouse: Greenhouse,
    plain_dsn: str,
    broker: Mosquitto,
    worker_of: WorkerMaker,
) -> None:
    worker = worker_of(greenhouse, plain_dsn, broker.url, settings=SMALL_BATCHES, fault=fault)
    await worker.ready()
    await publish(broker.port, messages(greenhouse))
    assert await worker.exit_code() == -9
    successor = await each_once(worker, greenhouse, plain_dsn, broker, worker_of)
    if committed:  # else too, where the broker had not read the PUBACKs of the batch before
        assert successor.events("redelivery_skipped")


@pytest.mark.parametrize(
    "fault",
    [
        "leaving_undrained:1",
        "leaving_unproved:1",
        "leaving_connected:1",
        "leaving_disconnected:1",
        "leaving_forgotten:1",
    ],
)
async def test_killed_while_leaving(
    fault: str, greenhouse: Greenhouse, plain_dsn: str, broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    worker = worker_of(greenhouse, plain_dsn, broker.url, settings=SMALL_BATCHES, fault=fault)
    await worker.ready()
    publishing = asyncio.create_task(publish(broker.port, messages(greenhouse)))
    await worker.until(lambda: greenhouse.holds(1), "the first rows are stored")
    worker.signal()
    assert await worker.exit_code() == -9
    assert worker.events("worker_stopping")
    await publishing
    await each_once(worker, greenhouse, plain_dsn, broker, worker_of)
