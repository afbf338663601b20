"""`ingest reconcile`: prints both ledgers by gateway, what the tables hold, and where readings lack."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from ingest.commands.letter_options import moment
from ingest.commands.report import print_json, print_line, print_table, remark
from ingest.errors import ConfigurationError
from ingest.operate.reconcile import Question, reconcile
from ingest.operate.reconcile_judge import judge

if TYPE_CHECKING:
    import asyncpg

    from ingest.commands.invocation import Invocation
    from ingest.operate.gaps import Sensor
    from ingest.operate.reconcile import Findings
    from ingest.operate.reconcile_judge import Verdict

MESSAGES: Final = ("received", "committed", "skipped", "ignored")
READINGS: Final = ("decoded", "written", "duplicate", "rejected", "nulls")
_GATEWAY_COLUMNS: Final = ("tenant", "gateway", *MESSAGES, *READINGS, "dead letters", "clock")
_SENSOR_COLUMNS: Final = (
    "greenhouse", "sensor", "type", "every s", "readings", "expected", "%",
    "gaps", "longest s", "from", "until", "silent"
)  # fmt: skip


def run(
    invocation: Invocation,
    *,
    since: str,
    until: str | None,
    tenant: str | None,
    gateway: str | None,
    max_gaps: int | None,
    complete: float | None,
    as_json: bool,
) -> int:
    """Print the account of a range of time. Returns 1 when a ledger does not add up or readings lack."""
    now = datetime.now(UTC)
    question = _question(since, until, tenant, gateway, now)
    settings = invocation.settings("timeseries")
    metadata_dsn = None if settings.metadata_dsn is None else settings.dsn("metadata")
    found = asyncio.run(reconcile(settings.dsn("timeseries"), metadata_dsn, question, now))
    replaces = settings.write.conflicting_value == "replace"
    verdict = judge(found, replaces=replaces, max_gaps=max_gaps, complete_pct=complete)
    if as_json:
        print_json(_report(found, verdict))
    else:
        _print(found, verdict)
    return 1 if verdict.faults else 0


def _question(
    since: str, until: str | None, tenant: str | None, gateway: str | None, now: datetime
) -> Question:
    times = []
    for option, text in (("--since", since), ("--until", until)):
        try:
            times.append(now if text is None else min(moment(text, now), now))
        except (ValueError, OverflowError):
            fault = f"{option}: {text!r} is neither ISO 8601 nor like 30m, 12h, 7d"
            raise ConfigurationError([fault]) from None
    if times[0] >= times[1]:
        raise ConfigurationError(["--since: it is not before --until, or not before now"])
    return Question(times[0], times[1], tenant, gateway)


def _print(found: Findings, verdict: Verdict) -> None:
    question, names = found.question, found.names
    print_line(f"by receipt, {_iso(question.first_hour)} to {_iso(question.before_hour)}, whole hours:")
    gateways = [
        (
            names.tenant(row["tenant_id"]),
            row["gateway"],
            *(row[name] for name in (*MESSAGES, *READINGS)),
            found.dead_letters.get(row["gateway"], (0, 0))[1],
            _clock(row),
        )
        for row in found.gateways
    ]
    print_table(_GATEWAY_COLUMNS, gateways, empty="nothing was received")
    print_line("\nrows by the hour of their own time, of the same hours:")
    rows = [
        (
            names.tenant(row["tenant_id"]),
            names.greenhouse(row["greenhouse_id"]),
            *(row[name] for name in ("booked", "stored", "missing", "unbooked")),
        )
        for row in found.rows
    ]
    columns = ("tenant", "greenhouse", "written", "in the table", "gone", "of others")
    print_table(columns, rows, empty="none")
    print_line(f"\nsensors with gaps, {_iso(question.since)} to {_iso(question.until)}:")
    lacking = sorted((each for each in found.sensors if each.pauses.gaps), key=_completeness)
    print_table(_SENSOR_COLUMNS, [_sensor_row(found, each) for each in lacking], empty="none")
    gaps = sum(each.pauses.gaps for each in lacking)
    print_line(f"{len(found.sensors)} sensors, {len(lacking)} with {gaps} gaps")
    print_line("\nsessions; what is in flight is in no table: a message counts with its COMMIT")
    sessions = [
        (row["client_id"], row["unproven"], _iso(row["committed_at"]), row["host"], row["process_id"])
        for row in found.sessions
    ]
    print_table(("client id", "unproven", "last commit", "host", "process"), sessions, empty="none")
    for each in verdict.remarks:
        remark(each)
    print_line("\neverything adds up" if not verdict.faults else "\nDOES NOT ADD UP")
    for fault in verdict.faults:
        print_line(fault)


def _clock(row: asyncpg.Record) -> str:
    """Say what of a gateway's clock is worth a look: from a second on."""
    said = [
        f"{row[name]:.0f} s {word}"
        for name, word in (("ahead_s", "ahead"), ("behind_s", "behind"))
        if (row[name] or 0) >= 1
    ]
    said += [
        f"{row[name]} {word}"
        for name, word in (
            ("clock_future", "in the future"),
            ("clock_ancient", "too old"),
            ("clock_unset", "from 1970"),
        )
        if row[name]
    ]
    return ", ".join(said)


def _completeness(sensor: Sensor) -> float:
    return 100.0 if sensor.pauses.completeness_pct is None else sensor.pauses.completeness_pct


def _sensor_row(found: Findings, sensor: Sensor) -> tuple[object, ...]:
    pauses = sensor.pauses
    longest = pauses.longest[0]
    return (
        found.names.greenhouse(sensor.greenhouse_id),
        found.names.sensor(sensor.sensor_id),
        sensor.sensor_type,
        None if pauses.interval_s is None else f"{pauses.interval_s:g}",
        pauses.readings,
        pauses.expected,
        pauses.completeness_pct,
        pauses.gaps,
        round(longest.seconds),
        _iso(longest.began_at),
        _iso(longest.ended_at),
        None if pauses.silent_since is None else f"since {_iso(pauses.silent_since)}",
    )


def _report(found: Findings, verdict: Verdict) -> dict[str, Any]:
    question, names = found.question, found.names
    return {
        "ok": not verdict.faults,
        "faults": verdict.faults,
        "remarks": verdict.remarks,
        "since": _iso(question.since),
        "until": _iso(question.until),
        "hours": {"from": _iso(question.first_hour), "before": _iso(question.before_hour)},
        "gateways": [
            {
                "tenant_id": _text(row["tenant_id"]),
                "tenant": names.tenant(row["tenant_id"]),
                "gateway": row["gateway"],
                "messages": {name: row[name] for name in MESSAGES},
                "readings": {"null" if name == "nulls" else name: row[name] for name in READINGS},
                "adds_up": row["received"] == sum(row[name] for name in MESSAGES[1:])
                and row["decoded"] == sum(row[name] for name in READINGS[1:]),
                "dead_letters": dict(
                    zip(("messages", "readings"), found.dead_letters.get(row["gateway"], (0, 0)), strict=True)
                ),
                "clock": {
                    "ahead_s": row["ahead_s"],
                    "behind_s": row["behind_s"],
                    "future": row["clock_future"],
                    "ancient": row["clock_ancient"],
                    "unset": row["clock_unset"],
                },
            }
            for row in found.gateways
        ],
        "rows": [
            {
                "tenant": names.tenant(row["tenant_id"]),
                "greenhouse_id": str(row["greenhouse_id"]),
                "greenhouse": names.greenhouse(row["greenhouse_id"]),
                **{name: row[name] for name in ("booked", "stored", "missing", "unbooked")},
                "missing_hours": [_iso(hour) for hour in row["missing_hours"]],
            }
            for row in found.rows
        ],
        "sensors": [_sensor_report(found, each) for each in found.sensors],
        "sessions": [
            {
                "client_id": row["client_id"],
                "unproven": row["unproven"],
                "claimed_at": _iso(row["claimed_at"]),
                "committed_at": _iso(row["committed_at"]),
                "host": row["host"],
                "process_id": row["process_id"],
            }
            for row in found.sessions
        ],
    }


def _sensor_report(found: Findings, sensor: Sensor) -> dict[str, Any]:
    pauses = sensor.pauses
    return {
        "sensor_id": str(sensor.sensor_id),
        "sensor": found.names.sensor(sensor.sensor_id),
        "greenhouse": found.names.greenhouse(sensor.greenhouse_id),
        "sensor_type": sensor.sensor_type,
        "interval_s": pauses.interval_s,
        "registered": sensor.registered,
        "readings": pauses.readings,
        "expected": pauses.expected,
        "completeness_pct": pauses.completeness_pct,
        "gaps": pauses.gaps,
        "longest": [
            {"from": _iso(gap.began_at), "until": _iso(gap.ended_at), "seconds": round(gap.seconds, 3)}
            for gap in pauses.longest
        ],
        "silent_since": _iso(pauses.silent_since),
    }


def _text(thing: object) -> str | None:
    return None if thing is None else str(thing)


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
