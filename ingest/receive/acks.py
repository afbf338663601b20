"""What the broker knows of our acknowledgements, and what its redelivery means.

Pure: no socket, no database, no clock. Two sides of one list: `AckLedger` keeps, oldest first, every
delivery committed since the broker last proved that it has our PUBACKs; the writer stores it
with each COMMIT. After a reconnect that resumed the session, `Redelivery` compares what the broker
sends again with that list and tells which deliveries are in the table already.

Why a suffix: PUBACKs go out in the order of the list over one ordered byte stream, so what the
broker has seen of them is a prefix, and what it sends again starts with the rest (MQTT 5 4.4, 4.6).
Only deliveries with DUP set count (MQTT 3.3.1-1): without it the message is new to us, whatever
its packet id. In doubt nothing is skipped: a duplicate is the lesser evil.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias
from zlib import crc32

from ingest.model import MOST_UNPROVEN

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ingest.model import Delivery

DUP: Final = 0x08
QOS: Final = 0x06
_ID_SHIFT: Final = 32
_TOPIC_REMEMBERED_CHARS: Final = 256
_TOPICS_REMEMBERED: Final = 65_536


Entry: TypeAlias = int
"""One QoS 1 delivery, recognisable when it comes again: packet id * 2**32 + CRC-32 of topic and payload.

That tells a reused packet id, together with order and DUP. A number and not a tuple: one is made for each
message, and the list of them is stored with each COMMIT (0.3 and 0.01 µs each, against 0.45 and 0.1).
"""


def entry_of(delivery: Delivery) -> Entry:
    """Give the entry under which *delivery* is remembered."""
    topic, payload, _, packet_id = delivery
    return packet_id << _ID_SHIFT | crc32(payload, _checksums[topic])


def entries_of(deliveries: Iterable[Delivery]) -> list[Entry]:
    """Give the entry of each of *deliveries* that wants an answer: `entry_of` without a call for each."""
    return [
        packet_id << _ID_SHIFT | crc32(payload, _checksums[topic])
        for topic, payload, flags, packet_id in deliveries
        if flags & QOS
    ]


def packet_id_of(entry: Entry) -> int:
    """Give the packet id of *entry*."""
    return entry >> _ID_SHIFT


class _Checksums(dict[str, int]):
    """The CRC-32 of topics already seen, looked up without a call of ours."""

    def __missing__(self, topic: str) -> int:
        checksum = crc32(topic.encode("utf-8", "backslashreplace"))
        if len(topic) <= _TOPIC_REMEMBERED_CHARS:
            if len(self) >= _TOPICS_REMEMBERED:
                self.clear()
            self[topic] = checksum
        return checksum


_checksums = _Checksums()


class AckLedger:
    """The committed deliveries, the newest 60 000, whose PUBACK the broker has not yet proved to have.

    A proof is a PINGRESP: the broker answers a PINGREQ after it read everything before it. Order of
    calls for a batch: `extended_by` (the list to store with the COMMIT), `committed`, then, once
    its PUBACKs are written, `acknowledged`; `ping_sent` and `ping_answered` pair in order.
    """

    def __init__(self, pending: Iterable[Entry] = ()) -> None:
        """Start from the list stored with the last COMMIT."""
        self._unproven: list[Entry] = list(pending)
        self._ids = _ids_of(self._unproven)
        """Their packet ids. Nearly always none comes again; to look at 40 000 entries for one takes 2 ms."""
        self._acknowledged = 0
        self._pings: deque[int] = deque()

    @property
    def pending(self) -> list[Entry]:
        """Everything committed and unproven, oldest first."""
        return list(self._unproven)

    @property
    def proof_wanted(self) -> bool:
        """Whether PUBACKs were written that no PINGREQ on its way would prove."""
        return self._acknowledged > (self._pings[-1] if self._pings else 0)

    @property
    def provable(self) -> bool:
        """Whether PUBACKs were written that are not proved yet: the answer to a PINGREQ may do that."""
        return self._acknowledged > 0

    @property
    def ping_outstanding(self) -> bool:
        """Whether a PINGREQ waits for its answer."""
        return bool(self._pings)

    def extended_by(self, entries: Sequence[Entry]) -> list[Entry]:
        """Give the list to store with the COMMIT of *entries*; changes nothing yet."""
        return (self._without_reused(_ids_of(entries)) + list(entries))[-MOST_UNPROVEN:]

    def committed(self, entries: Sequence[Entry]) -> None:
        """Remember *entries* as committed, after what was committed before."""
        new_ids = _ids_of(entries)
        self._drop(len(self._unproven) - len(self._without_reused(new_ids)))
        self._unproven += entries
        self._ids |= new_ids
        self._drop(max(len(self._unproven) - MOST_UNPROVEN, 0))

    def acknowledged(self, count: int) -> None:
        """Note that the PUBACKs of the *count* oldest unacknowledged entries were written."""
        self._acknowledged = min(self._acknowledged + count, len(self._unproven))

    def ping_sent(self) -> None:
        """Note a PINGREQ written after every PUBACK so far."""
        self._pings.append(self._acknowledged)

    def ping_answered(self) -> bool:
        """Note a PINGRESP: what its PINGREQ followed is proved. True if the list got shorter."""
        if not self._pings:
            return False
        proved = self._pings.popleft()
        self._drop(proved)
        return proved > 0

    def reconnected(self, pending: Iterable[Entry]) -> None:
        """Start over on a new connection with the list that still matters there."""
        self.redelivered(pending)
        self._pings.clear()

    def redelivered(self, unproven: Iterable[Entry]) -> None:
        """Go on with what of the list a redelivery has shown to matter; none of it is acknowledged here.

        A PINGREQ on its way goes on being paired with its answer, and proves nothing.
        """
        self._unproven = list(unproven)
        self._ids = _ids_of(self._unproven)
        self._acknowledged = 0
        self._pings = deque(0 for _ in self._pings)

    def _without_reused(self, new_ids: set[int]) -> list[Entry]:
        """Give the list from after the newest entry whose packet id is among *new_ids*, used again.

        A broker reuses an id only after its PUBACK (MQTT 2.2.1-4), and it has seen them in order.
        """
        if self._ids.isdisjoint(new_ids):
            return self._unproven
        for index in range(len(self._unproven) - 1, -1, -1):
            if self._unproven[index] >> _ID_SHIFT in new_ids:
                return self._unproven[index + 1 :]
        return self._unproven

    def _drop(self, count: int) -> None:
        if count:
            self._ids -= _ids_of(self._unproven[:count])
            del self._unproven[:count]
            if len(self._ids) < len(self._unproven):  # one id twice, against MQTT 2.2.1-4
                self._ids = _ids_of(self._unproven)
            self._acknowledged = max(self._acknowledged - count, 0)
            self._pings = deque(max(mark - count, 0) for mark in self._pings)


def _ids_of(entries: Iterable[Entry]) -> set[int]:
    return {entry >> _ID_SHIFT for entry in entries}


class Verdict(NamedTuple):
    """What a redelivered run turned out to be; each list in arrival order."""

    fresh: list[Delivery]
    skipped: list[Delivery]
    """Committed before; to be acknowledged and not written again."""
    unproven: list[Entry]
    """What of the list the broker had no PUBACK for."""


class Redelivery:
    """Decides what of a resumed session's first run is committed already; used up by its verdict.

    Deliveries that look like the head of the redelivered run are held until the run proves to be
    a suffix of the list (all skipped) or not (all fresh).
    """

    def __init__(self, pending: Sequence[Entry]) -> None:
        """Compare with *pending*, the list stored with the last COMMIT; not empty."""
        self._pending = list(pending)
        self._next: int | None = None
        self._held: list[Delivery] = []

    @property
    def held(self) -> int:
        """Deliveries held that count neither as skipped nor as fresh yet."""
        return len(self._held)

    def feed(self, delivery: Delivery) -> Verdict | None:
        """Take one QoS 1 delivery: None while it is held, else the verdict on all so far."""
        if not delivery.flags & DUP:
            return Verdict([*self._held, delivery], [], [])
        entry = entry_of(delivery)
        if self._next is None:
            if entry not in self._pending:
                return Verdict([delivery], [], [])
            self._next = self._pending.index(entry)
        if self._pending[self._next] != entry:
            return Verdict([*self._held, delivery], [], [])
        self._held.append(delivery)
        self._next += 1
        if self._next < len(self._pending):
            return None
        return Verdict([], self._held, self._pending[-len(self._held) :])

    def sort_out(self, deliveries: Sequence[Delivery]) -> tuple[list[Delivery], Verdict | None]:
        """Take several, of any QoS: give those that are fresh by now, and the verdict if it is reached."""
        fresh: list[Delivery] = []
        verdict: Verdict | None = None
        for delivery in deliveries:
            if verdict is not None or not delivery.flags & QOS:
                fresh.append(delivery)
            elif (verdict := self.feed(delivery)) is not None:
                fresh += verdict.fresh
        return fresh, verdict

    def give_up(self) -> Verdict:
        """End the comparison: whatever is held is fresh, since the run stopped short of a suffix."""
        return Verdict(self._held, [], [])
