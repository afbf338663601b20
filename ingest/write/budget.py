"""The budget of dead letters: how many are kept in an hour; past it they are counted and sampled.

One broken or hostile gateway must not fill the disk, nor use up what the others have. Each topic has a
budget, and so has each tenant, ten times as large, for all its topics; what the catalog has no place for
shares one of that size. A letter weighs what it stores, in pieces of 4 KiB. Pure and bounded: its clock is
the time of receipt, and of each tenant that the catalog knows, so many topics have a budget of their own.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from ingest.model import CUT_PAYLOAD_BYTES, DETAILED_REJECTIONS, UNPLACED, Reason
from ingest.write.ledger import HOUR_US

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from ingest.write.batch import DeadLetter

TOPICS_OF_A_TENANT: Final = 10
"""A tenant's budget for all its topics together, in budgets of one."""
OWN_TOPICS: Final = 1_000
"""Topics of a tenant with a budget and a count of their own in an hour: some 80 greenhouses' worth."""
SAMPLED: Final = 1_000
"""Past a budget one in so many is kept, a tenth of the budget at most: the fault may change meanwhile."""
SAMPLES_SHARE: Final = 10
PIECE_BYTES: Final = 4_096
EVERY_OTHER: Final = "#"
"""Stands for the topics that have no count of their own; no topic can be called that."""
TOPIC_CHARS: Final = 200

Key: TypeAlias = "str | UUID | None"
"""A topic, a tenant's id, or None for all that have no tenant."""


class Counted(NamedTuple):
    """What dead letters that are not kept are counted under."""

    hour_us: int
    """Start of the hour, µs since 1970-01-01 UTC."""
    gateway: str
    tenant_id: UUID | None
    topic: str
    reason: Reason


@dataclass(slots=True)
class Hour:
    """What became of one hour's dead letters so far."""

    start_us: int = 0
    spent: dict[Key, int] = field(default_factory=dict)
    """Pieces."""
    past: dict[Key, int] = field(default_factory=dict)
    """Messages that came when the budget was used up."""
    named: dict[Key, int] = field(default_factory=dict)
    """Topics with a budget of their own, by tenant."""

    def copy(self) -> Hour:
        """Give one that can be changed."""
        return Hour(self.start_us, dict(self.spent), dict(self.past), dict(self.named))


@dataclass(slots=True)
class Division:
    """Which dead letters of a batch are kept, and how the others are counted."""

    hour: Hour = field(default_factory=Hour)
    """With this batch."""
    kept: list[DeadLetter] = field(default_factory=list)
    counted: int = 0
    """The others: messages."""
    first: bool = False
    """Whether one of them is the first of its hour."""
    messages: Counter[Counted] = field(default_factory=Counter)
    """Messages with at least one reading rejected for the reason."""
    readings: Counter[Counted] = field(default_factory=Counter)


class Budget:
    """See the module's header; one for each writer."""

    def __init__(self, per_topic: int, max_payload_bytes: int | None = None) -> None:
        """Allow a topic *per_topic* pieces an hour. A payload over *max_payload_bytes* is stored cut."""
        self._per_topic = per_topic
        self._max_payload_bytes = max_payload_bytes
        self._hour = Hour()

    def divide(self, letters: Sequence[DeadLetter]) -> Division:
        """Say which of *letters* are kept; nothing is spent before `spend` hears that they are committed."""
        division = Division(self._hour.copy() if letters else self._hour)
        for letter in letters:
            start_us = letter.receipt_us - letter.receipt_us % HOUR_US
            if start_us != division.hour.start_us:  # earlier where the clock was set back
                division.hour = Hour(start_us)
            self._judge(letter, division)
        return division

    def spend(self, division: Division) -> None:
        """Note *division* as committed."""
        self._hour = division.hour

    def _judge(self, letter: DeadLetter, division: Division) -> None:
        hour = division.hour
        owner: Key = None if letter.gateway == UNPLACED.name else letter.tenant_id
        topic = letter.topic[:TOPIC_CHARS]
        limits: list[tuple[Key, int]] = [(owner, self._per_topic * TOPICS_OF_A_TENANT)]
        if owner is not None and _has_own_budget(topic, owner, hour):
            limits.append((topic, self._per_topic))
        else:
            topic = EVERY_OTHER
        exceeded = [key for key, limit in limits if hour.spent.get(key, 0) >= limit]
        if not exceeded:
            pieces = self._pieces(letter)
            for key, _ in limits:
                hour.spent[key] = hour.spent.get(key, 0) + pieces
            division.kept.append(letter)
            return
        division.first |= not hour.past
        number = hour.past[exceeded[0]] = hour.past.get(exceeded[0], 0) + 1
        if number % SAMPLED == 0 and number // SAMPLED <= self._per_topic / SAMPLES_SHARE:
            division.kept.append(letter)
            return
        division.counted += 1
        for reason, readings in Counter(rejection.reason for rejection in letter.rejections).items():
            counted = Counted(hour.start_us, letter.gateway, letter.tenant_id, topic, reason)
            division.messages[counted] += 1
            division.readings[counted] += readings

    def _pieces(self, letter: DeadLetter) -> int:
        payload_bytes = len(letter.payload)
        if self._max_payload_bytes is not None and payload_bytes > self._max_payload_bytes:
            payload_bytes = min(payload_bytes, CUT_PAYLOAD_BYTES)
        listed = letter.rejections[:DETAILED_REJECTIONS]
        texts = sum(len(rejection.field) + len(rejection.detail) for rejection in listed)
        return 1 + (payload_bytes + len(letter.topic) + texts) // PIECE_BYTES


def _has_own_budget(topic: str, owner: Key, hour: Hour) -> bool:
    if topic not in hour.spent:
        named = hour.named.get(owner, 0)
        if named >= OWN_TOPICS:
            return False
        hour.named[owner] = named + 1
        hour.spent[topic] = 0
    return True
