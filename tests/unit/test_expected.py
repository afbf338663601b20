"""What is expected of published messages, against rows and dead letters as a database may have them."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from ingest.decode import Decoder, Routes
from ingest.load.expected import Expected, Judgement, Place, StoredLetter, judge
from ingest.load.replay import Outgoing
from ingest.load.resume import Position
from ingest.resolve import Resolver
from ingest.settings import Settings
from tests.unit.catalog_examples import SARA_01, default_rules, example_catalog

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SENT_US = 1_764_147_600_000_000
FLAT = "GREENHOUSE/SARA/01"
SINGLE = f"greenhouse/{SARA_01}/sensors/temperature"


def expecting(*messages: tuple[str, Any]) -> Expected:
    settings = Settings()
    decoder = Decoder(Routes(settings.route, settings.decode.ignore), settings.decode)
    expected = Expected(decoder, Resolver(example_catalog(), default_rules(), out_of_range="quarantine"))
    for number, (topic, body) in enumerate(messages):
        payload = json.dumps(body).encode()
        position = Position(0, 0, number)
        expected.add(Outgoing(number, position, SENT_US, topic, payload, 1, False, None), SENT_US)  # noqa: FBT003
    return expected


def judged(
    expected: Expected,
    *,
    rows: Mapping[Place, Sequence[tuple[int, float]]] | None = None,
    letters: Mapping[tuple[str, bytes], Sequence[StoredLetter]] | None = None,
    counted: Mapping[str, int] | None = None,
) -> Judgement:
    return judge(expected, rows or {}, letters or {}, counted or {}, {}, began_us=SENT_US)


def letter_of(topic: str, body: object) -> tuple[str, bytes]:
    return topic, hashlib.sha256(json.dumps(body).encode()).digest()


def timed(value: float, at_s: int = 0) -> tuple[str, dict[str, object]]:
    return FLAT, {"SENSOR_01": value, "timestamp": SENT_US // 1_000_000 - at_s}


def test_a_reading_with_a_time_is_found_by_its_key_once() -> None:
    expected = expecting(timed(1), timed(2, 1), timed(1), timed(5, 2))
    assert (expected.messages, expected.readings, len(expected.waiting)) == (4, 4, 4)
    readings = [expected.waiting.popleft() for _ in range(4)]
    assert [reading.again for reading in readings] == [False, False, True, False]
    assert expected.found(readings, {0: 1.0, 1: 2.0, 2: 1.0, 3: 6.0}) == 3
    found = judged(expected)
    assert (found.landed, found.duplicate, found.missing_readings) == (2, 1, 1)
    (missing,) = found.missing
    assert (missing.message.position.done, missing.field, missing.why) == (3, "SENSOR_01", "no row")
    others = {(readings[3].place, readings[3].time_us): 6.0}
    why = judge(expected, {}, {}, {}, others, began_us=SENT_US).missing[0].why
    assert why == "its row has the value 6"
    conflict = {letter_of(*timed(5, 2)): [StoredLetter(frozenset({"SENSOR_01"}))]}
    assert judged(expected, letters=conflict)[:4] == (2, 1, 1, 0)


def test_readings_without_a_time_are_compared_by_sensor_and_value() -> None:
    expected = expecting(*[(FLAT, {"SENSOR_01": value}) for value in (1, 1, 2, 3)], timed(9))
    ((place, readings),) = expected.timeless.items()
    assert len(readings) == 4
    keyed = expected.waiting[0]
    assert keyed.place == place
    expected.found([expected.waiting.popleft()], {0: 9.0})
    later = [(SENT_US + 1 + number, value) for number, value in enumerate((1.0, 2.0, 2.0))]
    rows = {place: [(SENT_US - 10, 1.0), (SENT_US - 9, 8.0), *later, (keyed.time_us, 9.0)]}
    found = judged(expected, rows=rows)
    # One 1 of another clock's before is taken, the 8 is nobody's fault, and one 2 is there twice.
    assert (found.landed, found.surplus, found.missing_readings) == (4, 1, 1)
    assert [missing.reading.value for missing in found.missing if missing.reading] == [3.0]


def test_what_is_rejected_has_to_be_a_dead_letter_kept_or_counted() -> None:
    body = {"SENSOR_01": "warm", "SENSOR_02": 1}
    expected = expecting(
        (FLAT, body), (FLAT, body), ("nowhere", 1), ("SYSTEM/x", 1), (FLAT, {"SENSOR_03": None})
    )
    assert (expected.readings, expected.rejected_messages, expected.ignored, expected.nulls) == (5, 3, 1, 1)
    kept = {letter_of(FLAT, body): [StoredLetter(frozenset({"SENSOR_01"}))]}
    ((place, _),) = expected.timeless.items()
    rows = {place: [(SENT_US, 1.0), (SENT_US + 1, 1.0)]}
    found = judged(expected, rows=rows, letters=kept)
    assert (found.landed, found.dead, found.missing_readings) == (2, 1, 2)
    assert {missing.why for missing in found.missing} == {"no dead letter"}
    found = judged(expected, rows=rows, letters=kept, counted={FLAT: 1, "#": 5})
    assert (found.dead, found.dead_counted, found.missing) == (3, 2, [])
    assert found.landed + found.duplicate + found.dead == expected.readings


def test_a_message_dead_as_a_whole_takes_its_readings_with_it() -> None:
    body = {"SENSOR_01": 1, "SENSOR_02": 2}
    expected = expecting((FLAT, body))
    found = judged(expected, letters={letter_of(FLAT, body): [StoredLetter(None)]})
    assert (found.landed, found.dead, found.missing) == (0, 2, [])


def test_a_message_dead_as_a_whole_takes_no_equal_one_with_it() -> None:
    body = {"SENSOR_01": 1, "SENSOR_02": 2}
    single = (SINGLE, {"value": 1})
    expected = expecting(*[(FLAT, body)] * 3, *[single] * 2)
    assert (expected.readings, expected.rejected_messages) == (8, 0)
    letters = {letter_of(*each): [StoredLetter(None)] for each in ((FLAT, body), single)}
    found = judged(expected, letters=letters)
    assert (found.dead, found.missing_readings) == (3, 5)
    assert {missing.field for missing in found.missing} == {"SENSOR_01", "SENSOR_02", ""}
    # What another of them lost by name is not the whole one's.
    letters[letter_of(FLAT, body)] += [StoredLetter(frozenset({"SENSOR_02"}))]
    assert judged(expected, letters=letters).dead == 4


def test_of_equal_values_those_in_dead_letters_are_the_ones_without_a_row() -> None:
    dead, stored = {"SENSOR_01": 1, "SENSOR_02": 2}, {"SENSOR_01": 1, "SENSOR_02": 3}
    for bodies in ((dead, stored, stored), (stored, dead, stored)):
        expected = expecting(*[(FLAT, body) for body in bodies])
        first, second = expected.timeless
        letters = {letter_of(FLAT, dead): [StoredLetter(None)]}
        rows = {first: [(SENT_US, 1.0), (SENT_US + 1, 1.0)], second: [(SENT_US, 3.0), (SENT_US + 1, 3.0)]}
        found = judged(expected, rows=rows, letters=letters)
        assert (found.landed, found.dead, found.missing, found.surplus) == (4, 2, [], 0)
        rows[first].pop()
        found = judged(expected, rows=rows, letters=letters)
        assert (found.landed, found.dead) == (3, 2)
        assert [each.message.letter for each in found.missing] == [letter_of(FLAT, stored)]
