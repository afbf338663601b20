"""What differs between the policies as set and as the database has them, and what would change it.

Pure: takes settings and what was read from TimescaleDB's views, returns values; `ingest.operate.policies`
reads and changes. Knows each policy's name and where it keeps a setting: in its schedule, or under a key of
its config.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from ingest.errors import MigrationError
from ingest.intervals import Interval
from ingest.policy_settings import OFF

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ingest.settings import Settings

Kind: TypeAlias = Literal[
    "set_chunk_interval",
    "alter_job",
    "enable_job",
    "delete_job",
    "add_compression",
    "replace_compression",
    "add_retention",
    "replace_retention",
    "remove_retention",
    "add_refresh",
    "add_job",
]
COMPRESSION: Final = "policy_compression"
RETENTION: Final = "policy_retention"
REFRESH: Final = "policy_refresh_continuous_aggregate"


@dataclass(frozen=True, slots=True)
class Job:
    """One background job of schema iot. ``subject`` is its hypertable, aggregate or own procedure, bare."""

    job_id: int
    proc_name: str
    subject: str
    scheduled: bool
    every: Interval
    config: Mapping[str, Interval] = field(default_factory=dict)
    """The spans in its config, by key; a key without a span is not in it."""

    @property
    def label(self) -> str:
        """What an operator knows it by."""
        return f"job {self.job_id} ({self.proc_name} of {self.subject})"


@dataclass(frozen=True, slots=True)
class Live:
    """What the database has: chunk interval by hypertable, names of continuous aggregates, jobs by id."""

    chunk_intervals: Mapping[str, Interval]
    aggregates: frozenset[str]
    jobs: tuple[Job, ...]

    def jobs_of(self, proc_name: str, subject: str) -> list[Job]:
        """Return the jobs of this kind for this subject, the oldest first."""
        found = [job for job in self.jobs if (job.proc_name, job.subject) == (proc_name, subject)]
        return sorted(found, key=lambda job: job.job_id)


@dataclass(frozen=True, slots=True)
class Change:
    """One change of the database. ``subject`` is a relation or procedure of schema iot, or a job's number."""

    kind: Kind
    subject: str | int
    spans: Mapping[str, Interval] = field(default_factory=dict)
    """New values: of a job, ``every`` is its schedule and the others are keys of its config."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One setting that the database has otherwise. ``option`` is where the configuration says it."""

    option: str
    live: str
    wanted: str
    how: str
    change: Change


@dataclass(frozen=True, slots=True)
class Plan:
    """What `apply` would change, and the jobs somebody disabled, which it lets alone unless asked."""

    differences: tuple[Difference, ...]
    disabled: tuple[Job, ...]


def make_plan(settings: Settings, live: Live, *, enable: bool = False) -> Plan:
    """Compare *settings* with *live*; with *enable*, disabled jobs are differences too.

    Raises MigrationError when a hypertable or continuous aggregate is not there at all.
    """
    tables = settings.chunk_interval.model_dump()
    aggregates = settings.refresh_every.model_dump()
    absent = [name for name in tables if name not in live.chunk_intervals]
    absent += [name for name in aggregates if name not in live.aggregates]
    if absent:
        raise MigrationError(
            f"not there: {', '.join(f'iot.{name}' for name in absent)}; run `ingest schema migrate`, "
            "and if nothing is pending, `ingest schema verify`"
        )
    disabled = tuple(job for job in live.jobs if not job.scheduled)
    differences = [
        *_chunk_intervals(tables, live),
        *_compression(settings.compress_after.model_dump(), live),
        *_retention(settings.retain_for.model_dump(), live),
        *_refreshes(settings, live),
        *_own_jobs(settings, live),
    ]
    if enable:
        differences += [_enabling(job) for job in disabled]
    return Plan(tuple(differences), () if enable else disabled)


def merged(changes: Iterable[Change]) -> list[Change]:
    """Return *changes* with those of one job as one: no state between them is ever checked or seen."""
    together: dict[tuple[Kind, str | int], Change] = {}
    for change in changes:
        key = (change.kind, change.subject)
        spans = {**together[key].spans, **change.spans} if key in together else change.spans
        together[key] = Change(change.kind, change.subject, spans)
    return list(together.values())


def _chunk_intervals(wanted: dict[str, str], live: Live) -> Iterator[Difference]:
    for name, text in wanted.items():
        span, found = Interval.parse(text), live.chunk_intervals[name]
        if span != found:
            how = "set_chunk_time_interval: counts for chunks made from now on"
            change = Change("set_chunk_interval", name, {"interval": span})
            yield Difference(f"chunk_interval.{name}", str(found), text, how, change)


def _compression(wanted: dict[str, str], live: Live) -> Iterator[Difference]:
    for name, text in wanted.items():
        span = {"compress_after": Interval.parse(text)}
        option = f"compress_after.{name}"
        jobs = live.jobs_of(COMPRESSION, name)
        if not jobs:
            change = Change("add_compression", name, span)
            yield Difference(option, "no policy", text, "add_columnstore_policy", change)
        elif "compress_after" not in jobs[0].config:
            how = "remove and add the policy, in one transaction"
            yield Difference(option, "not by age", text, how, Change("replace_compression", name, span))
        else:
            yield from _altered(jobs[0], {option: ("compress_after", text)})
        yield from _repeated(option, jobs)


def _retention(wanted: dict[str, str], live: Live) -> Iterator[Difference]:
    for name, text in wanted.items():
        option = f"retain_for.{name}"
        jobs = live.jobs_of(RETENTION, name)
        found = _shown(jobs[0].config.get("drop_after")) if jobs else OFF
        if text == OFF:
            if jobs:
                yield Difference(
                    option, found, OFF, "remove_retention_policy", Change("remove_retention", name)
                )
            continue
        span = {"drop_after": Interval.parse(text)}
        if not jobs:
            yield Difference(option, OFF, text, "add_retention_policy", Change("add_retention", name, span))
        elif "drop_after" not in jobs[0].config:
            how = "remove and add the policy, in one transaction"
            yield Difference(option, "not by age", text, how, Change("replace_retention", name, span))
        else:
            yield from _altered(jobs[0], {option: ("drop_after", text)})
        yield from _repeated(option, jobs)


def _refreshes(settings: Settings, live: Live) -> Iterator[Difference]:
    starts, ends = settings.refresh_start.model_dump(), settings.refresh_end.model_dump()
    for name, every in settings.refresh_every.model_dump().items():
        jobs = live.jobs_of(REFRESH, name)
        wanted = {
            f"refresh_every.{name}": ("every", every),
            f"refresh_start.{name}": ("start_offset", starts[name]),
            f"refresh_end.{name}": ("end_offset", ends[name]),
        }
        if not jobs:
            spans = {key: Interval.parse(text) for key, text in wanted.values()}
            text = f"every {every}, from {starts[name]} back to {ends[name]} back"
            change = Change("add_refresh", name, spans)
            how = "add_continuous_aggregate_policy"
            yield Difference(f"refresh_every.{name}", "no policy", text, how, change)
            continue
        yield from _altered(jobs[0], wanted)
        yield from _repeated(f"refresh_every.{name}", jobs)


def _own_jobs(settings: Settings, live: Live) -> Iterator[Difference]:
    windows = settings.job_window.model_dump()
    for name, every in settings.job_every.model_dump().items():
        jobs = live.jobs_of(name, name)
        wanted = {f"job_every.{name}": ("every", every)}
        if name in windows:
            wanted[f"job_window.{name}"] = ("window", windows[name])
        if not jobs:
            spans = {key: Interval.parse(text) for key, text in wanted.values()}
            text = f"every {every}" + (f", of the last {windows[name]}" if name in windows else "")
            yield Difference(f"job_every.{name}", "no job", text, "add_job", Change("add_job", name, spans))
            continue
        yield from _altered(jobs[0], wanted)
        yield from _repeated(f"job_every.{name}", jobs)


def _altered(job: Job, wanted: dict[str, tuple[str, str]]) -> Iterator[Difference]:
    """Yield what *job* has otherwise; *wanted* is option -> its key in the job, and its text."""
    for option, (key, text) in wanted.items():
        span = Interval.parse(text)
        found = job.every if key == "every" else job.config.get(key)
        if found != span:
            change = Change("alter_job", job.job_id, {key: span})
            yield Difference(option, _shown(found), text, f"alter_job({job.job_id})", change)


def _repeated(option: str, jobs: list[Job]) -> Iterator[Difference]:
    for job in jobs[1:]:
        live = f"job {jobs[0].job_id}, and job {job.job_id} for the same"
        how = f"delete_job({job.job_id})"
        yield Difference(option, live, "one job", how, Change("delete_job", job.job_id))


def _enabling(job: Job) -> Difference:
    how = f"alter_job({job.job_id}, scheduled => true)"
    return Difference(
        f"{job.proc_name}.{job.subject}", "disabled", "scheduled", how, Change("enable_job", job.job_id)
    )


def _shown(span: Interval | None) -> str:
    return "not set" if span is None else str(span)
