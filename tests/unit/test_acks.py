"""What the broker may not know of our acknowledgements, held against a model of broker and network."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ingest.model import Delivery
from ingest.receive import AckLedger, Entry, Redelivery, Verdict, entry_of
from tests.fuzzing import examples

if TYPE_CHECKING:
    from collections.abc import Sequence

DUP = 0x08
QOS1 = 0x02
IDS = 7
"""Packet ids of the model's broker: so few that they are used again all the time."""


def delivery(packet_id: int, payload: bytes = b"1", *, dup: bool = False) -> Delivery:
    return Delivery("t", payload, QOS1 | (DUP if dup else 0), packet_id)


def entries(*ids: int) -> list[Entry]:
    return [entry_of(delivery(packet_id)) for packet_id in ids]


# the ledger


def test_a_batch_is_pending_until_the_ping_after_its_pubacks_is_answered() -> None:
    ledger = AckLedger()
    assert ledger.extended_by(entries(1, 2)) == entries(1, 2)
    assert ledger.pending == [], "to extend changes nothing"
    ledger.committed(entries(1, 2))
    wanted = [ledger.proof_wanted]
    ledger.acknowledged(2)
    wanted.append(ledger.proof_wanted)
    ledger.ping_sent()
    wanted.append(ledger.proof_wanted)
    ledger.committed(entries(3))
    ledger.acknowledged(1)
    wanted.append(ledger.proof_wanted)
    assert wanted == [False, True, False, True], "the ping on its way does not cover the third"
    assert ledger.ping_answered()
    assert ledger.pending == entries(3)


def test_two_pings_on_their_way_prove_what_was_before_each() -> None:
    ledger = AckLedger()
    for packet_id in (1, 2):
        ledger.committed(entries(packet_id))
        ledger.acknowledged(1)
        ledger.ping_sent()
    ledger.committed(entries(3))
    ledger.acknowledged(1)
    assert ledger.ping_answered()
    assert ledger.pending == entries(2, 3)
    assert ledger.ping_answered()
    assert ledger.pending == entries(3)


def test_a_ping_before_the_pubacks_proves_nothing() -> None:
    ledger = AckLedger()
    ledger.ping_sent()
    ledger.committed(entries(1))
    ledger.acknowledged(1)
    ledger.ping_sent()
    assert not ledger.ping_answered()
    assert ledger.pending == entries(1)
    assert ledger.ping_answered()
    assert ledger.pending == []


def test_an_answer_nobody_asked_for_proves_nothing() -> None:
    ledger = AckLedger(entries(1))
    assert not ledger.ping_answered()
    assert ledger.pending == entries(1)


def test_a_packet_id_used_again_proves_what_was_before_it() -> None:
    ledger = AckLedger()
    ledger.committed(entries(1, 2, 3))
    ledger.acknowledged(3)
    assert ledger.extended_by(entries(2)) == [*entries(3), *entries(2)]
    ledger.committed(entries(2))
    assert ledger.pending == [*entries(3), *entries(2)]


def test_what_was_committed_without_a_connection_is_not_proved_by_a_ping() -> None:
    ledger = AckLedger()
    ledger.committed(entries(1))
    ledger.ping_sent()
    assert not ledger.ping_answered()
    assert ledger.pending == entries(1)


def test_a_new_connection_forgets_the_pings_of_the_old() -> None:
    ledger = AckLedger()
    ledger.committed(entries(1))
    ledger.acknowledged(1)
    ledger.ping_sent()
    ledger.reconnected(entries(1))
    assert not ledger.ping_outstanding
    assert not ledger.ping_answered()
    assert ledger.pending == entries(1)


def test_a_ping_sent_before_the_redelivery_was_settled_proves_nothing_of_it() -> None:
    ledger = AckLedger()
    ledger.reconnected(entries(1, 2))
    ledger.ping_sent()  # paho's own keep-alive
    ledger.redelivered(entries(2))
    ledger.acknowledged(1)
    ledger.ping_sent()
    assert not ledger.ping_answered(), "the answer to the first"
    assert ledger.pending == entries(2)
    assert ledger.ping_answered()
    assert ledger.pending == []


class BrokerModel(RuleBasedStateMachine):
    """A broker that keeps what it has no PUBACK for, a lossy network, and a worker that crashes.

    Every message has a payload of its own; `written` counts how often each was stored.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ledger = AckLedger()
        self.stored: list[Entry] = []
        self.written: dict[bytes, int] = {}
        self.next_payload = 0
        # the broker
        self.unacknowledged: list[Delivery] = []
        self.queued: deque[bytes] = deque()
        self.last_id = 0
        # the wire, to the broker: packet ids of PUBACKs, None for PINGREQ
        self.wire: deque[int | None] = deque()
        # the worker
        self.received: list[Delivery] = []
        self.redelivery: Redelivery | None = None

    @rule(count=st.integers(1, 4))
    def publish(self, count: int) -> None:
        for _ in range(count):
            self.next_payload += 1
            self.queued.append(str(self.next_payload).encode())
        self._send()

    def _send(self) -> None:
        """Send what the window of the ids allows, to a worker that is connected and reads."""
        used = {each.packet_id for each in self.unacknowledged}
        while self.queued and len(used) < IDS:
            self.last_id = self.last_id % IDS + 1
            if self.last_id in used:
                continue
            used.add(self.last_id)
            sent = delivery(self.last_id, self.queued.popleft())
            self.unacknowledged.append(sent)
            self._arrive(sent)

    def _arrive(self, sent: Delivery) -> None:
        if self.redelivery is None:
            self.received.append(sent)
            return
        verdict = self.redelivery.feed(sent)
        if verdict is not None:
            self._settle(verdict)

    def _settle(self, verdict: Verdict) -> None:
        self.redelivery = None
        self.ledger.redelivered(verdict.unproven)
        self._acknowledge(verdict.skipped)
        self.received += verdict.fresh

    @precondition(lambda self: self.received)
    @rule(share=st.floats(0.1, 1.0))
    def commit(self, share: float) -> None:
        """Commit the oldest deliveries, as the worker does: store, remember, acknowledge."""
        self._commit(share)
        batch = self._last
        self.ledger.committed([entry_of(each) for each in batch])
        self._acknowledge(batch)

    @precondition(lambda self: self.received)
    @rule(share=st.floats(0.1, 1.0))
    def commit_and_crash(self, share: float) -> None:
        self._commit(share)
        self.crash(0)

    def _commit(self, share: float) -> None:
        count = max(1, int(len(self.received) * share))
        self._last, self.received = self.received[:count], self.received[count:]
        for each in self._last:
            self.written[each.payload] = self.written.get(each.payload, 0) + 1
        self.stored = self.ledger.extended_by([entry_of(each) for each in self._last])

    def _acknowledge(self, batch: Sequence[Delivery]) -> None:
        if batch:
            self.wire.extend(each.packet_id for each in batch)
            self.ledger.acknowledged(len(batch))
            if not self.ledger.ping_outstanding:
                self.ping()

    @rule()
    def ping(self) -> None:
        self.wire.append(None)
        self.ledger.ping_sent()

    @precondition(lambda self: self.wire)
    @rule(count=st.integers(1, 6))
    def broker_reads(self, count: int) -> None:
        for _ in range(min(count, len(self.wire))):
            read = self.wire.popleft()
            if read is None:
                self.ledger.ping_answered()
            else:
                assert self.unacknowledged, "a PUBACK for nothing"
                assert self.unacknowledged.pop(0).packet_id == read, "PUBACKs in order"
        self._send()

    @rule(read=st.integers(0, 8))
    def crash(self, read: int) -> None:
        """The worker dies; the broker reads some of what was under way; a successor connects."""
        for _ in range(min(read, len(self.wire))):
            arrived = self.wire.popleft()
            if arrived is not None:
                self.unacknowledged.pop(0)
        self.wire.clear()
        self.received = []
        self.ledger = AckLedger()
        self.ledger.reconnected(self.stored)
        self.redelivery = Redelivery(self.stored) if self.stored else None
        self.unacknowledged = [each._replace(flags=each.flags | DUP) for each in self.unacknowledged]
        for each in self.unacknowledged:
            self._arrive(each)
        self._send()

    @precondition(lambda self: self.redelivery is not None)
    @rule()
    def patience_ends(self) -> None:
        assert self.redelivery is not None
        self._settle(self.redelivery.give_up())

    @invariant()
    def nothing_is_stored_twice(self) -> None:
        assert all(count == 1 for count in self.written.values()), self.written

    @invariant()
    def nothing_is_lost(self) -> None:
        waiting = {each.payload for each in self.unacknowledged} | set(self.queued)
        published = {str(number).encode() for number in range(1, self.next_payload + 1)}
        assert published - waiting <= set(self.written)

    @invariant()
    def pending_covers_what_the_broker_may_send_again(self) -> None:
        sent_again = [entry_of(each) for each in self.unacknowledged if each.payload in self.written]
        assert sent_again == self.ledger.pending[len(self.ledger.pending) - len(sent_again) :]


TestBrokerModel = BrokerModel.TestCase
TestBrokerModel.settings = settings(max_examples=examples(50), stateful_step_count=30, deadline=None)


# the redelivered run


class Run(NamedTuple):
    """What a redelivery brings against a stored list, and what has to come of it."""

    name: str
    pending: list[Entry]
    arriving: list[Delivery]
    fresh: int
    skipped: int


def again(*ids: int) -> list[Delivery]:
    return [delivery(packet_id, dup=True) for packet_id in ids]


RUNS = (
    Run("the whole list", entries(1, 2, 3), again(1, 2, 3), 0, 3),
    Run("a suffix", entries(1, 2, 3), again(2, 3), 0, 2),
    Run("its last entry", entries(1, 2, 3), again(3), 0, 1),
    Run("nothing of it", entries(1, 2, 3), again(4), 1, 0),
    Run("a message that is new", entries(1, 2, 3), [delivery(1)], 1, 0),
    Run("a run that leaves the list", entries(1, 2, 3), again(1, 3), 2, 0),
    Run("a run that goes back", entries(1, 2, 3), again(2, 1), 2, 0),
    Run("a run that a new message ends", entries(1, 2, 3), [*again(1, 2), delivery(3)], 3, 0),
    Run("the same id with another payload", entries(1), [delivery(1, b"2", dup=True)], 1, 0),
    Run("ids that wrapped", entries(65_534, 65_535, 1, 2), again(65_535, 1, 2), 0, 3),
)


@pytest.mark.parametrize("run", RUNS, ids=[run.name for run in RUNS])
def test_a_redelivered_run(run: Run) -> None:
    redelivery = Redelivery(run.pending)
    verdicts = [redelivery.feed(each) for each in run.arriving]
    assert verdicts[:-1] == [None] * (len(run.arriving) - 1)
    verdict = verdicts[-1]
    assert verdict is not None
    assert (verdict.fresh + verdict.skipped) == run.arriving, "each once, in arrival order"
    assert (len(verdict.fresh), len(verdict.skipped)) == (run.fresh, run.skipped)
    assert verdict.unproven == run.pending[len(run.pending) - run.skipped :]


@given(length=st.integers(1, 30), start=st.integers(0, 29))
def test_every_suffix_is_skipped_whole_with_constant_payloads(length: int, start: int) -> None:
    pending = entries(*range(1, length + 1))
    start = min(start, length - 1)
    redelivery = Redelivery(pending)
    for packet_id in range(start + 1, length):
        assert redelivery.feed(delivery(packet_id, dup=True)) is None
    verdict = redelivery.feed(delivery(length, dup=True))
    assert verdict is not None
    assert [each.packet_id for each in verdict.skipped] == list(range(start + 1, length + 1))
    assert verdict.unproven == pending[start:]


@given(length=st.integers(2, 30), stop=st.integers(1, 29))
def test_a_run_that_stops_short_is_fresh(length: int, stop: int) -> None:
    stop = min(stop, length - 1)
    redelivery = Redelivery(entries(*range(1, length + 1)))
    held = again(*range(1, stop + 1))
    assert [redelivery.feed(each) for each in held] == [None] * stop
    assert redelivery.held == stop
    assert redelivery.give_up() == Verdict(held, [], [])


def test_the_topic_is_part_of_the_checksum() -> None:
    assert entry_of(Delivery("a", b"b", QOS1, 1)) != entry_of(Delivery("c", b"b", QOS1, 1))
    assert entry_of(Delivery("\\xff", b"b", QOS1, 1)) == entry_of(Delivery("\\xff", b"b", QOS1 | DUP, 1))
