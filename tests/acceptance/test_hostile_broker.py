"""A broker that breaks the protocol in every way: the worker says what happened, and comes back.

It never crashes, prints no traceback and hangs no longer than its deadlines; what the broker delivers
afterwards is stored and acknowledged.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import pytest

from tests.acceptance.conftest import Greenhouse
from tests.acceptance.hostile_acts import MQTT_3, MQTT_5, SLOW
from tests.hostile_broker import HostileBroker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingest.receive import MqttVersion
    from tests.acceptance.conftest import WorkerMaker
    from tests.hostile_broker import Wrong

KEEPALIVE_S = 5


@pytest.mark.parametrize(("version", "wrongs"), [("3.1.1", MQTT_3), ("5", MQTT_5)], ids=["3.1.1", "5"])
async def test_each_wrong_is_told_and_survived(
    version: MqttVersion, wrongs: Sequence[Wrong], plain_dsn: str, worker_of: WorkerMaker
) -> None:
    """Three workers share them; one of them is impatient and gets those that only its deadline ends."""
    silent = [wrong for wrong in wrongs if re.search("no (CONN|SUB)ACK", wrong.says)]
    others = [wrong for wrong in wrongs if wrong not in silent]
    assert len(silent) >= 4
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(survive(version, silent, plain_dsn, worker_of, connect_timeout_s=0.7))
        for some in (others[::2], others[1::2]):
            tasks.create_task(survive(version, some, plain_dsn, worker_of))


async def test_what_only_the_keepalive_time_ends(plain_dsn: str, worker_of: WorkerMaker) -> None:
    versions: tuple[MqttVersion, ...] = ("5", "3.1.1", "5")
    async with asyncio.TaskGroup() as tasks:
        for version, wrong in zip(versions, SLOW, strict=True):
            tasks.create_task(survive(version, [wrong], plain_dsn, worker_of))


async def survive(
    version: MqttVersion,
    wrongs: Sequence[Wrong],
    dsn: str,
    worker_of: WorkerMaker,
    *,
    connect_timeout_s: float = 10.0,
) -> None:
    """Do *wrongs* to a worker, one after the other, and prove after each that it is back."""
    greenhouse = await Greenhouse.registered(dsn)
    settings: dict[str, dict[str, object]] = {
        "broker": {
            "protocol": version,
            "connect_timeout_s": connect_timeout_s,
            "keepalive_s": KEEPALIVE_S,
            "reconnect_max_s": 0.1,
        },
    }
    async with HostileBroker(version, greenhouse.topic) as broker:
        worker = worker_of(greenhouse, dsn, broker.url, filters=[greenhouse.topic], settings=settings)
        await worker.until(lambda: broker.acknowledged == [1], "the first reading is acknowledged")
        for wrong in wrongs:
            acknowledged, done = len(broker.acknowledged), broker.wrongs
            broker.do(wrong)
            await worker.until(
                lambda: broker.wrongs > done and len(broker.acknowledged) > acknowledged,  # noqa: B023
                f"{wrong.name}: the worker is back",
            )
            # All so far: what has been told within 30 s is counted, not told again.
            errors = {event["error"] for event in worker.events("broker_unavailable")}
            if wrong.says:
                assert any(re.search(wrong.says, error) for error in errors), (wrong.name, errors)
            assert "Traceback" not in worker.log_text, (wrong.name, worker.log_text)
        count = len(broker.acknowledged)
        await worker.until(lambda: greenhouse.holds(count), "all readings are stored")
        await worker.stop()
