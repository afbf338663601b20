"""Everything a broken or hostile gateway sends: each message has its outcome, and both ledgers add up.

The good fields of a bad message are stored; what is refused is a dead letter with its reason; nothing of it
stops the messages around it.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, NamedTuple

from tests.gateways import Message, publish

if TYPE_CHECKING:
    from ingest.model import Reason
    from tests.acceptance.conftest import Greenhouse, WorkerMaker
    from tests.servers import Mosquitto

OVERSIZED = json.dumps({"SENSOR_01": 1, "note": "x" * 300_000}).encode()
FULL_MAP = {f"SENSOR_{number:05}": number for number in range(10_000)}
DEEP = b'{"SENSOR_01": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
DEEPER_THAN_ALLOWED = b'{"SENSOR_01": ' + b"[" * 20 + b"]" * 20 + b"}"


class Case(NamedTuple):
    """A message to a topic below the tenant's, and what becomes of it."""

    payload: bytes
    reasons: tuple[Reason, ...] = ()
    rows: int = 0
    topic: str | None = None
    """None: the tenant's own topic."""
    ignored: bool = False
    nulls: int = 0


CASES = (
    Case(b'{"SENSOR_01": 1', ("bad_payload",)),
    Case(b'{"SENSOR_01": 1}}', ("bad_payload",)),
    Case(OVERSIZED, ("too_large",)),
    Case('{"PRESIÓN": 1}'.encode("latin-1"), ("bad_payload",)),
    Case(DEEP, ("bad_payload",)),
    Case(DEEPER_THAN_ALLOWED, ("bad_payload",)),
    Case(bytes(range(256)), ("bad_payload",)),
    Case(b"\x00", ("bad_payload",)),
    Case(b'"SENSOR_01"', ("bad_payload",)),
    Case(b'{"SENSOR_01": 1, "SENSOR_01": 2}', rows=1),
    Case(b"", ignored=True),
    Case(b"{}"),
    Case(b'{"SENSOR_01": null, "SENSOR_02": 3}', rows=1, nulls=1),
    Case(b'{"SENSOR_01": "warm", "SENSOR_02": NaN, "SENSOR_03": 1e999, "SENSOR_04": {}, "SENSOR_05": 4}',
         ("bad_value",) * 4, rows=1),
    Case(b'{"SENSOR_01": 1' + b"0" * 400 + b', "SENSOR_02": 5}', ("bad_value",), rows=1),
    Case(rb'{"SENSOR_\u0000": 1, "SENSOR_02": 6}', ("bad_value",), rows=1),
    Case(rb'{"SENSOR_\ud800": 1, "SENSOR_02": 7}', ("bad_value",), rows=1),
    Case(b'{"SENSOR_01": 8, "SENSOR 01": 9}', ("key_collision",), rows=1),
    Case(b'{"TEMP_01": 6484.1, "TEMP_02": 20}', ("out_of_range",), rows=1),
    Case(b'{"timestamp": 4294967295, "SENSOR_01": 1}', ("bad_timestamp",)),
    Case(b'{"timestamp": "1970-01-01", "SENSOR_01": 1}', ("bad_timestamp",)),
    Case(b'{"BOMBA": 1}', ("unknown_sensor_type",)),
    Case(json.dumps(FULL_MAP).encode(), rows=10_000),
    Case(json.dumps(FULL_MAP | {"SENSOR_10000": 1}).encode(), ("too_large",)),
    Case(b'{"SENSOR_01": 1}', ("unknown_tenant",), topic="GREENHOUSE/NOBODY"),
    Case(b'{"SENSOR_01": 1}', ("unknown_greenhouse",), topic="GREENHOUSE/{prefix}/NOWHERE"),
    Case(b'{"SENSOR_01": 1}', ("unknown_topic",), topic="GREENHOUSE/{prefix}/a/b"),
    Case(b'{"SENSOR_01": 1}', ("unknown_topic",), topic="GREENHOUSE/"),
    Case(b'{"SENSOR_01": 1}', ("unknown_topic",), topic="GREENHOUSE/{prefix}/"),
    Case(b'{"SENSOR_01": 1}', ("unknown_topic",), topic="GREENHOUSE/ñ/\U0001f331/x"),
    Case(b"1", ("unknown_greenhouse",), topic="greenhouse/00000000-0000-0000-0000-000000000000/sensors/co2"),
    Case(b"1", ("unknown_sensor_type",), topic="greenhouse/{greenhouse}/sensors/flux"),
    Case(b'{"value": 1, "unit": "furlong"}', ("unknown_unit",), topic="greenhouse/{greenhouse}/sensors/co2"),
    Case(b'{"value": 1, "unit": "lux"}', ("unit_mismatch",), topic="greenhouse/{greenhouse}/sensors/co2"),
    Case(b'{"unit": "ppm"}', ("bad_value",), topic="greenhouse/{greenhouse}/sensors/co2"),
    *(Case(b'{"SENSOR_01": 1}', ignored=True, topic=topic)
      for topic in ("GREENHOUSE/RESPONSE", "GREENHOUSE/STATUS", "GREENHOUSE/MOBILE/x", "SYSTEM/x")),
    Case(b'{"SENSOR_01": 10}', rows=1),
)  # fmt: skip

FILTERS = ["greenhouse/+/sensors/+", "greenhouse/+/readings", "GREENHOUSE/#", "SYSTEM/#"]


async def test_each_bad_message_has_its_outcome(
    greenhouse: Greenhouse, database: str, broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    names = {"prefix": greenhouse.prefix, "greenhouse": greenhouse.greenhouse_id}
    topics = [(case.topic or greenhouse.map_topic).format(**names) for case in CASES]
    await publish(broker.port, [Message(greenhouse.map_topic, b'{"SENSOR_01": 99}', retain=True)])
    worker = worker_of(
        greenhouse, database, broker.url, filters=FILTERS, settings={"broker": {"protocol": "3.1.1"}}
    )
    await worker.ready()
    messages = [Message(topic, case.payload) for topic, case in zip(topics, CASES, strict=True)]
    await publish(broker.port, messages)
    received = len(CASES) + 1  # the retained one, which MQTT 3.1.1 cannot refuse

    async def done() -> bool:
        counters = await greenhouse.counters(worker.client_id)
        return counters["committed"] + counters["ignored"] == received

    await worker.until(done, "every message has an outcome")
    letters = await greenhouse.dead_letters(worker.client_id)
    told = [
        (letter["topic"], tuple(each["reason"] for each in json.loads(letter["rejected"])))
        for letter in letters
    ]
    assert told == [(topic, case.reasons) for topic, case in zip(topics, CASES, strict=True) if case.reasons]
    await _ledgers_add_up(greenhouse, worker.client_id, await worker.metrics())
    await worker.stop()
    worker.never_traced_back()
    too_large = next(letter for letter in letters if letter["payload_bytes"] == len(OVERSIZED))
    assert too_large["payload"] == OVERSIZED[:4096]
    assert too_large["payload_sha256"] == hashlib.sha256(OVERSIZED).digest()
    stored = await greenhouse.values()
    assert stored[2.0] >= 1, "of a duplicate key the last value wins"
    assert stored[99.0] == 1, "the full map's; the retained message was ignored"


async def _ledgers_add_up(greenhouse: Greenhouse, client_id: str, metrics: dict[str, float]) -> None:
    ignored = sum(case.ignored for case in CASES) + 1
    rejected = sum(len(case.reasons) for case in CASES)
    written = sum(case.rows for case in CASES)
    nulls = sum(case.nulls for case in CASES)
    assert await greenhouse.counters(client_id) == {
        "received": len(CASES) + 1,
        "committed": len(CASES) + 1 - ignored,
        "skipped": 0,
        "ignored": ignored,
        "decoded": written + rejected + nulls,
        "written": written,
        "duplicate": 0,
        "rejected": rejected,
        "null": nulls,
    }
    assert await greenhouse.count() == written
    for outcome, count in (("committed", len(CASES) + 1 - ignored), ("ignored", ignored), ("skipped", 0)):
        assert metrics[f'ingest_messages_total{{outcome="{outcome}"}}'] == count
    for outcome, count in (("written", written), ("rejected", rejected), ("null", nulls), ("duplicate", 0)):
        assert metrics[f'ingest_readings_total{{outcome="{outcome}"}}'] == count
    by_reason = {
        reason: sum(case.reasons.count(reason) for case in CASES)
        for reason in {reason for case in CASES for reason in case.reasons}
    }
    for reason, count in by_reason.items():
        assert metrics[f'ingest_rejections_total{{reason="{reason}"}}'] == count
    assert metrics["ingest_in_flight_messages"] == 0


async def test_a_name_registered_later_cures_the_next_message_and_the_last(
    greenhouse: Greenhouse, database: str, broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    worker = worker_of(greenhouse, database, broker.url)
    await worker.ready()
    topic = f"GREENHOUSE/{greenhouse.prefix}/NEW"
    await publish(broker.port, [Message(topic, b'{"SENSOR_01": 1}')])

    async def refused() -> bool:
        return len(await greenhouse.dead_letters(worker.client_id)) == 1

    await worker.until(refused, "the unknown greenhouse is a dead letter")
    await greenhouse.fetch(
        "insert into metadata.greenhouses (tenant_id, name, greenhouse_code) values ($1, 'New', 'NEW')",
        greenhouse.tenant_id,
    )
    await worker.logged("catalog_loaded", 2)
    await publish(broker.port, [Message(topic, b'{"SENSOR_01": 2}')])
    await worker.until(lambda: greenhouse.holds(2), "the rows of the registered greenhouse")
    assert await greenhouse.values() == {1.0: 1, 2.0: 1}
    await worker.stop()
