"""What the tables of `ingest status` say of an aggregate: what it lacks, not how old its newest bucket is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ingest.commands.status_tables import print_status
from ingest.operate.names import Names
from ingest.operate.status_facts import Aggregate, Findings

if TYPE_CHECKING:
    import pytest

NOW = datetime(2026, 11, 26, 12, 30, tzinfo=UTC)


def aggregate(name: str, watermark: datetime | None, *, stale: bool) -> Aggregate:
    wanted = NOW - timedelta(minutes=90)
    return Aggregate(name, watermark, wanted, 1, True, None, None, None, 0, 0, stale=stale)  # noqa: FBT003 (as read)


def test_an_aggregate_is_behind_by_what_it_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    found = Findings(
        NOW,
        aggregates=[
            aggregate("idle", NOW - timedelta(days=328), stale=False),
            aggregate("late", NOW - timedelta(hours=5), stale=True),
            aggregate("empty", None, stale=True),
        ],
    )
    print_status(found, [], [], Names())
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    behind = {line[0]: line[1:] for line in lines if line and line[0] in {"idle", "late", "empty"}}
    assert behind == {
        "idle": ["2026-01-02", "12:30", "0", "B"],
        "late": ["2026-11-26", "07:30", "3", "h", "30", "min", "STALE", "0", "B"],
        "empty": ["all", "STALE", "0", "B"],
    }
