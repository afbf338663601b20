"""One packet id twice on one connection: the same message again, or another one under its id."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from ingest.model import Delivery
from ingest.receive import DUP, AckLedger, Entry, Redelivery, entry_of, without_retransmitted

QOS1 = 0x02
LAST_ID = 65_535


def delivery(number: int, payload: bytes = b"7", *, dup: bool = False) -> Delivery:
    """Give message *number*, counted from 1, of a broker that numbers upwards."""
    return Delivery("t", payload, QOS1 | (DUP if dup else 0), (number - 1) % LAST_ID + 1)


def run(first: int, last: int, *, dup: bool = False) -> list[Delivery]:
    return [delivery(number, dup=dup) for number in range(first, last + 1)]


class Case(NamedTuple):
    name: str
    unproven: list[Entry]
    waiting: list[Delivery]
    arriving: list[Delivery]
    fresh: list[Delivery]
    window: int = 20_000


COMMITTED = [entry_of(each) for each in run(1, 2)]
OTHER = delivery(1, b"8", dup=True)
AT_QOS_0 = Delivery("t", b"7", DUP, 0)
CASES = (
    Case("what waits for its COMMIT", [], run(1, 3), run(1, 3, dup=True), []),
    Case("what waits for the proof of its PUBACK", COMMITTED, [], run(1, 2, dup=True), []),
    Case("both, and a new one", COMMITTED, run(3, 3), run(2, 4, dup=True), run(4, 4, dup=True)),
    Case("twice in one read", [], [], [*run(1, 1), *run(1, 1, dup=True)], run(1, 1)),
    Case("without DUP it is new", COMMITTED, run(3, 3), run(1, 3), run(1, 3)),
    Case("another payload under an id that waits", [], run(1, 1), [OTHER], [OTHER]),
    Case("another payload under an unproven id", COMMITTED, [], [OTHER], [OTHER]),
    Case("the oldest of a full window", [], run(1, 5), run(1, 1, dup=True), [], window=5),
    Case("older than a window", [], run(1, 6), run(1, 1, dup=True), run(1, 1, dup=True), window=5),
    Case("QoS 0 has no id", [], [AT_QOS_0, *run(1, 1)], [AT_QOS_0], [AT_QOS_0]),
)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_one_id_twice(case: Case) -> None:
    outstanding: list[Entry | Delivery] = [*case.unproven, *case.waiting]
    assert without_retransmitted(case.arriving, outstanding, window=case.window) == case.fresh


@pytest.mark.parametrize("window", [20_000, LAST_ID])
def test_equal_messages_beyond_the_packet_ids_are_all_taken(window: int) -> None:
    """What Mosquitto sends after a reconnect with more in flight than there are ids."""
    first, last = run(1, LAST_ID, dup=True), run(LAST_ID + 1, LAST_ID + 100, dup=True)
    assert without_retransmitted([*first, *last], [], window=window) == [*first, *last]
    assert without_retransmitted(last, first, window=window) == last


# the list of what was committed, when the ids have gone round


def test_the_message_after_a_long_list_is_not_taken_for_its_head() -> None:
    ledger = AckLedger()
    for start in range(1, 80_000, 20_000):
        entries = [entry_of(each) for each in run(start, start + 19_999)]
        stored = ledger.extended_by(entries)
        ledger.committed(entries)
        assert ledger.pending == stored
        ledger.acknowledged(len(entries))
    assert ledger.pending == [entry_of(each) for each in run(20_001, 80_000)]
    verdict = Redelivery(ledger.pending).feed(delivery(80_001, dup=True))
    assert verdict is not None
    assert verdict.fresh == [delivery(80_001, dup=True)]


def test_a_batch_of_more_messages_than_ids_leaves_each_id_once() -> None:
    ledger = AckLedger()
    entries = [entry_of(each) for each in run(1, LAST_ID + 10)]
    stored = ledger.extended_by(entries)
    ledger.committed(entries)
    assert ledger.pending == stored == entries[-60_000:]
    ledger.acknowledged(len(entries))
    ledger.ping_sent()
    assert ledger.ping_answered()
    assert ledger.pending == []
