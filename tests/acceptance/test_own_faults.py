"""Faults of the installation, not of a message: the worker holds, says so, and goes on once they are gone."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from tests.gateways import publish
from tests.statements import execute

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.acceptance.conftest import Greenhouse, WorkerMaker
    from tests.servers import Mosquitto

FAULTS = {
    "42501": (
        "revoke insert on iot.sensor_readings from greenhouse_worker",
        "grant insert on iot.sensor_readings to greenhouse_worker",
    ),
    "42P01": (
        "alter table iot.ingest_counters rename to elsewhere",
        "alter table iot.elsewhere rename to ingest_counters",
    ),
    "42703": (
        "alter table iot.sensor_readings rename value to amount",
        "alter table iot.sensor_readings rename amount to value",
    ),
}


@pytest.fixture
async def working(plain_dsn: str) -> AsyncIterator[str]:
    """The database as a login that may do what a worker needs; roles are of the whole server."""
    login = f"ingest_{uuid.uuid4().hex[:12]}"
    await execute(plain_dsn, f"create role {login} login in role greenhouse_worker")
    dsn = plain_dsn.replace("postgres@", f"{login}@")
    assert dsn != plain_dsn
    yield dsn
    await execute(plain_dsn, f"drop role {login}")


@pytest.mark.parametrize("sqlstate", FAULTS)
async def test_a_lost_grant_or_table_is_held_and_named(
    sqlstate: str,
    *,
    greenhouse: Greenhouse,
    plain_dsn: str,
    working: str,
    broker: Mosquitto,
    worker_of: WorkerMaker,
) -> None:
    worker = worker_of(greenhouse, working, broker.url, settings={"write": {"retry_max_s": 0.1}})
    await worker.ready()
    breaking, mending = FAULTS[sqlstate]
    await execute(plain_dsn, breaking)
    await publish(broker.port, greenhouse.messages(range(20)))
    await worker.not_ready_because(sqlstate)
    faults = worker.events("database_fault")
    assert (faults[0]["level"], sqlstate in faults[0]["error"]) == ("error", True)
    await execute(plain_dsn, mending)
    await worker.until(lambda: greenhouse.holds(20), "all readings are stored")
    await worker.ready()
    await worker.stop()
    await greenhouse.holds_each_once(20)
    assert not await greenhouse.dead_letters(worker.client_id)
    worker.never_traced_back()


@pytest.mark.parametrize("table", ["tenants", "sensor_types"])
async def test_an_emptied_catalog_makes_no_dead_letters(
    table: str, greenhouse: Greenhouse, plain_dsn: str, broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    worker = worker_of(greenhouse, plain_dsn, broker.url)
    await worker.ready()
    await execute(
        plain_dsn, f"create table kept as table metadata.{table}; truncate metadata.{table} cascade"
    )
    await worker.not_ready_because(f"metadata.{table}")
    await publish(broker.port, greenhouse.messages(range(20)))
    await worker.until(lambda: greenhouse.holds(20), "all readings are stored, by the catalog before")
    assert worker.events("catalog_empty")
    await execute(plain_dsn, f"insert into metadata.{table} select * from kept")
    await worker.ready()
    await worker.stop()
    assert not await greenhouse.dead_letters(worker.client_id)


async def test_a_worker_waits_for_a_catalog_that_is_empty_from_the_start(
    greenhouse: Greenhouse, plain_dsn: str, broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    await execute(
        plain_dsn, "create table kept as table metadata.sensor_types; truncate metadata.sensor_types cascade"
    )
    worker = worker_of(greenhouse, plain_dsn, broker.url)
    await worker.not_ready_because("metadata.sensor_types")
    assert not worker.events("broker_connected")
    await execute(plain_dsn, "insert into metadata.sensor_types select * from kept")
    await worker.ready()
    await worker.stop()
