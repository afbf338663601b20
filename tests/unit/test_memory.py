"""What the worker keeps in memory: of a message that waits for its COMMIT, and of what it packed before."""

from __future__ import annotations

import json
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from ingest.intake import Intake
from ingest.model import Delivery
from ingest.receive.packets import answer_blob
from ingest.resolve import Resolver
from ingest.write import journal
from tests.batches import NOW_US
from tests.unit.catalog_examples import SARA_01, default_rules, example_catalog
from tests.unit.examples import default_decoder

if TYPE_CHECKING:
    from collections.abc import Callable

COUNT = 2_000
SENSOR = f"greenhouse/{SARA_01}/sensors/sensor"


def reading(number: int) -> tuple[str, bytes]:
    message = {
        "sensor_id": "S1",
        "value": number,
        "timestamp": NOW_US // 1_000_000 - number,
        "metadata": {"battery": 3.1, "note": "roof"},
    }
    return SENSOR, json.dumps(message).encode()


def flat_map(number: int) -> tuple[str, bytes]:
    return "GREENHOUSE/SARA/01", b'{"SENSOR_01": %d}' % number


def rejected(number: int) -> tuple[str, bytes]:
    return SENSOR, b'{"value": "warm %d"}' % number


def traced_bytes(work: Callable[[], object]) -> int:
    """Give what *work* leaves behind, its result included."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        left = work()
        after, _ = tracemalloc.get_traced_memory()
        del left
    finally:
        tracemalloc.stop()
    return after - before


@pytest.mark.parametrize("message", [reading, flat_map, rejected])
def test_a_waiting_message_takes_less_than_a_kilobyte(message: Callable[[int], tuple[str, bytes]]) -> None:
    """As config/ingest.toml says of `write.max_buffered_rows`."""
    resolver = Resolver(example_catalog(), default_rules(), out_of_range="quarantine")
    intake = Intake(default_decoder(), resolver, ignore_retained=True, max_batch_rows=COUNT)
    intake.take_in([Delivery(*message(0), 2, 1)], NOW_US)  # its names are remembered from now on

    def take_in() -> None:
        intake.take_in([Delivery(*message(number), 2, 1) for number in range(1, COUNT)], NOW_US)

    assert traced_bytes(take_in) / COUNT < 1_000


def test_a_journal_of_any_length_leaves_nothing_behind() -> None:
    def pack_all() -> None:
        for length in range(COUNT, COUNT + 50):
            journal.pack(range(length))

    assert traced_bytes(pack_all) < 1_000_000


def test_acknowledgements_of_any_number_leave_nothing_behind() -> None:
    def build_all() -> None:
        for length in range(COUNT, COUNT + 50):
            answer_blob(list(range(1, length)))

    assert traced_bytes(build_all) < 1_000_000
