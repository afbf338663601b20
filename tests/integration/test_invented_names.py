"""Names from outside cost no memory for good: thousands are invented, and what is kept stays as it was.

The whole way from the broker's bytes to a batch, with the bounds of its memories lowered; a memory without
a bound, wherever it is added, is seen by what Python has allocated.
"""

from __future__ import annotations

import gc
import json
import tracemalloc
from typing import TYPE_CHECKING

from ingest.decode import Decoder, Routes, routes
from ingest.intake import Intake
from ingest.receive import acks, entry_of, packets
from ingest.receive.packets import PacketParser
from ingest.resolve import Resolver, resolver
from ingest.settings import Settings
from tests.gateways import Message, packet
from tests.unit.catalog_examples import SARA_01, default_rules, example_catalog

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

NOW_US = 1_763_373_600_000_000
BOUND = 150
WARM_UP, MESSAGES = 1_200, 3_500
TOLERATED_BYTES = 150_000
"""Kept without its bound, each memory takes 0.6 to 8 MB of the names in MESSAGES."""


def invented(numbers: range) -> Iterator[Message]:
    """Give messages with names nobody has sent before, in every place a name can stand."""
    for number in numbers:
        name = f"{number}-{'x' * 100}"
        yield from (
            Message(f"greenhouse/{name}/sensors/co2", b"1"),
            Message(f"greenhouse/{SARA_01}/sensors/{name}", b"1"),
            Message(f"GREENHOUSE/T{number}", b'{"TEMP": 1}'),
            Message(f"GREENHOUSE/SARA/{name}", b'{"TEMP": 1}'),
            Message(f"nobody/{name}", b"1"),
            Message("GREENHOUSE/SARA/01", json.dumps({f"TEMP {name}": 1, f"ODD {name}": 1}).encode()),
            Message(
                f"greenhouse/{SARA_01}/readings",
                json.dumps(
                    [
                        {"sensor_id": name, "sensor_type": "co2", "value": 1},
                        {"sensor_type": name, "value": 1},
                        {"sensor_type": "co2", "unit": name, "value": 1},
                        {"sensor_type": "co2", "value": 1, "metadata": {name: name}},
                    ]
                ).encode(),
            ),
        )


def test_invented_names_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packets, "_TOPICS_REMEMBERED", BOUND)
    monkeypatch.setattr(acks, "_TOPICS_REMEMBERED", BOUND)
    monkeypatch.setattr(routes, "MAX_REMEMBERED_TOPICS", BOUND)
    monkeypatch.setattr(resolver, "CACHED_NAMES", BOUND)
    settings = Settings()
    parser = PacketParser(mqtt5=False)
    intake = Intake(
        Decoder(Routes(settings.route, settings.decode.ignore), settings.decode),
        Resolver(example_catalog(), default_rules(), out_of_range="quarantine"),
        ignore_retained=True,
        max_batch_rows=1_000,
    )

    def receive(numbers: range) -> int:
        rows = 0
        for message in invented(numbers):
            deliveries, _ = parser.feed(packet(message, 1))
            intake.take_in(deliveries, NOW_US)
            for delivery in deliveries:
                entry_of(delivery)
            if intake.readings >= BOUND:
                while (batch := intake.next_batch()) is not None:
                    rows += len(batch.rows)
        gc.collect()
        return rows

    tracemalloc.start()
    try:
        receive(range(WARM_UP // 7))
        before, _ = tracemalloc.get_traced_memory()
        rows = receive(range(WARM_UP // 7, (WARM_UP + MESSAGES) // 7))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert rows > MESSAGES / 7
    assert after - before < TOLERATED_BYTES, f"{after - before} bytes more"
