"""Several worker processes under one supervisor: added, retired and killed under load, each message once.

Everything is looked at from outside: the tables, the log, the pages of the supervisor's port, and what the broker
still keeps of a session.
"""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

from tests.acceptance.conftest import Greenhouse
from tests.acceptance.workers import until
from tests.gateways import publish
from tests.mqtt_client import Client

if TYPE_CHECKING:
    from tests.acceptance.conftest import WorkerMaker
    from tests.acceptance.workers import Settings, WorkerProcess
    from tests.servers import Mosquitto

GATEWAYS = 3
COUNT = 12_000


def group_of(count: int, **workers: object) -> Settings:
    return {
        "broker": {"keepalive_s": 5},
        "workers": {"count": count, "orphan_after_s": 2.0, **workers},
        "write": {"retry_max_s": 0.5, "max_batch_rows": 500},
    }


async def greenhouse_at(dsn: str) -> Greenhouse:
    greenhouse = Greenhouse(dsn)
    await greenhouse.register()
    return greenhouse


async def processes_of(greenhouse: Greenhouse, worker: WorkerProcess) -> dict[str, int]:
    """Give the process id of each session, as the journal has it."""
    rows = await greenhouse.fetch(
        "select client_id, process_id from iot.ingest_sessions where client_id like $1",
        f"{worker.client_id}%",
    )
    return {row["client_id"]: row["process_id"] for row in rows}


async def sessions_are(greenhouse: Greenhouse, worker: WorkerProcess, *numbers: int) -> None:
    """Wait until the journal has the sessions of these workers, and no others."""
    wanted = {f"{worker.client_id}-{number}" for number in numbers}

    async def holds() -> bool:
        return set(await processes_of(greenhouse, worker)) == wanted

    await worker.until(holds, f"the sessions are those of {numbers}")


async def ledgers(greenhouse: Greenhouse, worker: WorkerProcess) -> dict[str, int]:
    """Give both ledgers, summed up over every session there ever was."""
    rows = await greenhouse.fetch(
        """
        select counter, sum(value)::bigint as value
        from iot.ingest_counters
        where client_id like $1
        group by counter
        """,
        f"{worker.client_id}%",
    )
    return {row["counter"]: row["value"] for row in rows}


async def is_gone_at(broker: Mosquitto, client_id: str) -> bool:
    """Tell whether the broker knows no such session; it does not afterwards."""
    client = Client(broker.url, "5", {"client_id": client_id, "session_expiry_s": 60})
    opened = await client.connect()
    await client.session.close(1.0)
    return not opened.session_present


async def publish_slowly(greenhouse: Greenhouse, broker: Mosquitto, numbers: range) -> None:
    for start in range(numbers.start, numbers.stop, 200):
        await publish(broker.port, greenhouse.messages(range(start, min(start + 200, numbers.stop))))
        await asyncio.sleep(0.05)


async def test_added_killed_and_retired_while_gateways_publish(
    plain_dsn: str, broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    greenhouse = await greenhouse_at(plain_dsn)
    supervisor = worker_of(greenhouse, plain_dsn, broker.url, settings=group_of(1))
    await supervisor.ready()
    publishing = asyncio.gather(
        *(
            publish_slowly(
                greenhouse, broker, range(COUNT * each // GATEWAYS, COUNT * (each + 1) // GATEWAYS)
            )
            for each in range(GATEWAYS)
        )
    )
    for _ in range(2):
        supervisor.signal(signal.SIGTTIN)
        await asyncio.sleep(0.01)  # two pending signals of a kind are one
    await sessions_are(greenhouse, supervisor, 0, 1, 2)
    await supervisor.ready()
    victim = (await processes_of(greenhouse, supervisor))[f"{supervisor.client_id}-1"]
    os.kill(victim, signal.SIGKILL)
    await supervisor.not_ready_because(f"worker {supervisor.client_id}-1: ended (signal SIGKILL)")
    await supervisor.ready()
    for _ in range(2):
        supervisor.signal(signal.SIGTTOU)
        await asyncio.sleep(0.01)
    await sessions_are(greenhouse, supervisor, 0)
    await publishing
    await supervisor.until(lambda: greenhouse.holds(COUNT), "all readings are stored")
    await supervisor.ready()
    for number in (1, 2):
        assert await is_gone_at(broker, f"{supervisor.client_id}-{number}")
    metrics = await supervisor.metrics()
    assert metrics["ingest_workers"] == 1
    assert metrics["ingest_worker_restarts_total"] == 1
    await supervisor.stop()
    supervisor.never_traced_back()
    await greenhouse.holds_each_once(COUNT)
    counted = await ledgers(greenhouse, supervisor)
    assert counted["written"] == counted["decoded"] == COUNT
    assert counted["received"] == counted["committed"] + counted.get("skipped", 0)
    assert len(supervisor.events("session_ended")) == 2
