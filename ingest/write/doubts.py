"""Doubts: which rows of a batch may be stored already, so that only they take the slow way in.

A COPY fails whole on one key that exists, and all of its work is done again through the temporary table.
Once that happened rows are divided for a while: those newer than all seen of their series go straight, the
others are suspects. Pure, and decides nothing of what is stored: a straight COPY that fails although it
had no suspect goes the staged way, like any other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingest.model import Row

CALM_AFTER: Final = 100
"""Batches in a row without a duplicate, after which no row is suspected: 0.1 µs a row saved."""
_MOST_STAGED: Final = 16
"""Batches that go the staged way as a whole between two tries to divide one."""


class Doubts:
    """See the module's header; one to a writer."""

    def __init__(self) -> None:
        """Begin calm: everything goes straight."""
        self._period = 0
        """Of doubts: what was met in another says nothing of what is stored by now."""
        self._calm_in = 0
        """Batches without a duplicate until then; 0 when calm."""
        self._failures = 0
        """Divided batches in a row whose straight part held a duplicate: a stretch of history sent again."""
        self._staged_for = 0

    def divide(self, rows: Sequence[Row]) -> tuple[Sequence[Row], Sequence[int]]:
        """Give the rows that go straight, and the numbers of the suspects, each in order.

        A series that is met for the first time since doubts began is suspect: what is stored of it is not
        known. Of two rows with one key the second is.
        """
        if not self._calm_in:
            return rows, ()
        straight: list[Row] = []
        suspects: list[int] = []
        period = self._period
        for number, row in enumerate(rows):
            series, time_us, _, _, _ = row
            if series.doubted_in != period:
                series.doubted_in, series.newest_us = period, time_us
                suspects.append(number)
            elif series.newest_us < time_us:
                series.newest_us = time_us
                straight.append(row)
            else:
                suspects.append(number)
        if self._staged_for:
            self._staged_for -= 1
            return (), range(len(rows))
        return straight, suspects

    def failed(self, rows: Sequence[Row]) -> None:
        """Hear that a straight COPY met a key that exists; all of *rows* then went the staged way."""
        if not self._calm_in:
            self._period += 1
            self._failures = self._staged_for = 0
            self._calm_in = CALM_AFTER
            self.divide(rows)
            return
        self._failures += 1
        self._staged_for = min(2**self._failures, _MOST_STAGED)

    def committed(self, *, divided: bool, duplicates: int) -> None:
        """Hear what became of a batch; *divided* where a part of it went straight."""
        if not self._calm_in:
            return
        if divided:
            self._failures = 0
        self._calm_in = CALM_AFTER if duplicates else self._calm_in - 1
