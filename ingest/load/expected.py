"""What a worker has to make of the messages that were published: rows by their key, dead letters by payload.

Decodes and resolves each message as the worker does. A reading with a time has a key of its own, and its row
is looked for by it. One without gets the receipt time, which nobody here knows: of each sensor the values are
kept, to be compared with those of the rows since the beginning. Of a message the SHA-256 is kept, not the
payload; measured, 60 MB for 200 000 readings, five in eight of them without a time. Pure.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict, deque
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from ingest.decode import IGNORED
from ingest.storable import storable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from ingest.decode import Decoder
    from ingest.load.replay import Outgoing
    from ingest.load.resume import Position
    from ingest.model import Row
    from ingest.resolve import Resolver

NO_TIME: Final = -1
"""Given to the decoder for the receipt time: no time of a gateway's, judged by when it was sent, is that."""

Place: TypeAlias = "tuple[UUID, int, UUID]"
"""Greenhouse, sensor type, sensor."""
Letter: TypeAlias = "tuple[str, bytes]"
"""Topic and SHA-256 of the payload."""


class Published(NamedTuple):
    """A message that the broker has."""

    position: Position
    letter: Letter


class Reading(NamedTuple):
    """A row that is expected."""

    place: Place
    time_us: int
    """NO_TIME: that of its receipt."""
    value: float
    field: str
    message: Published
    again: bool
    """Whether a message before it had the same key."""


class StoredLetter(NamedTuple):
    """What of a dead letter is compared."""

    fields: frozenset[str] | None
    """The fields rejected; None: all of them, or more than are listed."""


class Missing(NamedTuple):
    """What should be there and is not."""

    message: Published
    field: str
    reading: Reading | None
    """None for a dead letter."""
    why: str


class Expected:
    """See the module's header."""

    def __init__(self, decoder: Decoder, resolver: Resolver) -> None:
        """Begin with nothing; *resolver* has the catalog of now."""
        self._decoder = decoder
        self._resolver = resolver
        self.messages = 0
        self.ignored = 0
        """Messages that are not read, by rule."""
        self.nulls = 0
        self.readings = 0
        """landed + duplicate + dead + missing, in the end."""
        self.landed = 0
        """Readings with a time whose row was found,"""
        self.duplicate = 0
        """and those whose row another of these messages had brought."""
        self.waiting: deque[Reading] = deque()
        """Readings with a time whose row was not found yet."""
        self.timeless: dict[Place, list[Reading]] = defaultdict(list)
        self.timeless_readings = 0
        self.rejected: dict[Letter, list[tuple[Published, int]]] = defaultdict(list)
        """Messages that must have left a dead letter, with how many readings are in it."""
        self.rejected_messages = 0
        self.greenhouses: set[UUID] = set()
        """Of which there are rows to come,"""
        self.time_range_us: tuple[int, int] | None = None
        """and of which times, where the readings have some."""
        self._seen: set[int] = set()

    def rows_of(self, message: Outgoing, sent_us: int) -> Sequence[Row]:
        """Give the rows of *message*; those without a time of their own have NO_TIME."""
        decoded = self._decoder.decode(message.topic, message.payload, NO_TIME, now_us=sent_us)
        return () if decoded is IGNORED else self._resolver.resolve(decoded).rows

    def add(self, message: Outgoing, sent_us: int) -> None:
        """Expect what *message* has to leave."""
        self.messages += 1
        decoded = self._decoder.decode(message.topic, message.payload, NO_TIME, now_us=sent_us)
        if decoded is IGNORED:
            self.ignored += 1
            return
        resolved = self._resolver.resolve(decoded)
        letter = (message.topic, hashlib.sha256(message.payload).digest())
        published = Published(message.position, letter)
        self.nulls += decoded.nulls
        rejections = len(decoded.rejections) + len(resolved.rejections)
        self.readings += rejections + len(resolved.rows)
        if rejections:
            self.rejected[letter].append((published, rejections))
            self.rejected_messages += 1
        for row in resolved.rows:
            self._add(row, published)

    def _add(self, row: Row, published: Published) -> None:
        place = place_of(row)
        self.greenhouses.add(place[0])
        if row.time_us == NO_TIME:
            self.timeless[place].append(Reading(place, NO_TIME, row.value, row.field, published, again=False))
            self.timeless_readings += 1
            return
        first_us, last_us = self.time_range_us or (row.time_us, row.time_us)
        self.time_range_us = min(first_us, row.time_us), max(last_us, row.time_us)
        key = hash((place, row.time_us))
        again = key in self._seen
        self._seen.add(key)
        self.waiting.append(Reading(place, row.time_us, row.value, row.field, published, again))

    def found(self, readings: Sequence[Reading], values: Mapping[int, float]) -> int:
        """Settle those of *readings* whose row has their value, by their number; let the others wait on.

        Returns how many were settled.
        """
        settled = 0
        for number, reading in enumerate(readings):
            if values.get(number) != reading.value:
                self.waiting.append(reading)
                continue
            settled += 1
            if reading.again:
                self.duplicate += 1
            else:
                self.landed += 1
        return settled

    def is_keyed(self, place: Place, time_us: int) -> bool:
        """Whether a reading with a time has this key: its row is no reading's without one."""
        return hash((place, time_us)) in self._seen


def place_of(row: Row) -> Place:
    """Give where *row* belongs."""
    series = row.series
    return series.greenhouse_id, series.sensor_type_id, series.sensor_id


class Judgement(NamedTuple):
    """What became of everything."""

    landed: int
    duplicate: int
    dead: int
    dead_counted: int
    """Of those the ones whose dead letter is only counted, its budget being used up."""
    surplus: int
    """Rows without a time of their own beyond those published: stored twice, or somebody else's."""
    missing: list[Missing]
    missing_readings: int


def judge(
    expected: Expected,
    rows: Mapping[Place, Sequence[tuple[int, float]]],
    letters: Mapping[Letter, Sequence[StoredLetter]],
    counted: Mapping[str, int],
    others: Mapping[tuple[Place, int], float],
    *,
    began_us: int,
) -> Judgement:
    """Compare what is *expected* with what is there.

    *rows* are those of sensors without times since *began_us* and a while before, for clocks differ;
    *letters* the dead letters, *counted* how many readings a topic has past the budget of dead letters ("#":
    all the topics without a count of their own). *others* are the values under the keys of what waits.
    """
    dead_letters = _DeadLetters(letters)
    matched, dead, lost, surplus = _match(expected, rows, began_us, dead_letters)
    late = [reading for reading in expected.waiting if not dead_letters.take(reading)]
    dead += len(expected.waiting) - len(late)
    missing = [Missing(each.message, each.field, each, _why(each, others)) for each in (*late, *lost)]
    missing_readings = len(missing)
    left = Counter(counted)
    dead_counted = 0
    for letter, messages in expected.rejected.items():
        stored_count = len(letters.get(letter, ()))
        dead += sum(readings for _, readings in messages[:stored_count])
        for published, readings in messages[stored_count:]:
            budget = next((name for name in (letter[0][:200], "#") if left[name] >= readings), None)
            if budget is None:
                missing.append(Missing(published, "", None, "no dead letter"))
                missing_readings += readings
            else:
                left[budget] -= readings
                dead += readings
                dead_counted += readings
    landed = expected.landed + matched
    return Judgement(landed, expected.duplicate, dead, dead_counted, surplus, missing, missing_readings)


def _why(reading: Reading, values: Mapping[tuple[Place, int], float]) -> str:
    other = values.get((reading.place, reading.time_us))
    return "no row" if other is None else f"its row has the value {other:g}"


class _DeadLetters:
    """What the dead letters say of readings: each of their fields is one, and none is taken twice.

    A letter of a whole message takes one of each of its fields: of equal messages it is one, whichever.
    """

    def __init__(self, letters: Mapping[Letter, Sequence[StoredLetter]]) -> None:
        self._fields, self._whole = Counter[tuple[Letter, str]](), Counter[Letter]()
        self._taken = Counter[tuple[Letter, str]]()
        for letter, stored in letters.items():
            for each in stored:
                if each.fields is None:
                    self._whole[letter] += 1
                else:
                    self._fields.update((letter, field) for field in each.fields)

    def take(self, reading: Reading) -> bool:
        """Tell whether *reading* is in one; then it is in it no more."""
        letter = reading.message.letter
        if self._fields[letter, storable(reading.field)] > 0:
            self._fields[letter, storable(reading.field)] -= 1
        elif self._taken[letter, reading.field] < self._whole[letter]:
            self._taken[letter, reading.field] += 1
        else:
            return False
        return True


def _match(
    expected: Expected,
    rows: Mapping[Place, Sequence[tuple[int, float]]],
    began_us: int,
    dead_letters: _DeadLetters,
) -> tuple[int, int, list[Reading], int]:
    """Compare the values of readings without a time with the rows of their sensors.

    Gives how many matched, how many are dead, which are lost, and how many rows are surplus. Which reading of
    one value has no row, no row tells: those in dead letters come first. A row from before *began_us* is
    taken where there is no later one, and is never surplus.
    """
    matched = dead = surplus = 0
    lost: list[Reading] = []
    for place, readings in expected.timeless.items():
        since, before = Counter[float](), Counter[float]()
        for time_us, value in rows.get(place, ()):
            if not expected.is_keyed(place, time_us):
                (since if time_us >= began_us else before)[value] += 1
        alike: dict[float, list[Reading]] = defaultdict(list)
        for reading in readings:
            alike[reading.value].append(reading)
        for value, equal in alike.items():
            found = min(len(equal), since[value] + before[value])
            matched += found
            since[value] -= min(found, since[value])
            without = len(equal) - found
            others: list[Reading] = []
            for reading in equal if without else ():
                if without and dead_letters.take(reading):
                    without -= 1
                    dead += 1
                else:
                    others.append(reading)
            lost += others[len(others) - without :]
        surplus += since.total()
    return matched, dead, lost, surplus
