"""Which rows are suspected of being stored already, and for how long."""

from __future__ import annotations

from ingest.write.doubts import CALM_AFTER, Doubts
from tests.batches import row, series_of


def test_nothing_is_suspected_before_a_duplicate_was_met() -> None:
    doubts, series = Doubts(), series_of()
    rows = [row(series, 1.0), row(series, 1.0)]
    assert doubts.divide(rows) == (rows, ())
    assert doubts.divide(rows) == (rows, ())


def test_rows_newer_than_all_of_their_series_go_straight() -> None:
    doubts, old, new = Doubts(), series_of(), series_of()
    doubts.failed([row(old, 1.0, 5)])
    rows = [
        row(old, 1.0, 6),  # newer
        row(old, 1.0, 6),  # the same key again
        row(old, 1.0, 4),  # out of order
        row(new, 1.0, 1),  # of a series not met since doubts began
        row(new, 1.0, 2),
        row(old, 1.0, 7),
    ]
    assert doubts.divide(rows) == ([rows[0], rows[4], rows[5]], [1, 2, 3])


def test_doubts_end_after_so_many_batches_without_a_duplicate() -> None:
    doubts, series = Doubts(), series_of()
    doubts.failed([row(series, 1.0)])
    for at in range(CALM_AFTER):
        assert doubts.divide([row(series, 1.0, at - CALM_AFTER)])[1] == [0]
        doubts.committed(divided=False, duplicates=0)
    again = [row(series, 1.0)]
    assert doubts.divide(again) == (again, ())


def test_a_duplicate_keeps_them_up() -> None:
    doubts, series = Doubts(), series_of()
    doubts.failed([row(series, 1.0)])
    for at in range(CALM_AFTER * 2):
        doubts.committed(divided=True, duplicates=at % 50 == 0)
    assert doubts.divide([row(series, 1.0)]) == ([], [0])


def test_a_stretch_sent_again_goes_the_staged_way_whole_for_longer_each_time() -> None:
    doubts, series = Doubts(), series_of()
    doubts.failed([row(series, 1.0)])
    whole: list[int] = []
    for number in range(60):
        rows = [row(series, 1.0, number * 2 + 1), row(series, 1.0, number * 2 + 2)]
        straight, suspects = doubts.divide(rows)
        if straight:  # and is stored already
            doubts.failed(rows)
        else:
            assert suspects == range(2)
            whole.append(number)
        doubts.committed(divided=False, duplicates=2)
    divided = [number for number in range(60) if number not in whole]
    assert divided == [0, 3, 8, 17, 34, 51]


def test_what_was_met_in_an_earlier_period_counts_for_nothing() -> None:
    doubts, series = Doubts(), series_of()
    doubts.failed([row(series, 1.0)])
    for _ in range(CALM_AFTER):
        doubts.committed(divided=True, duplicates=0)
    doubts.failed([row(series_of(), 1.0)])
    assert doubts.divide([row(series, 1.0, 5), row(series, 1.0, 6)])[1] == [0]
