"""The steps of `ingest maintain` on what the scheduler should have done: failed jobs, aggregates that lag.

A refresh goes slice by slice, the oldest first, and computes only buckets whose readings changed: what was
done is not done again. A bucket that an aggregate has, and that begins before the oldest chunk of readings,
is left: computed again without all of its readings, it would lose them. For the login that owns the tables.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from ingest.errors import CheckFailed
from ingest.operate import maintain_sql as sql
from ingest.operate import status_rows_sql, status_sql
from ingest.operate.maintain_steps import Look, Step, Task
from ingest.operate.normalize import recompute_noted_hours
from ingest.operate.normalize_sql import RUN_JOB_SQL
from ingest.operate.status_facts import PORTAL_FAULT, Job
from ingest.operate.status_judge import MISRECORDED, label, up_to
from ingest.operate.status_readings import chunks_of_readings, is_stale, read_aggregates
from ingest.policy_settings import BUCKETS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingest.operate.maintain_steps import Ground
    from ingest.operate.status_facts import Aggregate

_RECORD_PATIENCE_S: Final = 30.0
"""For the scheduler to begin the jobs that were asked to start now, and to end them: those of ours take a
second, and it begins them within five."""
_POLL_S: Final = 0.2
_SLICE_DAYS: Final = 7
"""Of an aggregate by the hour: a week of 4.3 million readings a day is computed in about a minute."""
_LOOKED_BACK: Final = timedelta(days=3)
"""Before what an aggregate has already: readings up to two days late are noted nowhere (LATE_AFTER). The
policies look back as far or further (refresh_start), and from now."""


async def _look_at_jobs(ground: Ground) -> Look:
    records = await ground.timeseries.fetch(status_sql.JOBS, ground.settings.status.aggregate_late_runs)
    failed = [job for job in (Job(**dict(each)) for each in records) if job.failed]
    told = [f"{label(job)}: {job.error}" for job in failed if job.error]
    if any(job.misrecorded for job in failed):
        told.append(f"`{PORTAL_FAULT} …` is {MISRECORDED}")
    return Look(
        told,
        [
            Task(f"run {label(job)}", (job.job_id, job.last_run_started_at))
            for job in failed
            if not job.misrecorded
        ],
    )


async def _run(ground: Ground, task: Task) -> None:
    """Run a job here, and have the scheduler begin it, whose record is what status shows."""
    job_id, _ = task.arguments
    await ground.timeseries.execute(RUN_JOB_SQL, job_id)
    await ground.timeseries.execute(sql.START_JOB, job_id)


async def _see_recorded(ground: Ground, task: Task, since_s: float) -> str:
    """Wait for the scheduler's run of a job, and tell how it ended."""
    job_id, failed_at = task.arguments
    while True:
        record = await ground.timeseries.fetchrow(sql.JOB_RECORD, job_id)
        if record is not None and record["status"] is not None and record["started_at"] != failed_at:
            if record["status"] != "Failed":
                return f"{task.what}: done, and the scheduler's run of it too"
            error = record["error"] or ""
            if error.startswith(PORTAL_FAULT):
                return f"{task.what}: done; recorded as `{error}`, a known fault (README, Limits)"
            raise CheckFailed(f"its work is done, and the scheduler's own run failed again: {error}")
        waited_s = asyncio.get_running_loop().time() - since_s
        if ground.stop.is_set() or waited_s >= _RECORD_PATIENCE_S:
            return f"{task.what}: done; the scheduler has not ended a run of it within {waited_s:.0f} s"
        await asyncio.sleep(_POLL_S)


async def _look_at_aggregates(ground: Ground) -> Look:
    chunks = await chunks_of_readings(ground.timeseries)
    aggregates = await read_aggregates(ground.timeseries, 0.0)
    ours = ground.settings.refresh_every.model_dump()
    told: list[str] = []
    tasks: list[Task] = []
    for aggregate in (each for each in aggregates if each.name in ours):
        if await is_stale(ground.timeseries, aggregate, chunks):
            found = list(slices(aggregate, chunks[0][0]))
            told.append(f"{aggregate.name} has {up_to(aggregate)}: {len(found)} slices")
            tasks += [
                Task(
                    f"{aggregate.name} {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}",
                    (aggregate.name, start, end),
                )
                for start, end in found
            ]
    hours = await ground.timeseries.fetchrow(status_rows_sql.LATE_HOURS)
    if hours is not None and hours["hours"]:
        tasks.append(Task(f"compute {hours['hours']} hours with late readings again"))
    return Look(told, tasks)


def slices(aggregate: Aggregate, oldest: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Cut what is to be refreshed into whole buckets, some at a time; *oldest*: the begin of the chunks."""
    bucket, watermark = BUCKETS[aggregate.name], aggregate.watermark
    start = oldest if watermark is None else max(oldest, watermark - _LOOKED_BACK)
    start = start.replace(hour=0, minute=0, second=0, microsecond=0)
    if bucket.months:
        start = start.replace(day=1)
    if watermark is not None and start < min(oldest, watermark):  # it has that bucket, of more readings
        length = timedelta(microseconds=bucket.reckoned)
        start = _months_on(start) if bucket.months else start - (start - oldest) // length * length
    while start < aggregate.wanted:
        end = _months_on(start) if bucket.months else start + timedelta(days=_SLICE_DAYS)
        yield start, min(end, aggregate.wanted)
        start = end


def _months_on(start: datetime) -> datetime:
    return (start + timedelta(days=32)).replace(day=1)


async def _refresh(ground: Ground, task: Task) -> str | None:
    if task.arguments:
        await ground.timeseries.execute(sql.REFRESH, *task.arguments)
        return None
    done = await recompute_noted_hours(ground.settings, stop=ground.stop)
    return f"{task.what}: {done.left} are left, of hours that are not over" if done.left else None


JOBS: Final = Step("jobs", "background jobs whose last run failed", _look_at_jobs, _run, settle=_see_recorded)
AGGREGATES: Final = Step("aggregates", "aggregates that lack readings", _look_at_aggregates, _refresh)
