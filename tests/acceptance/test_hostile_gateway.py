"""A gateway that floods the broker with rubbish, next to a good one: the good one's readings all land, the
dead letters stay within their budget, and what is past it is counted to the last reading.
"""

from __future__ import annotations

import asyncio
import json
import random
from typing import TYPE_CHECKING

from ingest.model import UNPLACED
from ingest.write.budget import EVERY_OTHER, OWN_TOPICS, SAMPLES_SHARE, TOPICS_OF_A_TENANT
from tests.acceptance.conftest import Greenhouse
from tests.gateways import Message, publish

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.acceptance.conftest import WorkerMaker
    from tests.servers import Mosquitto

GOOD = 3_000
BAD = 12_000
BUDGET = 40
FILTERS = ["greenhouse/+/sensors/+", "greenhouse/+/readings", "GREENHOUSE/#"]


def rubbish(greenhouse: Greenhouse, seeded: random.Random) -> Iterator[Message]:
    """Give BAD messages that lose one reading each, on the gateway's own topic and on invented ones."""
    topics = [
        greenhouse.map_topic,
        f"greenhouse/{greenhouse.greenhouse_id}/sensors/{{0}}",
        f"GREENHOUSE/{greenhouse.prefix}/{{0}}",
        "GREENHOUSE/T{0}",
        "greenhouse/{0}/sensors/co2",
        "GREENHOUSE/{0}/x/y/z",
    ]
    payloads = [b"{", b"\xff", b'{"SENSOR_01": "warm"}', b'{"SENSOR_01": {}}']
    for number in range(BAD):
        yield Message(topics[number % len(topics)].format(seeded.getrandbits(40)), seeded.choice(payloads))


def zeros(greenhouse: Greenhouse, count: int) -> list[Message]:
    """Give messages of 20 KB that lose all but one of 10 000 readings."""
    return [Message(greenhouse.topic, b"[" + b",".join([b"0"] * 10_000) + b"]") for _ in range(count)]


async def test_the_good_gateway_loses_nothing_and_the_disk_is_not_filled(
    greenhouse: Greenhouse, database: str, broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    hostile = await Greenhouse.registered(database)
    seeded = random.Random("seed 20251117")  # noqa: S311 (names of a test)
    worker = worker_of(
        greenhouse,
        database,
        broker.url,
        filters=FILTERS,
        settings={"write": {"dead_letters_per_topic_per_hour": BUDGET}},
    )
    await worker.ready()
    full = zeros(hostile, 10)
    await asyncio.gather(
        publish(broker.port, rubbish(hostile, seeded)),
        publish(broker.port, full),
        publish(broker.port, greenhouse.messages(range(GOOD))),
    )
    received = GOOD + BAD + len(full)

    async def done() -> bool:
        return (await greenhouse.counters(worker.client_id))["committed"] == received

    await worker.until(done, "every message has an outcome")
    await worker.ready()
    metrics = await worker.metrics()
    await worker.stop()
    worker.never_traced_back()
    await greenhouse.holds_each_once(GOOD)
    assert await hostile.count() == len(full)

    counters = await greenhouse.counters(worker.client_id)
    rejected = BAD + len(full) * 9_999
    assert counters == {
        "received": received,
        "committed": received,
        "skipped": 0,
        "ignored": 0,
        "decoded": GOOD + rejected + len(full),
        "written": GOOD + len(full),
        "duplicate": 0,
        "rejected": rejected,
        "null": 0,
    }
    letters = await greenhouse.dead_letters(worker.client_id)
    overflow = await greenhouse.fetch(
        "select * from iot.ingest_dead_letter_overflow where client_id = $1", worker.client_id
    )
    kept = sum(letter["rejected_count"] for letter in letters)
    assert kept + sum(each["readings"] for each in overflow) == rejected

    hours = len({letter["received_at"].replace(minute=0, second=0, microsecond=0) for letter in letters})
    most = hours * BUDGET * (1 + 1 / SAMPLES_SHARE)
    assert 0 < sum(letter["topic"] == hostile.map_topic for letter in letters) <= most
    unplaced = [letter for letter in letters if letter["gateway"] == UNPLACED.name]
    assert {letter["tenant_id"] for letter in unplaced} == {None, hostile.tenant_id}
    assert 0 < len(unplaced) <= most * TOPICS_OF_A_TENANT
    assert 0 < len(letters) - len(unplaced) <= most * TOPICS_OF_A_TENANT
    assert all(len(json.loads(letter["rejected"])) <= 100 for letter in letters)
    assert hostile.map_topic in {each["topic"] for each in overflow}
    assert len({each["topic"] for each in overflow}) <= OWN_TOPICS, "few of those invented"
    assert EVERY_OTHER in {each["topic"] for each in overflow}
    assert metrics['ingest_dead_letters_total{outcome="kept"}'] == len(letters)
    assert metrics['ingest_dead_letters_total{outcome="counted"}'] == BAD + len(full) - len(letters)
    assert worker.events("dead_letters_only_counted")
