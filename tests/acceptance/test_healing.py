"""Hold and heal: a name the catalog lacks costs no reading, whenever and however it is registered."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from ingest import healing
from tests.acceptance.command_line import report
from tests.acceptance.dead_letter_history import History, command_line
from tests.gateways import Message, publish

if TYPE_CHECKING:
    from pathlib import Path

    from tests.acceptance.command_line import CommandLine
    from tests.acceptance.conftest import Greenhouse, WorkerMaker
    from tests.acceptance.workers import WorkerProcess
    from tests.servers import Mosquitto


@pytest.fixture
def ingest(tmp_path: Path, database: str) -> CommandLine:
    return command_line(tmp_path, database)


def unknown_type(greenhouse: Greenhouse, name: str, numbers: range) -> list[Message]:
    """Make readings of a type nobody knows and, in each message, one of a type that is known."""
    return [
        Message(
            f"greenhouse/{greenhouse.greenhouse_id}/readings",
            json.dumps(
                [
                    {"sensor_id": "BAD", "sensor_type": name, "value": number},
                    {"sensor_id": "GOOD", "sensor_type": "sensor", "value": -number - 1},
                ]
            ).encode(),
        )
        for number in numbers
    ]


def told(*workers: WorkerProcess) -> tuple[int, ...]:
    """Sum up what the workers said of healing: letters, and readings written, duplicate, rejected."""
    lines = [line for worker in workers for line in worker.events("dead_letters_healed")]
    return tuple(
        sum(line[name] for line in lines) for name in ("letters", "written", "duplicate", "rejected")
    )


async def healed(greenhouse: Greenhouse, count: int) -> bool:
    letters = await greenhouse.fetchval(
        "select count(*) from iot.ingest_dead_letters where tenant_id = $1", greenhouse.tenant_id
    )
    return letters == 0 and await greenhouse.holds(count)


async def test_an_alias_heals_what_came_before_it(
    greenhouse: Greenhouse, database: str, broker: Mosquitto, worker_of: WorkerMaker, ingest: CommandLine
) -> None:
    worker = worker_of(greenhouse, database, broker.url)
    await worker.ready()
    name = f"flux_{greenhouse.code}"
    count = 300
    await publish(broker.port, unknown_type(greenhouse, name, range(count)))
    await worker.until(lambda: greenhouse.holds(count), "the good fields are stored")
    letters = await greenhouse.dead_letters(worker.client_id)
    assert {tuple(each["missing"]) for each in letters} == {(f"sensor_type * {name.upper()}",)}
    counters = await greenhouse.counters(worker.client_id)
    assert (counters["written"], counters["rejected"]) == (count, count)

    added = ingest("catalog", "add", "alias", "sensor-type", name, "SENSOR")
    assert added.returncode == 0, added.stderr
    await worker.until(lambda: healed(greenhouse, 2 * count), "the lost fields are stored, too")
    await worker.until(lambda: told(worker) == (count, count, 0, 0), "the log says so")
    metrics = await worker.metrics()
    await worker.stop()
    worker.never_traced_back()
    assert metrics["ingest_healed_readings_total"] == count
    assert await greenhouse.counters(worker.client_id) == counters, "the ledgers tell what was at receipt"
    stored = await greenhouse.values()
    assert stored == dict.fromkeys([float(number) for number in range(-count, count)], 1)
    apart = await greenhouse.fetchval(
        """
        select count(*)
        from (
            select time
            from iot.sensor_readings
            where tenant_id = $1
            group by time
            having count(*) <> 2
        ) as odd
        """,
        greenhouse.tenant_id,
    )
    assert apart == 0, "healed fields have the time of their messages"
    account = report(ingest("reconcile", "--tenant", greenhouse.prefix, "--since", "1h", "--json"))
    assert (account["ok"], account["faults"]) == (True, [])
    (rows,) = account["rows"]
    assert (rows["booked"], rows["stored"]) == (2 * count, 2 * count)


async def test_what_was_registered_while_it_was_away_heals_at_the_start(
    greenhouse: Greenhouse, database: str, broker: Mosquitto, worker_of: WorkerMaker, ingest: CommandLine
) -> None:
    worker = worker_of(greenhouse, database, broker.url)
    await worker.ready()
    unit = f"u{greenhouse.code}"
    topic = f"greenhouse/{greenhouse.greenhouse_id}/sensors/sensor"
    await publish(broker.port, [Message(topic, json.dumps({"value": 5, "unit": unit}).encode())])

    async def refused() -> bool:
        return len(await greenhouse.dead_letters(worker.client_id)) == 1

    await worker.until(refused, "the unit is not known")
    await worker.stop()
    assert ingest("catalog", "add", "alias", "unit", unit, "unit").returncode == 0
    worker.start()
    await worker.until(lambda: healed(greenhouse, 1), "it looks at its start")
    await worker.stop()
    assert await greenhouse.values() == {5.0: 1}


async def test_two_workers_heal_each_reading_once(
    greenhouse: Greenhouse, database: str, broker: Mosquitto, worker_of: WorkerMaker, ingest: CommandLine
) -> None:
    count = 1_000
    name = f"flux_{greenhouse.code}"
    first = worker_of(greenhouse, database, broker.url)
    second = worker_of(greenhouse, database, broker.url, filters=[f"other/{greenhouse.code}"])
    await first.ready()
    await second.ready()
    await publish(broker.port, unknown_type(greenhouse, name, range(count)))
    await first.until(lambda: greenhouse.holds(count), "the good fields are stored")
    assert ingest("catalog", "add", "alias", "sensor-type", name, "SENSOR").returncode == 0
    await first.until(lambda: healed(greenhouse, 2 * count), "all are healed")
    await first.until(lambda: told(first, second) == (count, count, 0, 0), "both together healed each once")
    for worker in (first, second):
        await worker.stop()
        worker.never_traced_back()


async def test_a_tenant_and_then_its_greenhouse_heal_step_by_step(
    greenhouse: Greenhouse, database: str, broker: Mosquitto, worker_of: WorkerMaker, ingest: CommandLine
) -> None:
    prefix = f"N{greenhouse.code.upper()}"
    worker = worker_of(greenhouse, database, broker.url, filters=[f"GREENHOUSE/{prefix}"])
    await worker.ready()
    await publish(broker.port, [Message(f"GREENHOUSE/{prefix}", b'{"SENSOR_01": 1, "TEMP_01": 6484}')])

    async def reasons_are(*reasons: str) -> bool:
        letters = await greenhouse.dead_letters(worker.client_id)
        return [each["reasons"] for each in letters] == [list(reasons)]

    await worker.until(lambda: reasons_are("unknown_tenant"), "the tenant is not known")
    assert ingest("catalog", "add", "tenant", "--name", prefix, "--prefix", prefix).returncode == 0
    await worker.until(lambda: reasons_are("ambiguous_greenhouse"), "it has no greenhouse")
    added = ingest("catalog", "add", "greenhouse", "--tenant", prefix, "--code", "01")
    assert added.returncode == 0, added.stderr
    await worker.until(lambda: reasons_are("out_of_range"), "what is wrong in itself stays")
    await worker.stop()
    (left,) = await greenhouse.dead_letters(worker.client_id)
    assert [each["field"] for each in json.loads(left["rejected"])] == ["TEMP_01"]
    assert left["missing"] is None
    stored = await greenhouse.fetch(
        "select value from iot.sensor_readings where tenant_id = $1", left["tenant_id"]
    )
    assert [record["value"] for record in stored] == [1.0]


async def test_killed_while_it_heals(
    greenhouse: Greenhouse, database: str, broker: Mosquitto, worker_of: WorkerMaker, ingest: CommandLine
) -> None:
    count = 2 * healing.PAGE_LETTERS + 100
    name = f"flux_{greenhouse.code}"
    await History(greenhouse, database).store(
        {"value": 1},
        ("", "unknown_sensor_type"),
        topic=f"greenhouse/{greenhouse.greenhouse_id}/sensors/{name}",
        times=count,
        missing=[f"sensor_type * {name.upper()}"],
    )
    worker = worker_of(greenhouse, database, broker.url, fault=f"within_healing:{count - 50}")
    await worker.ready()
    assert ingest("catalog", "add", "alias", "sensor-type", name, "SENSOR").returncode == 0
    assert await worker.exit_code() == -9
    assert await greenhouse.count() == 2 * healing.PAGE_LETTERS, "it was killed within a transaction"
    successor = worker_of(greenhouse, database, broker.url, client_id=worker.client_id)
    await successor.until(lambda: healed(greenhouse, count), "the next one heals the rest")
    await successor.stop()
    assert await greenhouse.values() == {1.0: count}
