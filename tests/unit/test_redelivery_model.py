"""The journal's rule against a model broker: whatever is cut when, nothing is lost, nothing skipped wrongly.

The model broker keeps what MQTT 5 4.4 says: messages in order, a packet id free again after its PUBACK,
unacknowledged ones sent again in order with DUP. The connection may be cut between any two steps, with any
prefix of our PUBACKs having arrived; the worker may be killed, and starts from the list of its last COMMIT.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.model import Delivery
from ingest.receive import AckLedger, Entry, Redelivery, Verdict, entry_of

QOS1 = 0x02
DUP = 0x08


@dataclass
class Broker:
    """One session: what it has sent and not seen acknowledged, and what is queued behind."""

    window: int
    ids: int
    queue: list[bytes]
    in_flight: list[tuple[int, bytes]] = field(default_factory=list)
    last_id: int = 0

    def send(self, count: int) -> list[Delivery]:
        """Send up to *count* new messages, as far as the window allows; packet ids go round."""
        sent: list[Delivery] = []
        while self.queue and len(sent) < count and len(self.in_flight) < self.window:
            self.last_id = self.last_id % self.ids + 1
            self.in_flight.append((self.last_id, self.queue.pop(0)))
            sent.append(Delivery("t", self.in_flight[-1][1], QOS1, self.last_id))
        return sent

    def send_again(self) -> list[Delivery]:
        return [Delivery("t", payload, QOS1 | DUP, packet_id) for packet_id, payload in self.in_flight]

    def acknowledged(self, packet_ids: list[int]) -> None:
        for packet_id in packet_ids:
            assert self.in_flight.pop(0)[0] == packet_id, "PUBACKs out of order"


class Worker:
    """The order in which `link`, `worker` and `writer` use ledger, list and redelivery."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.ledger = AckLedger()
        self.stored: list[Entry] = []
        """The list as of the last COMMIT: all that a killed worker's successor knows."""
        self.received: list[Delivery] = []
        self.committed: list[bytes] = []
        self.pubacks: list[int] = []
        """Written, not read by the broker yet."""

    def commit(self, count: int) -> None:
        batch, self.received = self.received[:count], self.received[count:]
        entries = [entry_of(delivery) for delivery in batch]
        self.stored = self.ledger.extended_by(entries)
        self.committed += [delivery.payload for delivery in batch]
        self.ledger.committed(entries)
        self.acknowledge([entry.packet_id for entry in entries])

    def acknowledge(self, packet_ids: list[int]) -> None:
        self.pubacks += packet_ids
        self.ledger.acknowledged(len(packet_ids))

    def pubacks_arrive(self, count: int) -> None:
        self.broker.acknowledged(self.pubacks[:count])
        del self.pubacks[:count]

    def prove(self) -> None:
        self.ledger.ping_sent()
        self.pubacks_arrive(len(self.pubacks))
        self.ledger.ping_answered()

    def reconnect(self) -> None:
        self.pubacks.clear()
        self.received.clear()
        self.ledger.reconnected(self.stored)
        redelivery = Redelivery(self.stored) if self.stored else None
        for delivery in self.broker.send_again():
            if redelivery is None:
                self.received.append(delivery)
            elif (verdict := redelivery.feed(delivery)) is not None:
                redelivery = None
                self.settle(verdict)
        if redelivery is not None:  # nothing more comes
            self.settle(redelivery.give_up())

    def settle(self, verdict: Verdict) -> None:
        self.ledger.reconnected(verdict.unproven)
        self.acknowledge([delivery.packet_id for delivery in verdict.skipped])
        self.received += verdict.fresh


STEPS = st.lists(
    st.tuples(
        st.integers(1, 8),  # messages sent
        st.integers(0, 8),  # messages in the batch that is committed
        st.integers(0, 8),  # PUBACKs that arrive
        st.sampled_from(["go on", "go on", "prove", "cut", "kill"]),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(steps=STEPS, window=st.integers(1, 10), more_ids=st.integers(1, 12), constant=st.booleans())
def test_every_message_is_committed_once(
    steps: list[tuple[int, int, int, str]], window: int, more_ids: int, *, constant: bool
) -> None:
    """Also with constant payloads and packet ids about to go round, as long as the window is smaller."""
    payloads = [b"same" if constant else str(number).encode() for number in range(100)]
    broker = Broker(window, window + more_ids, list(payloads))
    worker = Worker(broker)

    for sent, batch, arrived, then in steps:
        worker.received += broker.send(sent)
        worker.commit(batch)
        worker.pubacks_arrive(arrived)
        worker.received += broker.send(sent)
        if then == "prove":
            worker.prove()
        elif then == "cut":  # the same process goes on: it commits what it received first
            worker.commit(len(worker.received))
            worker.reconnect()
        elif then == "kill":
            worker.reconnect()
    while worker.received or broker.queue or broker.in_flight:
        worker.received += broker.send(5)
        worker.commit(5)
        worker.prove()

    assert sorted(worker.committed) == sorted(payloads)
