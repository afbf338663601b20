"""A backfill whose file of rejected messages, or whose point, cannot be written: nothing is passed over."""

from __future__ import annotations

import os
import resource
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from ingest.errors import RecordingError
from tests.histories import register, rows
from tests.recordings import Backfills, messages_in, recorded, write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ingest.load.direct_point import DirectPoint


@pytest.fixture
async def backfills(plain_dsn: str) -> Backfills:
    await register(plain_dsn)
    return Backfills(plain_dsn)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give a recording of 40 blocks, half of them with a message nobody can take and gzip cannot shorten."""
    payloads = [{"SENSOR_01": number} if number % 100 else os.urandom(500) for number in range(2_000)]
    messages = [recorded(payload, number) for number, payload in enumerate(payloads)]
    return write(tmp_path / "a.jsonl.gz", messages, block=50)


@contextmanager
def disk_of(size_bytes: int) -> Iterator[None]:
    """Let no file grow beyond *size_bytes*: EFBIG comes where ENOSPC would."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("connections", [1, 3])
async def test_a_full_disk_passes_over_no_rejected_message(
    backfills: Backfills, path: Path, tmp_path: Path, connections: int
) -> None:
    rejected = tmp_path / "r.jsonl.gz"
    with disk_of(8_000):
        report = await backfills(path, connections=connections, rejected=rejected, batch=50)
    assert f"{rejected} cannot be written" in (report.failure or "")
    kept = messages_in(rejected)
    assert 0 < len(kept) < 20
    assert report.account.incomplete == len(kept)
    assert report.account.messages == 100 * len(kept), "nothing behind is counted"
    assert backfills.point == report.point
    report = await backfills(path, connections=connections, rejected=rejected, batch=50, resume=True)
    assert (report.failure, report.account.messages, report.account.incomplete) == (None, 2_000, 20)
    assert [each.received_us for each in messages_in(rejected)] == [
        each.received_us for each in messages_in(path)[::100]
    ]
    assert len(await rows(backfills.dsn)) == 1_980


async def test_a_point_that_cannot_be_kept_is_not_reached(
    backfills: Backfills, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rejected, keep = tmp_path / "r.jsonl.gz", backfills.keep

    def keep_some(point: DirectPoint) -> None:
        if point.account.messages >= 500:
            raise RecordingError("the resume point cannot be kept")
        keep(point)

    monkeypatch.setattr(backfills, "keep", keep_some)
    report = await backfills(path, connections=2, rejected=rejected, batch=50)
    assert report.failure == "the resume point cannot be kept"
    assert report.point == backfills.point
    assert (report.account.messages, report.account.incomplete) == (450, 5)
    monkeypatch.setattr(backfills, "keep", keep)
    report = await backfills(path, connections=2, rejected=rejected, batch=50, resume=True)
    assert (report.failure, report.account.messages) == (None, 2_000)
    assert len(messages_in(rejected)) == 20, "none twice"


async def test_where_it_begins_is_kept_before_anything_is_rejected(
    backfills: Backfills, path: Path, tmp_path: Path
) -> None:
    rejected = tmp_path / "r.jsonl.gz"
    await backfills(path, rejected=rejected)
    first = backfills.points[0]
    assert (first.account.messages, first.finished, first.rejected) == (0, False, str(rejected))
    backfills.point = first  # killed between the first rejected messages and their point
    report = await backfills(path, rejected=rejected, resume=True)
    assert (report.failure, len(messages_in(rejected))) == (None, 20)
