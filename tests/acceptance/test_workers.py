"""Several worker processes under one supervisor: added, retired and killed under load, each message once.

Everything is looked at from outside: the tables, the log, the pages of the supervisor's port, and what the
broker still keeps of a session.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg

from ingest.workers.order import EXIT_UNENDED
from tests.acceptance.conftest import Greenhouse
from tests.acceptance.workers import WorkerProcess
from tests.gateways import publish
from tests.mqtt_client import Client
from tests.scripted_broker import ScriptedBroker
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.acceptance.conftest import WorkerMaker
    from tests.acceptance.workers import Settings
    from tests.servers import Mosquitto

GATEWAYS = 3
ORPHAN_AFTER_S = 1.0


def group_of(count: int, **workers: object) -> Settings:
    return {
        "broker": {"keepalive_s": 5},
        "workers": {"count": count, "orphan_after_s": ORPHAN_AFTER_S, **workers},
        "write": {"retry_max_s": 0.5, "max_batch_rows": 500},
    }


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


async def publish_until(
    enough: asyncio.Event, greenhouse: Greenhouse, broker: Mosquitto, starts: Iterator[int]
) -> None:
    """Publish fifty messages at a time, numbered from the next of *starts*, until there are *enough*."""
    while not enough.is_set():
        start = next(starts)
        await publish(broker.port, greenhouse.messages(range(start, start + 50)))
        await asyncio.sleep(0.05)


async def test_added_killed_and_retired_while_gateways_publish(
    plain_dsn: str, broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    greenhouse = await Greenhouse.registered(plain_dsn)
    supervisor = worker_of(greenhouse, plain_dsn, broker.url, settings=group_of(1))
    await supervisor.ready()
    enough, starts = asyncio.Event(), itertools.count(0, 50)
    gateways = [publish_until(enough, greenhouse, broker, starts) for _ in range(GATEWAYS)]
    publishing = asyncio.gather(*gateways)
    for times in (1, 2):
        supervisor.signal(signal.SIGTTIN)
        await supervisor.logged("workers_wanted", times)  # two pending signals of a kind are one
    await sessions_are(greenhouse, supervisor, 0, 1, 2)
    await supervisor.ready()
    session = f"{supervisor.client_id}-1"
    victim = (await processes_of(greenhouse, supervisor))[session]
    os.kill(victim, signal.SIGKILL)

    async def is_replaced() -> bool:
        return (await processes_of(greenhouse, supervisor))[session] != victim

    await supervisor.until(is_replaced, "the killed worker has a successor")
    (ended,) = supervisor.events("worker_process_ended")
    assert (ended["level"], ended["worker"], ended["signal"]) == ("error", session, "SIGKILL")
    await supervisor.ready()
    for times in (3, 4):
        supervisor.signal(signal.SIGTTOU)
        await supervisor.logged("workers_wanted", times)
    await sessions_are(greenhouse, supervisor, 0)
    assert not publishing.done()
    enough.set()
    await publishing
    count = next(starts)
    await supervisor.until(lambda: greenhouse.holds(count), "all readings are stored")
    await supervisor.ready()
    await supervisor.logged("session_retired", 2)
    for number in (1, 2):
        assert await is_gone_at(broker, f"{supervisor.client_id}-{number}")
    metrics = await supervisor.metrics()
    assert metrics["ingest_workers"] == 1
    assert metrics["ingest_worker_restarts_total"] == 1
    await supervisor.stop()
    supervisor.never_traced_back()
    await greenhouse.holds_each_once(count)
    counted = await ledgers(greenhouse, supervisor)
    assert counted["written"] == counted["decoded"] == count
    assert counted["received"] == counted["committed"] + counted.get("skipped", 0)
    assert len(supervisor.events("session_ended")) == 2
    assert {line["worker"] for line in supervisor.events("worker_stopped")} == {
        f"{supervisor.client_id}-{number}" for number in range(3)
    }


async def test_fewer_after_a_restart_take_over_what_the_others_had(
    plain_dsn: str, broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    greenhouse = await Greenhouse.registered(plain_dsn)
    three = worker_of(greenhouse, plain_dsn, broker.url, settings=group_of(3))
    await three.ready()
    # Most readings go to two of them at once. Where the batch of one waits for a key of the other's, and the
    # other for one of its own, the database refuses one of them, which then tries again.
    timed = greenhouse.messages(range(0, 4_000, 2))
    await asyncio.gather(publish(broker.port, timed), publish(broker.port, timed[::-1]))

    async def all_is_on_the_page() -> bool:
        metrics = await three.metrics()
        found = [metrics[f'ingest_readings_total{{outcome="{each}"}}'] for each in ("written", "duplicate")]
        return found == [2_000, 2_000] and metrics["ingest_workers"] == 3

    await three.until(all_is_on_the_page, "the page has what every worker did")
    await publish(broker.port, greenhouse.messages(range(1, 4_000, 2)))
    await three.until(lambda: greenhouse.holds(4_000), "4 000 rows")
    processes = await processes_of(greenhouse, three)
    three.signal(signal.SIGTERM)
    for process in processes.values():  # systemd asks every process of the unit
        os.kill(process, signal.SIGTERM)
    assert await three.exit_code() == 0
    assert len(three.events("worker_stopped")) == 3
    unproved = await greenhouse.fetchval("select sum(octet_length(pending)) from iot.ingest_sessions")
    assert unproved == 0, "each of them drained"
    await publish(broker.port, greenhouse.messages(range(4_000, 5_200)))  # two thirds for who is gone
    one = worker_of(greenhouse, plain_dsn, broker.url, client_id=three.client_id, settings=group_of(1))
    await sessions_are(greenhouse, one, 0)
    await one.logged("session_retired", 2)
    await one.ready()
    assert await greenhouse.count() == 5_200
    for number in (1, 2):
        assert await is_gone_at(broker, f"{one.client_id}-{number}")
    await publish(broker.port, greenhouse.messages(range(5_200, 5_400)))
    await one.until(lambda: greenhouse.holds(5_400), "the one gets everything")
    await one.stop()
    for each in (three, one):
        each.never_traced_back()
    await greenhouse.holds_each_once(5_400)


async def test_an_owner_that_returns_while_its_session_is_being_emptied(
    plain_dsn: str, broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    """Two hosts of one group: one is switched off, the other adopts its session, and then it is back."""
    greenhouse = await Greenhouse.registered(plain_dsn)
    settings = group_of(1, group="greenhouses")
    here = worker_of(greenhouse, plain_dsn, broker.url, settings=settings)
    there = worker_of(greenhouse, plain_dsn, broker.url, settings=settings)
    await here.ready()
    await there.ready()
    session = f"{there.client_id}-0"
    killed_at = datetime.now(UTC)
    os.kill((await processes_of(greenhouse, there))[session], signal.SIGKILL)
    there.kill9()
    connection = await asyncpg.connect(plain_dsn)
    async with connection.transaction():
        await connection.execute("lock table iot.sensor_readings")
        await publish(broker.port, greenhouse.messages(range(2_000)))
        await here.logged("session_adopted")
        adopted = here.events("session_adopted")[0]
        assert adopted["client_id"] == session
        waited = datetime.fromisoformat(adopted["timestamp"]) - killed_at
        assert waited > timedelta(seconds=ORPHAN_AFTER_S), "it might have been starting again"

        async def is_emptied() -> bool:
            started = here.events("worker_process_started")
            return bool((await processes_of(greenhouse, there))[session] == started[-1]["process_id"])

        await here.until(is_emptied, "the adopter has claimed the session")
        there.start()
        await there.ready()
    await connection.close()
    await here.logged("session_left_alone")
    await here.until(lambda: greenhouse.holds(2_000), "all readings are stored")
    await publish(broker.port, greenhouse.messages(range(2_000, 2_400)))
    await here.until(lambda: greenhouse.holds(2_400), "both go on")
    assert set(await processes_of(greenhouse, there)) == {session}
    for each in (here, there):
        await each.ready()
        await each.stop()
        each.never_traced_back()
    await greenhouse.holds_each_once(2_400)
    assert not here.events("session_ended")


async def test_a_process_stopped_before_its_session_is_empty_has_a_successor(
    plain_dsn: str, broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    greenhouse = await Greenhouse.registered(plain_dsn)
    settings = group_of(2)
    settings["write"]["drain_timeout_s"] = 0.5
    two = worker_of(greenhouse, plain_dsn, broker.url, settings=settings)
    await two.ready()
    await two.stop()
    await publish(broker.port, greenhouse.messages(range(400)))  # half of them for who is gone
    connection = await asyncpg.connect(plain_dsn)
    async with connection.transaction():
        await connection.execute("lock table iot.sensor_readings")
        settings["workers"]["count"] = 1
        one = worker_of(greenhouse, plain_dsn, broker.url, client_id=two.client_id, settings=settings)
        await one.logged("session_adopted")

        async def is_being_emptied() -> bool:
            started = one.events("worker_process_started")[-1]
            processes = await processes_of(greenhouse, one)
            return bool(started["ending"] and processes[started["worker"]] == started["process_id"])

        await one.until(is_being_emptied, "a process has claimed the session")
        os.kill(one.events("worker_process_started")[-1]["process_id"], signal.SIGTERM)
        await one.logged("worker_process_ended")
    await connection.close()
    await one.logged("session_retired")
    assert one.events("worker_process_ended")[0]["exit_code"] == EXIT_UNENDED
    assert len(one.events("session_ended")) == len(one.events("session_retired")) == 1
    await sessions_are(greenhouse, one, 0)
    await one.until(lambda: greenhouse.holds(400), "all readings are stored")
    await one.stop()
    one.never_traced_back()
    await greenhouse.holds_each_once(400)


async def test_one_worker_becomes_several_and_they_outlive_no_supervisor(
    plain_dsn: str, broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    greenhouse = await Greenhouse.registered(plain_dsn)
    alone = worker_of(greenhouse, plain_dsn, broker.url)
    await alone.ready()
    await alone.stop()
    await publish(broker.port, greenhouse.messages(range(500)))
    several = worker_of(greenhouse, plain_dsn, broker.url, client_id=alone.client_id, settings=group_of(2))
    await sessions_are(greenhouse, several, 0, 1)
    await several.logged("session_retired")
    await several.ready()
    await publish(broker.port, greenhouse.messages(range(500, 1_000)))
    await several.until(lambda: greenhouse.holds(1_000), "all readings are stored")
    assert await is_gone_at(broker, alone.client_id)
    processes = await processes_of(greenhouse, several)
    several.kill9()
    await until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in processes.values()), "they leave")
    assert len(several.events("worker_stopped")) == 4  # of one session two: it worked, and it was ended
    several.never_traced_back()
    await greenhouse.holds_each_once(1_000)


async def test_a_wrong_configuration_of_a_worker_ends_them_all(
    plain_dsn: str, broker: Mosquitto, tmp_path: Path
) -> None:
    greenhouse = await Greenhouse.registered(plain_dsn)
    await greenhouse.fetch(
        """
        insert into iot.ingest_sessions (client_id, share_group, clock_slot)
        select 'other-' || slot, 'full', slot
        from generate_series(0, 15) as slot
        """
    )
    with WorkerProcess(
        tmp_path,
        broker_url=broker.url,
        dsn=plain_dsn,
        filters=greenhouse.filters,
        settings={"workers": {"group": "full"}},
        arguments=["--workers", "2"],
    ) as supervisor:
        assert await supervisor.exit_code() == 2
        assert supervisor.events("supervisor_started")[0]["workers"] == 2
        assert "workers.group: 'full' has 16 sessions, and can have no more" in supervisor.log_text
        supervisor.never_traced_back()


async def test_a_broker_without_shared_subscriptions_is_refused_loudly(
    plain_dsn: str, worker_of: WorkerMaker
) -> None:
    greenhouse = await Greenhouse.registered(plain_dsn)
    unavailable = b"\x20\x05\x00\x00\x02\x2a\x00"  # CONNACK with Shared Subscription Available 0
    async with ScriptedBroker(mqtt5=True, connack=unavailable) as broker:
        supervisor = worker_of(greenhouse, plain_dsn, broker.url, settings=group_of(1, group="g"))
        why = "broker: the broker has no shared subscriptions, which group 'g' needs"
        await supervisor.not_ready_because(f"worker {supervisor.client_id}-0: {why}")
        await supervisor.stop()
    assert supervisor.events("broker_unavailable")
    supervisor.never_traced_back()
