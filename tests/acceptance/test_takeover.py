"""A worker frozen in the middle of its transaction while another starts under its client id.

The other must not wait for it for ever, nor the frozen one store anything when it goes on: it has to notice
that the session is no longer its own, and end.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.acceptance.conftest import Greenhouse
from tests.acceptance.held_batch import arrive_behind_the_first
from tests.gateways import Message, publish

if TYPE_CHECKING:
    from tests.acceptance.conftest import WorkerMaker
    from tests.servers import Mosquitto

COUNT = 2_000
SETTINGS: dict[str, dict[str, object]] = {
    "write": {"max_batch_rows": 200, "commit_timeout_s": 2.0},
    "broker": {"keepalive_s": 5},
}


@pytest.mark.parametrize(
    ("fault", "stored"),
    [
        ("before_copy:3:freeze", False),
        ("half_of_copy:3:freeze", False),
        ("before_journal:3:freeze", False),
        ("before_commit:3:freeze", False),
        ("before_puback:3:freeze", True),
        ("half_of_pubacks:3:freeze", True),
    ],
)
async def test_frozen_within_a_transaction(
    fault: str, *, stored: bool, plain_dsn: str, broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    greenhouse = await Greenhouse.registered(plain_dsn)
    frozen = worker_of(greenhouse, plain_dsn, broker.url, settings=SETTINGS, fault=fault)
    await frozen.ready()
    await publish(broker.port, greenhouse.messages(range(COUNT)))
    await frozen.until(lambda: frozen.frozen, "it has frozen")
    successor = worker_of(greenhouse, plain_dsn, broker.url, client_id=frozen.client_id, settings=SETTINGS)
    await successor.until(lambda: greenhouse.holds(COUNT), "all readings are stored")
    assert frozen.frozen
    frozen.signal(signal.SIGCONT)
    assert await frozen.exit_code() == 2
    assert f"another process has claimed the session of client id '{frozen.client_id}'" in frozen.log_text
    frozen.never_traced_back()
    await publish(broker.port, [Message(greenhouse.topic, b"%d" % COUNT)])
    await successor.until(lambda: greenhouse.holds(COUNT + 1), "the next reading is stored")
    await successor.stop()
    await greenhouse.holds_each_once(COUNT + 1)
    if stored:  # else too, where the broker had not read the PUBACKs of the batch before
        assert successor.events("redelivery_skipped")
    counters = await greenhouse.counters(frozen.client_id)
    assert counters["written"] == COUNT + 1
    assert counters["received"] == counters["committed"] + counters["skipped"]


async def test_frozen_with_thousands_of_rows_in_the_server(
    plain_dsn: str, broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    """Those are in the unique index: whoever writes them again waits for the transaction that did first."""
    greenhouse = await Greenhouse.registered(plain_dsn)
    # The first batch, of one reading, has no half: it is passed over.
    frozen = worker_of(greenhouse, plain_dsn, broker.url, fault="half_of_copy:1:freeze")
    await frozen.ready()
    await arrive_behind_the_first(frozen, greenhouse, broker, greenhouse.messages(range(8_000)))
    await frozen.until(lambda: frozen.frozen, "it has frozen")
    successor = worker_of(greenhouse, plain_dsn, broker.url, client_id=frozen.client_id)
    await successor.until(lambda: greenhouse.holds(8_000), "all readings are stored")
    frozen.signal(signal.SIGCONT)
    assert await frozen.exit_code() == 2
    frozen.never_traced_back()
    await successor.ready()
    await successor.stop()
    await greenhouse.holds_each_once(8_000)
