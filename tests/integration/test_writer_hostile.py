"""Nothing a gateway can send is taken for a fault of ours: no retry, no exception, and the ledgers add up."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from ingest.intake import Intake
from ingest.model import Delivery
from ingest.resolve import Resolver
from tests.batches import NOW_US, WriterUnderTest, counters_of
from tests.unit.catalog_examples import SARA_01, default_rules, example_catalog
from tests.unit.examples import default_decoder

if TYPE_CHECKING:
    import asyncpg

MESSAGES = 3_000
TOPICS = (
    f"greenhouse/{SARA_01}/sensors/sensor",
    f"greenhouse/{SARA_01}/sensors/TEMPERATURA",
    f"greenhouse/{SARA_01}/readings",
    "GREENHOUSE/SARA",
    "GREENHOUSE/SARA/01",
    "GREENHOUSE/SARA/\U0001f331",
    "greenhouse/\udcff/readings",
    "SYSTEM/x",
    "a/'; drop table iot.sensor_readings; --",
)
TEXTS = (
    "", "\0", "\ud800", "\udc00\ud800", "é" * 300, "S1", "SENSOR_01", "TEMP 01", "\\", "'", '"', "%s", "$1",
    "{}", "°C", "°F", "unit", "DROP", "NaN", "Infinity", "1e999", "-0", "٣", "2025-11-17T10:15:00Z",
    "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999+14:00", "1763374560", "1763374560000", "9" * 40,
)  # fmt: skip
NUMBERS = (0, -0.0, 1, -1, 5e-324, 1.7e308, 2**63, -(2**63), 2**64, 10**400, NOW_US, NOW_US / 1e6, 1e16, True)
KEYS = ("value", "sensor_id", "sensor_type", "unit", "timestamp", "metadata", "readings", "greenhouseId")


def anything(dice: random.Random, depth: int = 0) -> Any:  # noqa: ANN401 (what JSON can hold)
    """Give a value that JSON can hold, a nasty one more often than not."""
    kind = dice.randrange(7 if depth < 4 else 4)
    if kind <= 1:
        return dice.choice(TEXTS)
    if kind == 2:
        return dice.choice(NUMBERS)
    if kind == 3:
        return dice.choice((None, float("nan"), float("inf")))
    if kind == 4:
        return [anything(dice, depth + 1) for _ in range(dice.randrange(6))]
    names = (*KEYS, *TEXTS) if dice.random() < 0.5 else KEYS
    return {dice.choice(names): anything(dice, depth + 1) for _ in range(dice.randrange(8))}


def payload(dice: random.Random) -> bytes:
    text = json.dumps(anything(dice), ensure_ascii=dice.random() < 0.5)
    sent = text.encode("utf-8", "surrogatepass")
    return sent[: dice.randrange(len(sent) + 1)] if dice.random() < 0.1 else sent


@pytest.mark.parametrize("out_of_range", ["quarantine", "flag"])
async def test_nothing_sent_is_a_fault_of_ours(
    out_of_range: Any,  # noqa: ANN401 (a policy)
    writer: WriterUnderTest,
    connection: asyncpg.Connection,
) -> None:
    dice = random.Random(f"seed 20251117 {out_of_range}")  # noqa: S311 (payloads of a test)
    faults: list[str] = []
    intake = Intake(
        default_decoder(),
        Resolver(example_catalog(), default_rules(), out_of_range=out_of_range),
        ignore_retained=True,
        max_batch_rows=500,
        on_fault=lambda fault, _: faults.append(fault),
    )
    sent = [Delivery(dice.choice(TOPICS), payload(dice), 2, at % 65_535 + 1) for at in range(MESSAGES)]
    intake.take_in(sent, NOW_US)
    while (batch := intake.next_batch()) is not None:
        await writer.commit(batch)
    assert not faults
    assert not writer.faults
    counters = await counters_of(connection)
    assert counters["committed"] + counters["ignored"] == MESSAGES
    total = sum(counters.get(name, 0) for name in ("written", "duplicate", "rejected", "null"))
    assert counters["decoded"] == total
    stored = await connection.fetchval("select count(*) from iot.sensor_readings")
    assert 0 < stored == counters["written"]
