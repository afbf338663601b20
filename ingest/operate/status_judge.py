"""What of the findings is a breach, and the command that mends each. Pure.

A command is a line for a shell, in which `ingest` reaches both databases; a hint says what no command does.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from ingest.model import NAME_REASONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ingest.operate.status_facts import Aggregate, Findings, Hypertable, Job, Session, Unmapped
    from ingest.operation_settings import StatusSettings

Check: TypeAlias = Literal[
    "names",
    "readings",
    "compression",
    "ratio",
    "retention",
    "aggregates",
    "late_hours",
    "jobs",
    "scheduler",
    "policies",
    "indexes",
    "dead_letters",
    "worker",
    "session",
    "lag",
    "silent_sensors",
    "disk",
]
_MB: Final = 1_000_000
_SHOWN: Final = 3
_FIXED_BY_A_RELEASE: Final = {"worker_fault", "poison"}
_ALIASES: Final = {"sensor_type": ("sensor-type", "TYPE"), "unit": ("unit", "UNIT")}
MISRECORDED: Final = (
    "a known fault of TimescaleDB 2.28.3 on PostgreSQL 15.20 (README, Limits): the job's work was done, only "
    "the record is wrong, and nothing here mends that"
)
_RESTART_SCHEDULER: Final = (
    'psql "${INGEST_TIMESERIES_DSN:-$(cat "$INGEST_TIMESERIES_DSN_FILE")}" '
    '--command="select _timescaledb_functions.restart_background_workers()"'
)


@dataclass(frozen=True, slots=True)
class Breach:
    """Something beyond its threshold."""

    check: Check
    what: str
    command: str
    hint: str | None = None


def judge(found: Findings, limits: StatusSettings) -> list[Breach]:
    """Give every breach, in the order in which they are worth mending."""
    return [
        *_worker(found, limits),
        *_policies(found),
        *_jobs(found),
        *_aggregates(found),
        *_tables(found, limits),
        *_indexes(found),
        *_names(found, limits),
        *_readings(found, limits),
        *_dead_letters(found, limits),
        *_silent(found),
        *_disk(found, limits),
    ]


def remarks(found: Findings) -> Iterator[str]:
    """Say what is no breach and worth knowing."""
    if found.jobs and not any(job.runs for job in found.jobs):
        yield (
            "no job has ever been run here by a scheduler: where there is none, call the jobs by cron "
            "(docs/maintenance.md)"
        )
    if found.sessions is not None and not found.sessions:
        yield "no worker has ever written here"
    if (
        found.readings is not None
        and found.readings.counted < found.readings.chunks
        and not found.readings.enforced
    ):
        counted, chunks = found.readings.counted, found.readings.chunks
        yield (
            f"readings without ids were counted in {counted} of {chunks} chunks, the newest and the oldest; "
            "--count-all counts all of them"
        )
    if found.forecast is not None and found.forecast.remark:
        yield f"when the disk is full: {found.forecast.remark}"


def _worker(found: Findings, limits: StatusSettings) -> Iterator[Breach]:
    sessions = [(each, each.age_s) for each in found.sessions or () if each.age_s is not None]
    stale = [(session, age_s) for session, age_s in sessions if age_s > limits.commit_age_s]
    if len(stale) < len(sessions):
        for session, age_s in stale:
            command, hint = _what_serves(session)
            yield Breach(
                "session",
                f"session {session.client_id!r} has committed nothing for {span(age_s)}, and others have: "
                "the broker keeps messages for it",
                command,
                hint,
            )
    elif stale:
        yield Breach(
            "worker",
            f"no worker has committed anything for {span(min(age_s for _, age_s in stale))}",
            "ingest check",
            "it says what a worker would lack: mend that, or start it (`ingest run`, its unit or container)",
        )
    lag_s = None if found.rate is None else found.rate.lag_s
    if lag_s is not None and lag_s > limits.lag_s:
        yield Breach(
            "lag",
            f"readings arrive {span(lag_s)} after they were measured, from every gateway",
            "ingest check",
            "a backlog is being drained, or the worker's clock is ahead: docs/troubleshooting.md",
        )


def _what_serves(session: Session) -> tuple[str, str]:
    """Give the command and the hint for a session that nobody serves.

    One of a share group is never started by its client id: a worker by itself would subscribe to the bare
    filters, and store what the others store already.
    """
    if session.share_group is not None:
        return "ingest check", (
            "a supervisor of its group adopts it after workers.orphan_after_s, unless its process lives and "
            "hangs: docs/workers.md"
        )
    return f"INGEST_BROKER__CLIENT_ID={shlex.quote(session.client_id)} ingest run", (
        "until it has taken in what waits; one that is not wanted any more: docs/troubleshooting.md"
    )


def _policies(found: Findings) -> Iterator[Breach]:
    if found.policies is None:
        return
    if found.policies.differences:
        told = [f"{each.option} is {each.live}, not {each.wanted}" for each in found.policies.differences]
        yield Breach(
            "policies", f"the database differs from the settings: {some(told)}", "ingest schema apply"
        )
    if found.policies.disabled:
        told = [job.label for job in found.policies.disabled]
        yield Breach("policies", f"disabled: {some(told)}", "ingest schema apply --enable")


def _jobs(found: Findings) -> Iterator[Breach]:
    jobs = found.jobs or ()
    for misrecorded, command, hint in (
        (False, "ingest maintain daily --only jobs --yes", None),
        (True, "ingest maintain daily --only jobs --dry-run", f"it shows them; this is {MISRECORDED}"),
    ):
        failed = [job for job in jobs if job.failed and job.misrecorded is misrecorded]
        if failed:
            told = [f"{label(job)}: {job.error}" if job.error else label(job) for job in failed]
            yield Breach("jobs", f"the last run failed of {some(told)}", command, hint)
    missed = [job for job in jobs if job.missed and job.scheduled and not job.running]
    if missed:
        told = [f"{label(job)}, due at {job.next_start:%Y-%m-%d %H:%M} UTC" for job in missed]
        yield Breach(
            "scheduler",
            f"not started: {some(told)}",
            _RESTART_SCHEDULER,
            "as a superuser; if that does not help, timescaledb.max_background_workers and "
            "max_worker_processes are too low for the databases of this server",
        )


def _aggregates(found: Findings) -> Iterator[Breach]:
    stale = [each for each in found.aggregates or () if each.stale]
    if stale:
        told = [f"{each.name} (has {up_to(each)})" for each in stale]
        yield Breach(
            "aggregates",
            f"readings wait to be aggregated in {some(told, len(told))}",
            "ingest maintain daily --only aggregates --yes",
        )
    late, job = (
        found.late,
        next((each for each in found.jobs or () if each.procedure == "recompute_late_buckets"), None),
    )
    if late is None or late.since is None:
        return
    patience_s = 4 * (job.every_s if job else 900.0)
    waits_s = (found.at - late.since).total_seconds()
    if waits_s > max(patience_s, 3600.0):
        yield Breach(
            "late_hours",
            f"{late.hours} hours with late readings wait to be computed again, for {span(waits_s)}",
            "ingest maintain daily --only aggregates --yes",
        )


def _tables(found: Findings, limits: StatusSettings) -> Iterator[Breach]:
    tables = found.hypertables or ()
    overdue = [f"{each.overdue} of {each.name}" for each in tables if each.overdue]
    if overdue:
        yield Breach(
            "compression",
            f"chunks that should be compressed and are not: {some(overdue, len(overdue))}",
            "ingest maintain daily --only compress --yes",
        )
    poor = [each for each in tables if _is_poor(each, limits)]
    if poor:
        told = [f"{each.name} {each.saved_pct:.1f} %" for each in poor]
        yield Breach(
            "ratio",
            f"compression saves less than {limits.compression_pct:g} %: {some(told, len(told))}",
            "ingest maintain weekly --only recompress --yes",
        )
    outlived = [
        f"{each.outlived} of {each.name} (kept for {each.retain_for})" for each in tables if each.outlived
    ]
    if outlived:
        yield Breach(
            "retention",
            f"chunks that should have been dropped: {some(outlived, len(outlived))}",
            "ingest maintain monthly --only retention --yes",
        )


def _is_poor(table: Hypertable, limits: StatusSettings) -> bool:
    return (
        table.saved_pct is not None
        and table.before_bytes >= limits.compression_from_mb * _MB
        and table.saved_pct < limits.compression_pct
    )


def _indexes(found: Findings) -> Iterator[Breach]:
    if found.invalid_indexes:
        yield Breach(
            "indexes",
            f"not usable, left by a build that was interrupted: {some(found.invalid_indexes)}",
            "ingest maintain monthly --only indexes --yes",
        )


def _names(found: Findings, limits: StatusSettings) -> Iterator[Breach]:
    for table in found.coverage or ():
        if table.lacking and table.pct < limits.coverage_pct:
            lacking = [
                each
                for each in found.unmapped or ()
                if each.table_name == table.table_name and not each.mapped_to
            ]
            told = [f"{each.column_name} {each.value!r} ({each.rows})" for each in lacking]
            yield Breach(
                "names",
                f"{table.lacking} of {table.rows} {table.table_name} lack an id: {some(told)}",
                "ingest maintain daily --only names --yes",
                _what_the_catalog_lacks(lacking),
            )
    for each in found.unmapped or ():
        if each.mapped_to:
            yield Breach(
                "names",
                f"{each.rows} {each.table_name} say {each.column_name} {each.value!r} and have the id of "
                f"{each.mapped_to}",
                'psql "$INGEST_METADATA_DSN" --command="select * from metadata.v_unmapped_names"',
                "correct the one that is wrong, by hand",
            )


def _what_the_catalog_lacks(lacking: Sequence[Unmapped]) -> str:
    """Say how a name gets into the catalog first; where it is there already, the command is enough."""
    aliases = [each for each in lacking if each.column_name in _ALIASES]
    told = [
        f"`ingest catalog add alias {kind} {each.value!r} {target}`"
        for each in aliases
        for kind, target in (_ALIASES[each.column_name],)
    ]
    if len(aliases) < len(lacking):
        told.append("a row of metadata.actuator_types, actuator_states, alert_types or alert_severities")
    return f"names that the catalog lacks come first: {some(told)}"


def _readings(found: Findings, limits: StatusSettings) -> Iterator[Breach]:
    readings = found.readings
    if readings is None or not readings.lacking:
        return
    if readings.pct >= limits.coverage_pct:
        return
    told = [f"{each.sensor_type!r} in {each.unit!r} ({each.rows})" for each in readings.names]
    yield Breach(
        "readings",
        f"{readings.lacking} of {readings.rows} readings lack an id: {some(told)}",
        "ingest normalize",
        "names that it reports as unknown come first: `ingest catalog add alias`",
    )


def _dead_letters(found: Findings, limits: StatusSettings) -> Iterator[Breach]:
    letters = found.dead_letters
    if letters is None or letters.last_day <= limits.dead_letters_per_day:
        return
    for each in letters.reasons:
        if not each.last_day:
            continue
        what = f"{each.last_day} dead letters in 24 hours: {each.reason}"
        if each.reason in NAME_REASONS:
            hint = "iot.v_ingest_missing_names lists what to register first (`ingest catalog add`)"
            yield Breach("dead_letters", what, f"ingest dead-letters replay --reason {each.reason}", hint)
        elif each.reason in _FIXED_BY_A_RELEASE:
            hint = "with a release that mends the fault, which `ingest dead-letters show` names; report it"
            yield Breach("dead_letters", what, f"ingest dead-letters replay --reason {each.reason}", hint)
        elif each.reason == "too_large":
            hint = (
                "it shows the gateways and the limit; have them send less at once, or raise it. Those of too "
                "many readings can be replayed then; of those of too many bytes only the beginning is kept: "
                "`ingest dead-letters purge --reason too_large --all`"
            )
            yield Breach("dead_letters", what, "ingest dead-letters list --reason too_large", hint)
        else:
            hint = (
                f"see why with `ingest dead-letters list --reason {each.reason}`, mend the gateway or the "
                "catalog, then replay; what stays worthless: "
                f"`ingest dead-letters purge --reason {each.reason} --all`"
            )
            yield Breach("dead_letters", what, f"ingest dead-letters replay --reason {each.reason}", hint)


def _silent(found: Findings) -> Iterator[Breach]:
    if found.silent:
        yield Breach(
            "silent_sensors",
            f"{len(found.silent)} of {found.sensors_watched} sensors with an interval are silent",
            "ingest reconcile --since 24h",
            "it shows each gateway and since when; for a sensor that is gone for good set "
            "metadata.sensors.is_active = false",
        )


def _disk(found: Findings, limits: StatusSettings) -> Iterator[Breach]:
    days_left = None if found.forecast is None else found.forecast.days_left
    if days_left is not None and days_left < limits.disk_days:
        yield Breach(
            "disk",
            f"status.capacity_gb is full in {days_left:.0f} days",
            "ingest schema apply",
            "after setting retain_for.sensor_readings; or a larger disk, and status.capacity_gb with it",
        )


def label(job: Job) -> str:
    """Name a job."""
    return f"job {job.job_id} ({job.procedure} of {job.subject})"


def up_to(aggregate: Aggregate) -> str:
    """Say what an aggregate has."""
    if aggregate.watermark is None:
        return "nothing yet"
    return f"readings up to {aggregate.watermark:%Y-%m-%d %H:%M} UTC"


def some(things: Sequence[str], shown: int = _SHOWN) -> str:
    """Join the first few of *things*, and say how many there are more."""
    more = f" and {len(things) - shown} more" if len(things) > shown else ""
    return ", ".join(things[:shown]) + more


def span(seconds: float) -> str:
    """Say a span of time in its two largest units."""
    whole = round(seconds)
    parts = ((whole // 86_400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s"))
    told = [f"{count} {unit}" for count, unit in parts]
    first = next((place for place, (count, _) in enumerate(parts) if count), 3)
    return " ".join(told[first : first + 2])
