"""However a batch is divided into what goes straight and what is staged, the same is stored and counted."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from ingest.settings import WriteSettings
from tests.batches import WriterUnderTest, batch_of, row, series_of, stored

if TYPE_CHECKING:
    import asyncpg

    from ingest.write.staged import ConflictPolicy


@pytest.mark.parametrize("policy", ["dead_letter", "keep_first", "replace"])
async def test_batches_full_of_rows_sent_again(
    policy: ConflictPolicy, timeseries_dsn: str, connection: asyncpg.Connection
) -> None:
    choose = random.Random(policy)  # noqa: S311 - a test's traffic
    series = [series_of() for _ in range(4)]
    expected: dict[int, float] = {}
    ways: set[bool] = set()
    async with WriterUnderTest(timeseries_dsn, WriteSettings(conflicting_value=policy)) as writer:
        for number in range(40):
            rows, written, duplicate = [], 0, 0
            for _ in range(choose.randrange(1, 30)):
                # Four series with times of their own: a time tells the series. Mostly new, some sent again.
                which = choose.randrange(4)
                new, any_so_far = number * 10 + choose.randrange(10), choose.randrange(number * 10 + 10)
                step = choose.choice([new] * 6 + [any_so_far])
                value = float(choose.choice([1, 1, 1, 2]))
                after_us = step * 4 + which
                rows.append(row(series[which], value, after_us))
                before = expected.get(after_us)
                if before is None:
                    written += 1
                elif before == value or policy == "keep_first":
                    duplicate += 1
                elif policy == "replace" and not any(each.time_us == rows[-1].time_us for each in rows[:-1]):
                    written += 1
                if before is None or policy == "replace":
                    expected[after_us] = value
            outcome = await writer.commit(batch_of(rows))
            ways.add(outcome.staged)
            counts = outcome.counts
            assert counts.written + counts.duplicate + counts.rejected == len(rows)
            if policy != "replace":  # of two in one batch either may count as the one that is written
                assert (counts.written, counts.duplicate) == (written, duplicate)
        assert not writer.faults
    assert dict(await stored(connection)) == expected
    assert ways == {True, False}
