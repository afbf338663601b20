"""Two tenants, one worker: what one tries against the other does not arrive there, and blocks nothing.

The topic decides whose a message is, the catalog checks it; ids inside a payload decide nothing. The
attacker here may publish to the topics of its own login; that the broker holds it to those is tested in
tests/integration/test_deploy_mosquitto.py.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID, uuid4, uuid5

from ingest.resolve.names import derived_sensor_id
from tests.acceptance.conftest import Greenhouse
from tests.gateways import Message, publish

if TYPE_CHECKING:
    from ingest.model import Reason
    from tests.acceptance.conftest import WorkerMaker
    from tests.servers import Mosquitto

FORGED = 666.0
TRUE = 20.0
REGISTERED, UNREGISTERED, CODE, LABEL = uuid4(), uuid4(), "ESP32-7", "SENSOR_01"
FILTERS = ["greenhouse/+/sensors/+", "greenhouse/+/readings", "GREENHOUSE/#"]


class Attempt(NamedTuple):
    """A message of the attacker, and why it is refused; None: it is stored, in the attacker's greenhouse."""

    topic: str
    payload: object
    reason: Reason | None


def attempts(victim: Greenhouse, attacker: Greenhouse, number: str, time_ms: int) -> list[Attempt]:
    """Give everything one tenant can send to be taken for the other, at the victim's own times."""
    own = attacker.topic
    own_map, own_batch = attacker.map_topic, f"greenhouse/{attacker.greenhouse_id}/readings"
    prefix = victim.prefix

    def reading(sensor: object) -> dict[str, object]:
        return {"sensor_id": str(sensor), "value": FORGED, "timestamp": time_ms}

    forged_ids = {
        "greenhouseId": str(victim.greenhouse_id),
        "tenantId": str(victim.tenant_id),
        "greenhouse_id": str(victim.greenhouse_id),
        "tenant_id": str(victim.tenant_id),
    }
    envelope = {"greenhouseId": str(victim.greenhouse_id), "tenantId": str(victim.tenant_id)}
    labels = {LABEL: FORGED, "timestamp": time_ms}
    return [
        # the victim's sensors, by id
        Attempt(own, reading(REGISTERED), "foreign_sensor"),
        Attempt(own, reading(str(REGISTERED).upper()), "foreign_sensor"),
        Attempt(own, reading(UNREGISTERED), None),
        Attempt(own, reading(derived_sensor_id(victim.greenhouse_id, CODE)), None),
        Attempt(own, reading(derived_sensor_id(victim.greenhouse_id, LABEL)), None),
        Attempt(own, reading(derived_sensor_id(victim.greenhouse_id, "sensor")), None),
        Attempt(own, reading(CODE), None),
        Attempt(own, reading("PROBE"), None),  # the registered sensor's code
        Attempt(own, reading(victim.greenhouse_id), None),
        # ids beside a reading
        Attempt(own, reading("A") | forged_ids | {"metadata": forged_ids}, None),
        Attempt(own_batch, {**forged_ids, "readings": [reading("B") | {"sensor_type": "SENSOR"}]}, None),
        Attempt(own_map, labels | envelope, None),
        # the victim's greenhouse and its labels under the attacker's prefix
        Attempt(f"{own_map}/{victim.greenhouse_id}", labels, "unknown_greenhouse"),
        Attempt(f"{own_map}/{victim.code}", labels, "unknown_greenhouse"),
        Attempt(f"{own_map}/{number}", labels, "unknown_greenhouse"),
        Attempt(own_map, {f"TEMP INVERNADERO {number}": TRUE, "timestamp": time_ms}, "ambiguous_greenhouse"),
        # names that look like the victim's
        Attempt(f"greenhouse/{victim.code.lower()}/sensors/sensor", FORGED, "unknown_greenhouse"),
        Attempt(f"greenhouse/ {victim.code}/sensors/sensor", FORGED, "unknown_greenhouse"),
        Attempt(f"greenhouse/{victim.code}\u200b/sensors/sensor", FORGED, "unknown_greenhouse"),
        Attempt(f"greenhouse/{{{victim.greenhouse_id}}}/sensors/sensor", FORGED, "unknown_greenhouse"),
        Attempt(f"greenhouse/{victim.greenhouse_id.hex}/sensors/sensor", FORGED, "unknown_greenhouse"),
        Attempt(f"greenhouse/urn:uuid:{victim.greenhouse_id}/sensors/sensor", FORGED, "unknown_greenhouse"),
        Attempt(f"GREENHOUSE/{prefix.lower()}", labels, "unknown_topic"),
        Attempt(f"GREENHOUSE/{prefix} ", labels, "unknown_topic"),
        Attempt(f"GREENHOUSE/ {prefix}", labels, "unknown_topic"),
        Attempt(f"GREENHOUSE/{prefix}\u00a0", labels, "unknown_topic"),
        Attempt(f"GREENHOUSE/{prefix}\u200b", labels, "unknown_topic"),
        Attempt(f"GREENHOUSE/\uff34{prefix[1:]}", labels, "unknown_topic"),  # a fullwidth T
        Attempt(f"GREENHOUSE/\u0422{prefix[1:]}", labels, "unknown_topic"),  # a Cyrillic one
        Attempt(f"GREENHOUSE//{prefix}", labels, "unknown_topic"),
        Attempt(f"GREENHOUSE/{prefix}/", labels, "unknown_topic"),
    ]


async def register(house: Greenhouse, number: str) -> UUID:
    """Add a second greenhouse, named as labels name one, and a sensor to the first."""
    await house.fetch(
        "insert into metadata.greenhouses (tenant_id, name, greenhouse_code) values ($1, 'Second', $2)",
        house.tenant_id,
        number,
    )
    await house.fetch(
        "insert into metadata.sensors (id, greenhouse_id, tenant_id, sensor_code, sensor_type, unit)"
        " values ($1, $2, $3, 'PROBE', 'SENSOR', 'unit')",
        REGISTERED,
        house.greenhouse_id,
        house.tenant_id,
    )
    return REGISTERED


def own_messages(victim: Greenhouse, time_ms: int) -> list[Message]:
    """Give the victim's readings: with the keys that the attacker has used before it."""
    sensors = (str(REGISTERED), str(UNREGISTERED), CODE, str(victim.greenhouse_id), "A", None)
    readings = [{"sensor_id": name, "value": TRUE, "timestamp": time_ms} for name in sensors]
    labels = {LABEL: TRUE, "timestamp": time_ms}
    return [
        *(Message(victim.topic, json.dumps(each).encode()) for each in readings),
        Message(f"{victim.map_topic}/{victim.code}", json.dumps(labels).encode()),
    ]


async def test_nothing_of_one_tenant_arrives_at_another_or_blocks_it(
    greenhouse: Greenhouse, database: str, broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    victim, attacker = greenhouse, Greenhouse(database)
    number = "77"
    await register(victim, number)
    await attacker.register()
    worker = worker_of(victim, database, broker.url, filters=FILTERS)
    await worker.ready()
    time_ms = time.time_ns() // 1_000_000 - 60_000
    tried = attempts(victim, attacker, number, time_ms)
    await publish(broker.port, [Message(each.topic, json.dumps(each.payload).encode()) for each in tried])
    own = own_messages(victim, time_ms)
    await publish(broker.port, own)

    async def all_committed() -> bool:
        return (await victim.counters(worker.client_id))["committed"] == len(tried) + len(own)

    await worker.until(all_committed, "every message is committed")
    rows = await victim.fetch(
        "select value, greenhouse_id, sensor_id from iot.sensor_readings where tenant_id = $1",
        victim.tenant_id,
    )
    assert [row["value"] for row in rows] == [TRUE] * len(own)
    assert {row["greenhouse_id"] for row in rows} == {victim.greenhouse_id}
    assert {row["sensor_id"] for row in rows} == {
        REGISTERED,
        UNREGISTERED,
        victim.greenhouse_id,
        *(uuid5(victim.greenhouse_id, name) for name in ("esp32_7", "a", "sensor", "sensor_01")),
    }
    theirs = await attacker.fetch(
        "select value, greenhouse_id from iot.sensor_readings where tenant_id = $1", attacker.tenant_id
    )
    assert len(theirs) == sum(each.reason is None for each in tried)
    assert {tuple(row) for row in theirs} == {(FORGED, attacker.greenhouse_id)}
    letters = await victim.dead_letters(worker.client_id)
    assert [(letter["topic"], letter["reasons"]) for letter in letters] == [
        (each.topic, [each.reason]) for each in tried if each.reason is not None
    ]
    assert victim.tenant_id not in {letter["tenant_id"] for letter in letters}
    await worker.stop()


async def test_who_may_publish_for_a_greenhouse_can_spoil_its_readings_and_they_are_kept(
    greenhouse: Greenhouse, database: str, broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    """What remains possible: within a greenhouse a login is believed, and the first value of a key stays."""
    worker = worker_of(greenhouse, database, broker.url)
    await worker.ready()
    time_ms = time.time_ns() // 1_000_000
    await publish(
        broker.port,
        [
            Message(
                greenhouse.topic,
                json.dumps({"sensor_id": CODE, "value": value, "timestamp": time_ms}).encode(),
            )
            for value in (FORGED, TRUE)
        ],
    )

    async def refused() -> bool:
        return len(await greenhouse.dead_letters(worker.client_id)) == 1

    await worker.until(refused, "the later value is a dead letter")
    (letter,) = await greenhouse.dead_letters(worker.client_id)
    assert letter["reasons"] == ["conflicting_value"]
    assert json.loads(letter["payload"])["value"] == TRUE
    assert list(await greenhouse.values()) == [FORGED]
    await worker.stop()
