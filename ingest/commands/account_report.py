"""The account of a replay, for people and as JSON: what was published, what is there, what is missing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from ingest.commands.moments import iso_us
from ingest.commands.report import print_counts, print_line, print_table, remark
from ingest.load.expected import NO_TIME

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ingest.load.account import Account
    from ingest.load.expected import Missing

_LISTED: Final = 100
"""Of what is missing; with ten thousand the first hundred tell as much."""


def account_json(account: Account, files: Sequence[Path]) -> dict[str, Any]:
    """Give *account* as JSON has it."""
    found = account.judgement
    return {
        "messages": account.messages,
        "ignored": account.ignored,
        "readings": account.readings,
        "landed_once": found.landed,
        "duplicate": found.duplicate,
        "dead": found.dead,
        "dead_only_counted": found.dead_counted,
        "missing": found.missing_readings,
        "null": account.nulls,
        "surplus": found.surplus,
        "first_missing": [_missing(each, files) for each in found.missing[:_LISTED]],
        "latency_s": {
            "p50": _percentile(account.latencies_s, 0.5),
            "p99": _percentile(account.latencies_s, 0.99),
            "max": _percentile(account.latencies_s, 1.0),
            "watched": len(account.latencies_s),
        },
        "there_before": {"looked_for": account.looked_for, "found": account.there_before},
        "complete": account.complete,
    }


def print_account(account: Account, files: Sequence[Path]) -> None:
    """Print *account*."""
    found = account.judgement
    print_line(f"{account.readings} readings in {account.messages} messages:")
    lines = (
        (found.landed, "landed once"),
        (found.duplicate, "duplicates of others of them, absorbed"),
        (found.dead, "in dead letters"),
        (found.dead_counted, "of those only counted, the budget of dead letters being used up"),
        (account.nulls, "more are null, which makes no row"),
        (account.ignored, "messages ignored by rule"),
        (found.surplus, "rows more than were published: stored twice, or somebody else's"),
    )
    print_counts(lines)
    print_line(f"{found.missing_readings:>12} MISSING" if found.missing else f"{0:>12} missing")
    if found.missing:
        rows = [_missing(each, files) for each in found.missing[:_LISTED]]
        print_table(list(rows[0]), [list(row.values()) for row in rows], empty="")
        if len(found.missing) > _LISTED:
            print_line(f"… and {len(found.missing) - _LISTED} more")
    if account.latencies_s:
        p50, p99, most = (_percentile(account.latencies_s, share) for share in (0.5, 0.99, 1.0))
        print_line(
            f"from publishing to the table: p50 {p50} s, p99 {p99} s, max {most} s "
            f"({len(account.latencies_s)} messages watched)"
        )
    if account.there_before:
        remark(
            f"of {account.looked_for} readings looked for before they were published, {account.there_before} "
            "were there already: that a row is there does not say that this replay has brought it"
        )


def _missing(each: Missing, files: Sequence[Path]) -> dict[str, Any]:
    position = each.message.position
    reading = each.reading
    return {
        "file": str(files[position.file]),
        "block": position.offset,
        "message": position.done,
        "topic": each.message.letter[0],
        "field": each.field,
        "sensor_id": None if reading is None else str(reading.place[2]),
        "time": None if reading is None or reading.time_us == NO_TIME else iso_us(reading.time_us),
        "value": None if reading is None else reading.value,
        "why": each.why,
    }


def _percentile(ascending: Sequence[float], share: float) -> float | None:
    """Give the least that *share* of them are no more than; None without any."""
    if not ascending:
        return None
    return round(ascending[max(math.ceil(share * len(ascending)) - 1, 0)], 3)
