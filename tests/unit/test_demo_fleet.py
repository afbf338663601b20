from __future__ import annotations

from datetime import UTC, datetime
from typing import get_args
from uuid import UUID

import pytest

from ingest.demo.fleet import BAD_KINDS, CATALOG, Expected, Gateway, Message
from ingest.demo.report import Storage, sparkline
from ingest.model import Reason

NOW = datetime(2026, 1, 15, 12, 30, tzinfo=UTC)
GREENHOUSES = {
    f"{tenant['prefix']}/{greenhouse['code']}": UUID(int=100 * place + index)
    for place, tenant in enumerate(CATALOG["tenants"])
    for index, greenhouse in enumerate(tenant["greenhouses"])
}


def messages_of(number: int, seed: int = 7, count: int = 120) -> list[Message]:
    return Gateway(number, seed, NOW, GREENHOUSES).messages(count)


@pytest.mark.parametrize("number", range(4))
def test_same_seed_same_messages_other_seed_others(number: int) -> None:
    assert messages_of(number) == messages_of(number)
    assert messages_of(number) != messages_of(number, seed=8)


def test_every_reason_a_gateway_can_cause_is_in_the_smallest_fleet() -> None:
    expected = Expected()
    for message in messages_of(0, count=1):
        expected.add(message)

    by_no_gateway = {"database_refused", "worker_fault", "poison"}
    assert set(expected.reasons) == set(get_args(Reason)) - by_no_gateway
    assert expected.ignored == 3 + 1


def test_the_account_adds_up() -> None:
    expected = Expected()
    for number in range(8):
        for message in messages_of(number):
            expected.add(message)

    assert expected.messages > 8 * 120
    assert expected.duplicates
    assert expected.nulls
    assert (
        expected.readings
        == expected.written + expected.duplicates + expected.nulls + expected.reasons.total()
    )


def test_every_format_and_both_qualities_of_service_are_published() -> None:
    fleet = [message for number in range(8) for message in messages_of(number)]

    assert {message.qos for message in fleet} == {0, 1}
    for start in ("greenhouse/A2/", "greenhouse/0", "GREENHOUSE/SARA", "GREENHOUSE/HORTAMED/A1"):
        assert any(message.topic.startswith(start) and message.written for message in fleet), start
    assert any(message.topic == "GREENHOUSE" and message.written for message in fleet)
    assert sum(not message.written for message in messages_of(0)) >= BAD_KINDS


def test_sparkline_spans_its_blocks_and_leaves_gaps() -> None:
    assert sparkline([1.0, None, 8.0]) == "▁ █"
    assert sparkline([5.0, 5.0]) == "▁▁"
    assert sparkline([None]) == " "


def test_saved_share_of_nothing_is_nothing() -> None:
    assert Storage(chunks=0, before_bytes=0, after_bytes=0).saved_pct == 0.0
    assert Storage(chunks=1, before_bytes=1000, after_bytes=60).saved_pct == 94.0
