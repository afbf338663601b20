"""`ingest normalize`: gives legacy rows their ids, shows how far it is, and says what it could not do.

Owns the exit code: 0 every row has its ids, 1 rows remain without, 2 no consent to what cannot be
taken back, 130 interrupted.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from ingest.commands.consent import require_consent
from ingest.commands.ending import carried_out, ended
from ingest.commands.report import print_counts, print_json, print_line, print_table, remark
from ingest.operate.normalize import normalize, recompute_noted_hours
from ingest.operate.normalize_legacy import count_legacy_names, drop_legacy_columns

if TYPE_CHECKING:
    from collections.abc import Callable

    from ingest.commands.invocation import Invocation
    from ingest.operate.normalize_report import Report
    from ingest.operate.progress import Progress

_NOTHING_TO_DROP: Final = "nothing to drop: the columns are gone already"


def run(
    invocation: Invocation, *, dry_run: bool, rate_rows_s: float | None, refresh: bool, as_json: bool
) -> int:
    """Map legacy rows and print the report; with *refresh* also compute the noted hours again at the end."""
    settings = invocation.settings("metadata", "timeseries")

    async def work(stop: asyncio.Event, on_progress: Callable[[Progress], None]) -> Report:
        report = await normalize(
            settings, dry_run=dry_run, rate_rows_s=rate_rows_s, stop=stop, on_progress=on_progress
        )
        if refresh and not dry_run and not report.interrupted:
            done = await recompute_noted_hours(settings, stop=stop, on_progress=on_progress)
            report.hours_computed, report.hours_noted = done
            report.interrupted = stop.is_set() and report.hours_noted > 0
        return report

    return ended(carried_out(work), _print, as_json=as_json, again="run `ingest normalize` again")


def drop_columns(invocation: Invocation, *, dry_run: bool, yes: bool, as_json: bool) -> int:
    """Drop the columns with names, once no row needs them, after saying how many rows have any."""
    settings = invocation.settings("metadata", "timeseries")
    if dry_run or not yes:
        names = asyncio.run(count_legacy_names(settings))
        what = (
            f"iot.sensor_readings.sensor_type (something in {names.sensor_types} rows) and .unit "
            f"(in {names.units} rows) would be dropped for good"
        )
        if dry_run:
            if as_json:
                print_json({"dry_run": True, **names._asdict()})
            else:
                print_line(what if names.columns else _NOTHING_TO_DROP)
            return 0
        if names.columns:
            question = f"{what}, and an old writer fails from then on. Drop them?"
            require_consent(question, what, "dropped", yes=yes, may_ask=not as_json)
    dropped = asyncio.run(drop_legacy_columns(settings))
    if as_json:
        print_json({"columns_dropped": dropped.columns, "chunks_recompressed": dropped.recompressed})
    elif dropped.columns:
        print_line("dropped: iot.sensor_readings.sensor_type and .unit; the three ids are not null now")
    else:
        print_line(_NOTHING_TO_DROP)
    return 0


def _print(report: Report) -> None:
    would = "would be " if report.dry_run else ""
    print_line(f"{report.found} legacy rows in {report.chunks} chunks, {report.seconds:.1f} s")
    lines = (
        (report.mapped, f"{would}mapped" + (f", {report.no_sensor} of them without a sensor id")),
        (report.merged, f"{would}merged: the same reading in another spelling"),
        (report.differing, "left: another value at the same time, sensor and type"),
        (report.unmapped, "left: a name or greenhouse that the catalog does not know"),
        (report.pending, "not got at: interrupted"),
        (report.arrived, "arrived meanwhile from an old writer: for the next run"),
    )
    print_counts(lines)
    if report.unknown:
        names = ("rows", "why", "name", "first", "last", "what to do")
        table = [
            (one.rows, one.reason, repr(one.name), _minute(one.first), _minute(one.last), one.what_to_do)
            for one in report.most_rows_first()
        ]
        print_table(names, table, empty="")
    if report.examples:
        columns = ("time", "greenhouse", "sensor", "type", "unit", "left", "kept")
        shown = [
            (one.time, one.greenhouse_id, one.sensor_id, one.sensor_type, one.unit, one.value, one.kept_value)
            for one in report.examples
        ]
        print_line(f"readings that differ, the first {len(shown)}: decide which is right, delete the other")
        print_table(columns, shown, empty="")
    if report.hours_computed is not None:
        print_line(f"{report.hours_computed} hours (each of a greenhouse and type) computed again")
    if report.hours_noted:
        remark(
            f"{report.hours_noted} hours (each of a greenhouse and type) are noted: the job "
            "recompute_late_buckets computes their aggregates in its next runs, "
            "`ingest normalize --refresh` at once"
        )


def _minute(moment: object) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"
