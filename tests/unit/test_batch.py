"""A batch keeps its messages, rows and rejections together, and its counts add up."""

from __future__ import annotations

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from ingest.model import Delivery, Rejection
from ingest.write import Batch, Counts
from tests.batches import NOW_US, row, series_of

SERIES = series_of()


def refused(row_number: int) -> Rejection:
    return Rejection(f"row {row_number}", "database_refused", "no")


@given(
    messages=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), max_size=12),
    picks=st.sets(st.integers(0, 50)),
    nulls=st.integers(0, 5),
)
def test_rows_messages_and_rejections_stay_together(
    messages: list[tuple[int, int]], picks: set[int], nulls: int
) -> None:
    batch = Batch()
    batch.nulls = nulls
    rows_of: list[list[float]] = []
    for number, (rows, rejections) in enumerate(messages):
        values = [float(len(batch.rows) + at) for at in range(rows)]
        index = batch.add(
            Delivery(f"t{number}", b"%d" % number, 2, number + 1),
            NOW_US + number,
            [row(SERIES, value) for value in values],
            [Rejection(f"field {at}", "bad_value", "text") for at in range(rejections)],
        )
        assert index == number
        rows_of.append(values)
    total = sum(len(values) for values in rows_of)
    rejected = sum(rejections for _, rejections in messages)
    assert len(batch) == len(messages)
    assert [[each.value for each in batch.rows_of(index)] for index in range(len(batch))] == rows_of
    for index, values in enumerate(rows_of):
        assert all(batch.owner(int(value)) == index for value in values)
    poisoned = {pick for pick in picks if pick < total}
    letters = batch.dead_letters({number: refused(number) for number in poisoned})
    expected = [
        (f"t{index}", rejections + len(poisoned.intersection(int(value) for value in rows_of[index])))
        for index, (_, rejections) in enumerate(messages)
    ]
    assert [(letter.topic, len(letter.rejections)) for letter in letters] == [
        each for each in expected if each[1]
    ]
    counts = batch.counts(written=total - len(poisoned), duplicate=0, refused=len(poisoned))
    assert counts.decoded == counts.written + counts.duplicate + counts.rejected + counts.null
    assert counts.committed + counts.ignored == len(messages)
    assert counts.decoded == total + rejected + nulls


def test_a_dead_letter_says_what_was_received_and_whose_it_is() -> None:
    batch = Batch()
    batch.add(Delivery("good", b"1", 2, 1), NOW_US)
    batch.add(Delivery("bad", b"2", 2, 2), NOW_US + 5, (), [Rejection("f", "bad_value", "d")], UUID(int=7))
    (letter,) = batch.dead_letters({})
    expected = (NOW_US + 5, "bad", b"2", UUID(int=7), (Rejection("f", "bad_value", "d"),))
    assert letter == (*expected, frozenset(), "(unplaced)")
    assert batch.payload_bytes == len(b"1good") + len(b"2bad")


def test_ignored_messages_are_not_committed_ones() -> None:
    batch = Batch()
    batch.ignore(Delivery("echo", b"", 2, 1), NOW_US)
    batch.add(Delivery("t", b"1", 2, 2), NOW_US, [row(SERIES, 1.0)])
    assert batch.counts(written=1, duplicate=0, refused=0) == Counts(
        committed=1, ignored=1, decoded=1, written=1
    )


@given(st.lists(st.builds(Counts, *[st.integers(0, 9)] * 9), max_size=5))
def test_counts_are_summed_name_by_name(parts: list[Counts]) -> None:
    total = Counts()
    for part in parts:
        total = total.plus(part)
    assert total.as_dict() == {
        name: sum(getattr(part, name) for part in parts) for name in Counts().as_dict()
    }
