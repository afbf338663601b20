"""A database that takes no batch whole: it gets parts, each acknowledged by itself, and none twice."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import asyncpg
import pytest

from ingest.write.attempts import TRIES_ALONE
from tests.acceptance.held_batch import arrive_behind_the_first
from tests.gateways import publish
from tests.statements import execute

if TYPE_CHECKING:
    from tests.acceptance.conftest import Greenhouse, WorkerMaker
    from tests.servers import Mosquitto

pytestmark = pytest.mark.usefixtures("plain_dsn")

COUNT = 300
IMPATIENT: dict[str, dict[str, object]] = {"write": {"commit_timeout_s": 0.7, "retry_max_s": 0.1}}
TRIGGER = """
create function iot.meet() returns trigger language plpgsql as $$
begin
    {body}
    return new;
end $$;
create trigger meet before insert on iot.sensor_readings for each row execute function iot.meet();
"""


async def every_row_meets(dsn: str, body: str) -> None:
    """Have a trigger do *body* for each row."""
    await execute(dsn, TRIGGER.format(body=body))


@pytest.mark.parametrize("killed", [False, True], ids=["left alone", "killed in between"])
async def test_a_batch_too_large_for_the_deadline(
    *, killed: bool, greenhouse: Greenhouse, broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    await every_row_meets(greenhouse.dsn, "perform pg_sleep(0.006);")
    worker = worker_of(greenhouse, greenhouse.dsn, broker.url, settings=IMPATIENT)
    await worker.ready()
    # But for the first, all are one batch; the parts that the deadline admits are a third of it at most.
    await arrive_behind_the_first(worker, greenhouse, broker, greenhouse.messages(range(COUNT)))
    await worker.logged("batch_refused")
    if killed:
        await worker.until(lambda: greenhouse.holds(2), "a part is committed")
        worker.kill9()
        worker.start()
    await worker.until(lambda: greenhouse.holds(COUNT), "all readings are stored")
    await worker.ready()
    await worker.stop()
    await greenhouse.holds_each_once(COUNT)
    counters = await greenhouse.counters(worker.client_id)
    assert counters["received"] == counters["committed"] + counters["skipped"]
    assert (counters["committed"], counters["written"]) == (COUNT, COUNT)
    worker.never_traced_back()


async def test_a_message_that_the_server_does_not_survive(
    greenhouse: Greenhouse, broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    await every_row_meets(
        greenhouse.dsn, "if new.value = 17 then perform pg_terminate_backend(pg_backend_pid()); end if;"
    )
    worker = worker_of(greenhouse, greenhouse.dsn, broker.url, settings={"write": {"retry_max_s": 0.1}})
    await worker.ready()
    await publish(broker.port, greenhouse.messages(range(40)))

    async def told() -> bool:
        return bool(await greenhouse.dead_letters(worker.client_id))

    await worker.until(told, "the message is a dead letter")
    await worker.until(lambda: greenhouse.holds(39), "the others are stored")
    await worker.stop()
    (letter,) = await greenhouse.dead_letters(worker.client_id)
    assert json.loads(letter["payload"])["SENSOR_01"] == 17
    assert letter["tenant_id"] == greenhouse.tenant_id
    (rejected,) = json.loads(letter["rejected"])
    assert rejected["reason"] == "database_refused"
    assert rejected["detail"].startswith("10 attempts ended with: ")
    assert rejected["detail"].endswith("(SQLSTATE 08003)")  # the driver's words depend on where it was
    assert sorted(await greenhouse.values()) == [float(number) for number in range(40) if number != 17]
    counters = await greenhouse.counters(worker.client_id)
    assert (counters["committed"], counters["written"], counters["rejected"]) == (40, 39, 1)


async def test_a_lock_that_is_held_for_long_is_waited_for(
    greenhouse: Greenhouse, broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    impatient: dict[str, dict[str, object]] = {"write": {"commit_timeout_s": 0.2, "retry_max_s": 0.1}}
    worker = worker_of(greenhouse, greenhouse.dsn, broker.url, settings=impatient)
    await worker.ready()
    connection = await asyncpg.connect(greenhouse.dsn)
    async with connection.transaction():
        await connection.execute("lock table iot.sensor_readings")
        await publish(broker.port, greenhouse.messages(range(20)))

        async def alone() -> bool:
            metrics = await worker.metrics()
            return metrics['ingest_batches_total{result="retried"}'] >= 2 * TRIES_ALONE

        await worker.until(alone, "the first message has been tried alone")
    await connection.close()
    await worker.until(lambda: greenhouse.holds(20), "all readings are stored")
    await worker.stop()
    await greenhouse.holds_each_once(20)
    assert not await greenhouse.dead_letters(worker.client_id)
