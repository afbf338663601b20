"""The account of a chaos run: what was published against what the tables hold. Pure.

What must be there, for a message that its gateway sees acknowledged (PUBACK) by the broker:

- With a time: its row exactly once, however often anybody sent it.
- Without a time: its row at least once, and at most as often as its gateway sent it: once, unless it was
  sent again. Dead letters have no unique key, so theirs count like this too, with a time or without.
- A row and a dead letter of one message are committed together or not at all.

What a broker killed with -9 takes back (config/mosquitto.conf: its file is written anew after 1 000 changes):

- What it acknowledged to gateways after it last wrote its file, if the worker had not committed it: such a
  message may be missing. The file's time tells exactly which: Mosquitto has one thread, so a PUBACK that a
  gateway had before that time is of a message in the file.
- The worker's PUBACKs since then: it sends those messages again, as new ones or under other packet ids. So
  what has no time may be stored once more, each time it was sent, for each such crash between its copies.

What no PUBACK came for may be there or not; the limits upwards hold for it all the same.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.acceptance.chaos_gateways import Published

SHOWN = 20


class Crash(NamedTuple):
    """One kill -9 of the broker; times in s since 1970."""

    saved_s: float
    """When the file was last written from which it started again."""
    killed_s: float
    up_s: float


class Stored(NamedTuple):
    """What the tables hold of one message: the times of its rows and of its dead letters, s since 1970.

    A dead letter's time, and that of a row without a time of its own, is the receipt by the worker.
    """

    rows: list[float]
    letters: list[float]


@dataclass
class Account:
    """The numbers of the table, and every violation in words."""

    numbers: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def take(
        self, published: Sequence[Published], stored: Mapping[int, Stored], crashes: Sequence[Crash]
    ) -> None:
        """Judge each message; see the module's header."""
        self.numbers.update(dict.fromkeys(ROWS, 0))
        for each in published:
            self._judge(each, stored.get(each.number, Stored([], [])), crashes)
        for number in stored.keys() - {each.number for each in published}:
            self.violations.append(f"{number}: stored, and never published")

    def add_up(self, counters: Mapping[str, int], *, rows: int, rejections: int) -> None:
        """Hold both ledgers, as the worker stored them, against themselves and the tables."""
        for left, right in (("received", MESSAGES), ("decoded", READINGS)):
            total = sum(counters[name] for name in right)
            if counters[left] != total:
                self.violations.append(f"{left} {counters[left]} is not {total}, the sum of {right}")
        for counter, held in (("written", rows), ("rejected", rejections)):
            if counters[counter] != held:
                self.violations.append(f"the counter {counter} says {counters[counter]}, the table {held}")

    def _judge(self, each: Published, stored: Stored, crashes: Sequence[Crash]) -> None:
        kind, numbers = each.kind, self.numbers
        name = f"{each.number} ({kind.name}, sent {each.sends} times)"
        numbers["published"] += 1
        numbers["sent again by the gateway"] += each.sends > 1
        numbers["acknowledged by the broker"] += each.acknowledged_s is not None
        if (stored.rows and not kind.row) or (stored.letters and not kind.letter):
            self.violations.append(f"{name}: {len(stored.rows)} rows, {len(stored.letters)} dead letters")
        if kind.row and kind.letter and sorted(stored.rows) != sorted(stored.letters):
            self.violations.append(f"{name}: rows of {stored.rows}, dead letters of {stored.letters}")
        copies = stored.rows if kind.row else stored.letters
        if not copies:
            self._missing(each, name, crashes)
            return
        what = (
            "with a time" if kind.row and kind.timed else "without a time" if kind.row else "rejected whole"
        )
        numbers[f"{what}: once"] += len(copies) == 1
        if each.acknowledged_s is None:
            numbers["stored without a PUBACK to the gateway"] += 1
        if len(copies) == 1:
            return
        between = [c for c in crashes if min(copies) < c.up_s and max(copies) > c.killed_s]
        most = 1 if kind.row and kind.timed else each.sends * (1 + len(between))
        if len(copies) > most:
            self.violations.append(f"{name}: stored {len(copies)} times, {most} at most; at {sorted(copies)}")
        elif each.sends > 1:
            numbers["more than once: sent again by the gateway"] += 1
        else:
            numbers["more than once: PUBACKs forgotten by a crashed broker"] += 1

    def _missing(self, each: Published, name: str, crashes: Sequence[Crash]) -> None:
        at_s = each.acknowledged_s
        if at_s is None:
            self.numbers["neither acknowledged nor stored"] += 1
        elif any(crash.saved_s < at_s < crash.up_s for crash in crashes):
            self.numbers["acknowledged and forgotten by a crashed broker"] += 1
        else:
            self.violations.append(f"{name}: acknowledged at {at_s:.3f}, and lost")


MESSAGES = ("committed", "skipped", "ignored")
READINGS = ("written", "duplicate", "rejected", "null")
ROWS = (
    "published",
    "sent again by the gateway",
    "acknowledged by the broker",
    "with a time: once",
    "without a time: once",
    "rejected whole: once",
    "more than once: sent again by the gateway",
    "more than once: PUBACKs forgotten by a crashed broker",
    "stored without a PUBACK to the gateway",
    "acknowledged and forgotten by a crashed broker",
    "neither acknowledged nor stored",
)
