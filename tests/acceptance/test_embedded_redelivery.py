"""A broker that sends again without DUP and under new packet ids (rumqttd, the embedded one).

The journal cannot recognise what it sends again, so a reading without a time may be stored twice after a
kill. Nothing may be lost, and a reading with a time is stored once even then.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from ingest.embedded import EmbeddedBroker
from tests.acceptance.conftest import Greenhouse
from tests.gateways import publish_in_windows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.acceptance.conftest import WorkerMaker

COUNT = 3_000
WINDOW = 100
"""What rumqttd sends, and reads, ahead of PUBACKs."""


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        yield running


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_killed_again_and_again(
    protocol: str, broker: EmbeddedBroker, plain_dsn: str, worker_of: WorkerMaker
) -> None:
    greenhouse = await Greenhouse.registered(plain_dsn)
    url = broker.url_v5 if protocol == "5" else broker.url
    settings: dict[str, dict[str, object]] = {
        "broker": {"protocol": protocol, "connect_timeout_s": 3.0},
        "write": {"max_batch_rows": 50},
    }
    port = int(broker.url.rpartition(":")[2])
    faults = ("before_commit:9", "before_puback:9", "half_of_pubacks:9")
    worker = worker_of(greenhouse, plain_dsn, url, client_id="w", settings=settings, fault=faults[0])
    await worker.ready()
    publishing = asyncio.create_task(
        publish_in_windows(port, greenhouse.messages(range(COUNT)), window=WINDOW)
    )
    for fault in (*faults[1:], None):
        assert await worker.exit_code() == -9
        worker = worker_of(greenhouse, plain_dsn, url, client_id="w", settings=settings, fault=fault)
    await publishing

    async def complete() -> bool:
        return len(await greenhouse.values()) == COUNT

    await worker.until(complete, "each reading is stored")
    await worker.ready()
    await worker.stop()
    stored = await greenhouse.values()
    assert set(stored) == {float(number) for number in range(COUNT)}
    assert {value for value, times in stored.items() if times > 1} <= set(range(1, COUNT, 2))
    twice = stored.total() - COUNT
    assert twice <= len(faults) * WINDOW, "of the window that was on its way when the worker was killed"
    counters = await greenhouse.counters("w")
    assert counters["written"] == stored.total()
    assert counters["received"] == counters["committed"] + counters["skipped"]
    assert counters["decoded"] == counters["written"] + counters["duplicate"]
