"""A batch: what arrived since the last COMMIT, in arrival order, with everything its COMMIT needs.

Pure: no clock, no database. One batch is one transaction: rows, dead letters and the journal entry
of all its messages. Messages are kept in parallel lists, not objects: one is added for each packet.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID, uuid4

from ingest.model import UNPLACED, Gateway

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ingest.model import Delivery, Rejection, Row


def message_bytes(delivery: Delivery) -> int:
    """Give the memory *delivery* takes, near enough for a bound: hostile topics have 64 KiB each."""
    topic = delivery.topic
    return len(delivery.payload) + len(topic) * (1 if topic.isascii() else 4)


class DeadLetter(NamedTuple):
    """One row of `iot.ingest_dead_letters`: one message and the fields it lost."""

    receipt_us: int
    topic: str
    payload: bytes
    tenant_id: UUID | None
    rejections: tuple[Rejection, ...]
    missing: frozenset[str] = frozenset()
    """The names the catalog lacked: a newer one that has them heals it."""
    gateway: str = UNPLACED.name


@dataclass(slots=True)
class Counts:
    """Both ledgers, as numbers to be added to a total.

    Messages: received = committed + skipped + ignored + in flight.
    Readings: decoded = written + duplicate + rejected + null.
    """

    received: int = 0
    committed: int = 0
    skipped: int = 0
    ignored: int = 0
    decoded: int = 0
    written: int = 0
    duplicate: int = 0
    rejected: int = 0
    null: int = 0

    def plus(self, other: Counts) -> Counts:
        """Give the sum of both."""
        return Counts(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))

    def as_dict(self) -> dict[str, int]:
        """Give the numbers by name, in ledger order."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(slots=True)
class Batch:
    """See the module's header."""

    batch_id: UUID = field(default_factory=uuid4)
    deliveries: list[Delivery] = field(default_factory=list)
    receipts_us: list[int] = field(default_factory=list)
    gateways: list[Gateway] = field(default_factory=list)
    row_starts: list[int] = field(default_factory=list)
    """For each message, the index of its first row."""
    rows: list[Row] = field(default_factory=list)
    rejections: dict[int, list[Rejection]] = field(default_factory=dict)
    """By message index; only messages that lost a field."""
    tenants: dict[int, UUID] = field(default_factory=dict)
    """By message index; only where a rejection wants it."""
    curable: dict[int, frozenset[str]] = field(default_factory=dict)
    """By message index, the names the catalog did not know: worth a second look before the COMMIT."""
    catalog_version: str | None = None
    """The catalog under which the first of them was unknown."""
    nulls_of: dict[int, int] = field(default_factory=dict)
    """By message index; only messages that have some."""
    ignored_at: list[int] = field(default_factory=list)
    """The indexes of the messages that are none of ours by rule."""
    skipped: Counter[tuple[int, Gateway]] = field(default_factory=Counter)
    """What the journal knew of before it, by receipt time (µs since 1970) and gateway: counted with it."""
    payload_bytes: int = 0
    nulls: int = 0
    rejected: int = 0

    def __len__(self) -> int:
        """Count the messages."""
        return len(self.deliveries)

    def add(
        self,
        delivery: Delivery,
        receipt_us: int,
        rows: Iterable[Row] = (),
        rejections: list[Rejection] | None = None,
        tenant_id: UUID | None = None,
        *,
        gateway: Gateway = UNPLACED,
        nulls: int = 0,
    ) -> int:
        """Append one message with its rows, rejections and nulls; give its index."""
        index = len(self.deliveries)
        self.deliveries.append(delivery)
        self.receipts_us.append(receipt_us)
        self.gateways.append(gateway)
        self.row_starts.append(len(self.rows))
        self.rows += rows
        self.payload_bytes += message_bytes(delivery)
        if rejections:
            self.rejections[index] = rejections
            self.rejected += len(rejections)
            if tenant_id is not None:
                self.tenants[index] = tenant_id
        if nulls:
            self.nulls_of[index] = nulls
            self.nulls += nulls
        return index

    def add_plain(
        self,
        deliveries: Sequence[Delivery],
        receipts_us: Iterable[int],
        rows: Sequence[Row],
        gateways: Iterable[Gateway],
    ) -> None:
        """Append messages that are one row each and nothing else: what nearly every message is."""
        self.deliveries += deliveries
        self.receipts_us += receipts_us
        self.gateways += gateways
        self.row_starts += range(len(self.rows), len(self.rows) + len(rows))
        self.rows += rows
        # As `message_bytes`, without the call.
        self.payload_bytes += sum(
            [len(payload) + len(topic) * (1 if topic.isascii() else 4) for topic, payload, _, _ in deliveries]
        )

    def ignore(self, delivery: Delivery, receipt_us: int, gateway: Gateway = UNPLACED) -> None:
        """Append one message that is acknowledged, counted and not read."""
        self.ignored_at.append(self.add(delivery, receipt_us, gateway=gateway))

    @property
    def ignored(self) -> int:
        """Count the messages that are none of ours by rule."""
        return len(self.ignored_at)

    @property
    def readings(self) -> int:
        """Rows and rejections: what its COMMIT has to write."""
        return len(self.rows) + self.rejected

    def rows_of(self, index: int) -> list[Row]:
        """Give the rows of message number *index*."""
        end = self.row_starts[index + 1] if index + 1 < len(self.row_starts) else len(self.rows)
        return self.rows[self.row_starts[index] : end]

    def owner(self, row: int) -> int:
        """Give the index of the message that row number *row* came from."""
        return bisect_right(self.row_starts, row) - 1

    def dead_letters(self, refused: dict[int, Rejection]) -> list[DeadLetter]:
        """Give one dead letter for each message that lost a field.

        *refused* adds, by row number, what only the database could tell.
        """
        lost = {index: list(rejections) for index, rejections in self.rejections.items()}
        for row, rejection in refused.items():
            lost.setdefault(self.owner(row), []).append(rejection)
        return [
            DeadLetter(
                self.receipts_us[index],
                self.deliveries[index].topic,
                self.deliveries[index].payload,
                self.tenants.get(index),
                tuple(rejections),
                self.curable.get(index, frozenset()),
                gateway=self.gateways[index].name,
            )
            for index, rejections in sorted(lost.items())
        ]

    def counts(self, *, written: int, duplicate: int, refused: int) -> Counts:
        """Give what this batch adds to the ledgers once it is committed."""
        return Counts(
            committed=len(self.deliveries) - self.ignored,
            ignored=self.ignored,
            decoded=len(self.rows) + self.rejected + self.nulls,
            written=written,
            duplicate=duplicate,
            rejected=self.rejected + refused,
            null=self.nulls,
        )
