"""What is wrong with what `reconcile` found, in the operator's words. Pure.

Exact, and a fault where it fails: each ledger of each gateway and hour; the sum of all hours against the
totals of the session; the rows booked for an hour of readings against those the table has; dead letters
beyond the rejected readings. Not comparable, and so only remarked on: dead letters that are fewer (they are
replayed and purged), rows that are booked nowhere (a legacy writer's, some that were put in by hand).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    import asyncpg

    from ingest.operate.reconcile import Findings

_HOURS_NAMED = 5


class Verdict(NamedTuple):
    """Empty ``faults``: everything that can be compared exactly is equal."""

    faults: list[str]
    remarks: list[str]


def judge(
    found: Findings, *, replaces: bool, max_gaps: int | None = None, complete_pct: float | None = None
) -> Verdict:
    """Say what does not add up, and which sensors lack more than *max_gaps* or *complete_pct* allow.

    With *replaces* (write.conflicting_value = "replace") a row counts again when it is overwritten, so
    that rows cannot be compared.
    """
    faults = [*_unbalanced(found), *_totals(found)]
    remarks = [] if found.names.remark is None else [found.names.remark]
    for fault, remark in (_letters(found), _rows(found, replaces=replaces)):
        faults += fault
        remarks += remark
    faults += _gaps(found, max_gaps, complete_pct)
    return Verdict(faults, remarks)


def hour_text(time: datetime) -> str:
    """Write the start of an hour, UTC."""
    return f"{time:%Y-%m-%dT%H:00Z}"


def _unbalanced(found: Findings) -> Iterator[str]:
    for row in found.unbalanced:
        place = f"gateway {row['gateway']} at {hour_text(row['hour'])} (session {row['client_id']})"
        for whole, parts in (
            ("received", ("committed", "skipped", "ignored")),
            ("decoded", ("written", "duplicate", "rejected", "nulls")),
        ):
            total = sum(row[part] for part in parts)
            if row[whole] != total:
                sums = " + ".join(f"{row[part]} {part}" for part in parts)
                yield f"{place}: {row[whole]} {whole}, but {sums} = {total}: {_off(row[whole] - total)}"


def _off(difference: int) -> str:
    return f"{difference} unaccounted for" if difference > 0 else f"{-difference} too many"


def _totals(found: Findings) -> Iterator[str]:
    for row in found.totals:
        yield (
            f"session {row['client_id']}: its total of {row['counter']} is {row['counted']}, "
            f"its hours add up to {row['booked']}"
        )


def _letters(found: Findings) -> tuple[list[str], list[str]]:
    rejected: dict[str | None, int] = {}
    for row in found.gateways:
        rejected[row["gateway"]] = rejected.get(row["gateway"], 0) + row["rejected"]
    faults, gone = [], 0
    whole = found.question.tenant is None and found.question.gateway is None
    for gateway in sorted({*rejected, *(found.dead_letters if whole else ())}, key=str):
        stored = found.dead_letters.get(gateway, (0, 0))[1]
        booked = rejected.get(gateway, 0)
        if stored > booked:
            faults.append(
                f"gateway {gateway}: {booked} readings were rejected, its dead letters hold {stored}"
            )
        gone += max(booked - stored, 0)
    remark = f"{gone} rejected readings are not among the dead letters any more: replayed or purged"
    return faults, [remark] if gone else []


def _rows(found: Findings, *, replaces: bool) -> tuple[list[str], list[str]]:
    if replaces:
        how = 'with write.conflicting_value = "replace" one row is written several times'
        return [], [f"rows are not compared: {how}"]
    unbooked = sum(row["unbooked"] for row in found.rows)
    remark = f"{unbooked} rows are booked nowhere: a legacy writer's, or put in by hand"
    faults = [
        f"{_place(found, row)}: {row['missing']} rows are gone that were written, {_hours(row)}"
        for row in found.rows
        if row["missing"]
    ]
    return faults, [remark] if unbooked else []


def _place(found: Findings, row: asyncpg.Record) -> str:
    greenhouse = found.names.greenhouse(row["greenhouse_id"])
    return f"greenhouse {greenhouse} of tenant {found.names.tenant(row['tenant_id'])}"


def _hours(row: asyncpg.Record) -> str:
    hours = row["missing_hours"]
    named = ", ".join(hour_text(hour) for hour in hours[:_HOURS_NAMED])
    more = f" and {len(hours) - _HOURS_NAMED} hours more" if len(hours) > _HOURS_NAMED else ""
    return f"of the hour {named}" if len(hours) == 1 else f"of the hours {named}{more}"


def _gaps(found: Findings, max_gaps: int | None, complete_pct: float | None) -> Iterator[str]:
    gaps = sum(sensor.pauses.gaps for sensor in found.sensors)
    if max_gaps is not None and gaps > max_gaps:
        lacking = [sensor for sensor in found.sensors if sensor.pauses.longest]
        worst = max(lacking, key=lambda sensor: sensor.pauses.longest[0].seconds)
        gap = worst.pauses.longest[0]
        yield (
            f"{gaps} gaps, {max_gaps} are allowed; the longest: "
            f"sensor {found.names.sensor(worst.sensor_id)}, "
            f"{gap.seconds:.0f} s from {gap.began_at:%Y-%m-%dT%H:%M:%SZ}"
        )
    for sensor in found.sensors:
        pauses = sensor.pauses
        complete = pauses.completeness_pct
        if complete_pct is not None and complete is not None and complete < complete_pct:
            yield (
                f"sensor {found.names.sensor(sensor.sensor_id)}: {pauses.readings} of {pauses.expected} "
                f"readings, {complete:g} % where {complete_pct:g} % are asked for"
            )
