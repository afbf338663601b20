"""The tables of `ingest status`: what was found, then what is beyond its threshold and what mends it.

The breaches come last, where a terminal ends and a glance falls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ingest.commands.report import print_line, print_table, remark
from ingest.operate.status_facts import floor2
from ingest.operate.status_judge import span

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from ingest.operate.names import Names
    from ingest.operate.status_facts import Aggregate, Findings
    from ingest.operate.status_judge import Breach

_SHOWN = 10
"""Names, sensors and the like; --json has all of them."""


def print_status(found: Findings, breaches: Sequence[Breach], remarks: Sequence[str], names: Names) -> None:
    """Print everything that was found."""
    _server(found)
    _hypertables(found)
    _aggregates(found)
    _jobs(found)
    _names(found)
    _ingest(found)
    _silent(found, names)
    _dead_letters(found)
    _quality(found)
    for each in remarks:
        remark(each)
    for fault in found.faults:
        print_line(f"\nNOT LOOKED AT: {fault.what}")
    if not breaches:
        partly = "what was seen is well" if found.seen else "nothing of ours was seen"
        print_line(f"\n{partly if found.faults else 'nothing is beyond its threshold'}")
        return
    print_line(f"\nBEYOND ITS THRESHOLD: {len(breaches)}")
    for breach in breaches:
        print_line(f"{breach.check}: {breach.what}\n    {breach.command}")
        if breach.hint:
            print_line(f"    ({breach.hint})")


def _server(found: Findings) -> None:
    server = found.server
    where = "" if server is None else f": TimescaleDB {server.timescaledb} on PostgreSQL {server.postgresql}"
    where += "" if server is None else f", {size(server.bytes)}"
    print_line(f"{minute(found.at)} UTC, {found.seconds:.1f} s{where}")
    forecast = found.forecast
    if forecast is None:
        return
    if found.rows_a_day is not None:
        a_row = (
            "" if forecast.bytes_a_row is None else f", {forecast.bytes_a_row:.1f} bytes each once compressed"
        )
        print_line(f"{found.rows_a_day:,.0f} rows a day{a_row}")
    if forecast.days_left is not None and forecast.capacity_bytes is not None:
        print_line(f"{size(forecast.capacity_bytes)} are full in {forecast.days_left:,.0f} days")


def _hypertables(found: Findings) -> None:
    if found.hypertables is None:
        return
    columns = (
        "hypertable",
        "chunks",
        "compressed",
        "overdue",
        "before",
        "after",
        "saved",
        "size",
        "from",
        "kept for",
    )
    rows = [
        (
            each.name,
            each.chunks,
            each.compressed,
            each.overdue or None,
            size(each.before_bytes),
            size(each.after_bytes),
            None if each.saved_pct is None else f"{each.saved_pct:.1f} %",
            size(each.total_bytes),
            None if each.oldest is None else f"{each.oldest:%Y-%m-%d}",
            each.retain_for or "ever",
        )
        for each in found.hypertables
    ]
    print_line("")
    print_table(columns, rows, empty="no hypertable")


def _aggregates(found: Findings) -> None:
    if found.aggregates is None:
        return
    columns = ("aggregate", "up to", "behind", "", "last run", "result", "took s", "runs", "failed", "size")
    rows = [
        (
            each.name,
            minute(each.watermark),
            _lacks(each),
            "STALE" if each.stale else None,
            minute(each.last_run_started_at),
            each.status,
            seconds(each.duration_s),
            each.runs or None,
            each.failures or None,
            size(each.total_bytes),
        )
        for each in found.aggregates
    ]
    print_line("")
    print_table(columns, rows, empty="no continuous aggregate")
    if found.late is not None and found.late.hours:
        print_line(f"{found.late.hours} hours with late readings wait to be computed again")


def _lacks(aggregate: Aggregate) -> str | None:
    """Say how much an aggregate lacks of what it should have by now: nothing where no readings wait."""
    if not aggregate.stale:
        return None
    if aggregate.watermark is None:
        return "all"
    return span((aggregate.wanted - aggregate.watermark).total_seconds())


def _jobs(found: Findings) -> None:
    if found.jobs is None:
        return
    columns = ("job", "procedure", "of", "next start", "last run", "result", "took s", "runs", "failed")
    rows = [
        (
            each.job_id,
            each.procedure,
            None if each.subject == each.procedure else each.subject,
            minute(each.next_start) if each.scheduled else "disabled",
            minute(each.last_run_started_at),
            each.status,
            seconds(each.duration_s),
            each.runs or None,
            None if not each.failures or each.failure_pct is None else f"{each.failure_pct:.0f} %",
        )
        for each in found.jobs
    ]
    print_line("")
    print_table(columns, rows, empty="no background job")


def _names(found: Findings) -> None:
    rows: list[tuple[object, ...]] = [
        (each.table_name, each.rows, each.lacking or None, f"{floor2(each.pct):.2f} %")
        for each in found.coverage or ()
    ]
    readings = found.readings
    if readings is not None:
        counted = None if readings.enforced else readings.rows
        rows.append(("readings", counted, readings.lacking or None, f"{floor2(readings.pct):.2f} %"))
    print_line("")
    print_table(("names as ids", "rows", "lacking", "with ids"), rows, empty="nothing was counted")
    unmapped: list[tuple[object, ...]] = [
        (f"{each.table_name}.{each.column_name}", repr(each.value), each.mapped_to, each.rows)
        for each in found.unmapped or ()
    ]
    if readings is not None:
        unmapped += [
            ("readings", f"{each.sensor_type!r} in {each.unit!r}", None, each.rows) for each in readings.names
        ]
    if unmapped:
        print_table(("without an id", "name", "id says", "rows"), unmapped[:_SHOWN], empty="")


def _ingest(found: Findings) -> None:
    if found.sessions is None:
        return
    columns = ("session", "host", "process", "last commit", "ago", "unproven", "unfinished starts")
    rows = [
        (
            each.client_id,
            each.host,
            each.process_id,
            minute(each.committed_at),
            None if each.age_s is None else span(each.age_s),
            each.pending_entries,
            each.unfinished_starts or None,
        )
        for each in found.sessions
    ]
    print_line("")
    print_table(columns, rows, empty="no session of a worker")
    rate = found.rate
    if rate is not None and rate.seconds and rate.messages_per_s is not None:
        lag = "" if rate.lag_s is None else f", {max(rate.lag_s, 0):.1f} s after they were measured at least"
        print_line(
            f"{rate.messages_per_s:.1f} messages/s, {rate.readings_per_s:.1f} readings/s "
            f"in the last {span(rate.seconds)}{lag}"
        )


def _silent(found: Findings, names: Names) -> None:
    if found.silent:
        rows = [
            (
                names.greenhouse(each.greenhouse_id),
                names.sensor(each.sensor_id),
                each.expected_interval_s,
                minute(each.last_at) or "not known",
            )
            for each in found.silent[:_SHOWN]
        ]
        print_line("")
        print_table(("greenhouse", "silent sensor", "every s", "last reading"), rows, empty="")
        if len(found.silent) > _SHOWN:
            print_line(f"and {len(found.silent) - _SHOWN} more")


def _dead_letters(found: Findings) -> None:
    letters = found.dead_letters
    if letters is None:
        return
    rows = [(each.reason, each.kept, each.last_day or None, minute(each.newest)) for each in letters.reasons]
    print_line("")
    print_table(("dead letters", "kept", "last 24 h", "newest"), rows, empty="no dead letters")
    if letters.only_counted:
        print_line(
            f"{letters.only_counted} readings of the last 24 h were only counted: their budget was used up"
        )


def _quality(found: Findings) -> None:
    if found.quality is None:
        return
    rows = [(each.type, each.severity, each.issues, minute(each.oldest)) for each in found.quality]
    print_line("")
    print_table(
        ("open data-quality issue", "severity", "issues", "oldest"), rows, empty="no open data-quality issue"
    )


def minute(moment: datetime | None) -> str | None:
    """Say a time to the minute."""
    return None if moment is None else f"{moment:%Y-%m-%d %H:%M}"


def seconds(duration_s: float | None) -> str | None:
    """Say how long something took."""
    return None if duration_s is None else f"{duration_s:.1f}"


def size(count: int) -> str:
    """Say a number of bytes in the unit that fits."""
    amount, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 1000:  # noqa: PLR2004 (of the unit before)
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.1f} {unit}"  # noqa: PLR2004 (as above)
