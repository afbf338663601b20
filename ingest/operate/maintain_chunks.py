"""The steps of `ingest maintain` on chunks: compress what is due, compress anew, drop what retention says.

Each chunk is one transaction of the server's. `ingest normalize` decompresses the chunk it works on, so the
two never work at one time. For the login that owns the tables.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from ingest.errors import CheckFailed
from ingest.operate import maintain_sql as sql
from ingest.operate.maintain_steps import Look, Step, Task
from ingest.operate.normalize_run import LOCK_KEY as NORMALIZE_LOCK_KEY
from ingest.operate.normalize_sql import COMPRESS_SQL, DECOMPRESS_SQL, RUN_JOB_SQL
from ingest.policy_settings import OFF

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ingest.operate.maintain_steps import Ground

_WEEKS: Final = 12
_MB: Final = 1_000_000


async def _look_at_due(ground: Ground) -> Look:
    ages = ground.settings.compress_after.model_dump()
    due = await ground.timeseries.fetch(sql.DUE, list(ages), list(ages.values()))
    return Look([], [Task(f"{each['hypertable_name']} {_day(each)}", (each["chunk"],)) for each in due])


async def _compress(ground: Ground, task: Task) -> None:
    async with _without_normalize(ground):
        await ground.timeseries.execute(COMPRESS_SQL, *task.arguments)


async def _look_at_effect(ground: Ground) -> Look:
    weeks = await ground.timeseries.fetch(sql.BY_WEEK, _WEEKS)
    told = [
        f"week of {each['week']:%Y-%m-%d}: {each['chunks']} chunks, {each['before'] / _MB:.1f} MB before, "
        f"{each['after'] / _MB:.1f} MB after, {100 - 100 * each['after'] / (each['before'] or 1):.1f} % saved"
        for each in weeks
    ]
    chunks = await ground.timeseries.fetch(sql.RECOMPRESSIBLE)
    tasks = [
        Task(
            f"{each['hypertable_name']} {_day(each)}: "
            + ("rows came after it was compressed" if each["partial"] else "compressed by other settings"),
            (each["chunk"], each["partial"]),
        )
        for each in chunks
    ]
    return Look(told or ["nothing is compressed"], tasks)


async def _compress_anew(ground: Ground, task: Task) -> None:
    chunk, partial = task.arguments
    async with _without_normalize(ground):
        if partial:
            await ground.timeseries.execute(sql.RECOMPRESS, chunk)
            return
        # Other settings count for what is compressed from nothing; in one transaction, so that it is never
        # seen bare.
        async with ground.timeseries.transaction():
            await ground.timeseries.execute(DECOMPRESS_SQL, chunk)
            await ground.timeseries.execute(COMPRESS_SQL, chunk)


async def _look_at_retention(ground: Ground) -> Look:
    wanted = ground.settings.retain_for.model_dump()
    told, tasks = [], []
    jobs = {each["name"]: each for each in await ground.timeseries.fetch(sql.RETENTION_JOBS)}
    for name, age in wanted.items():
        job = jobs.get(name)
        if (job is None) != (age == OFF):
            does = "drops" if job else "keeps everything"
            told.append(f"{name}: retain_for is {age}, and the database {does}: `ingest schema plan`")
        elif job is None:
            told.append(f"{name}: kept for ever")
        else:
            told.append(f"{name}: kept for {age}, {job['chunks']} chunks are older")
            if job["chunks"]:
                tasks.append(
                    Task(f"{name}: drop {job['chunks']} chunks by its policy's job", (job["job_id"],))
                )
    return Look(told, tasks)


async def _drop_outlived(ground: Ground, task: Task) -> None:
    await ground.timeseries.execute(RUN_JOB_SQL, *task.arguments)


@asynccontextmanager
async def _without_normalize(ground: Ground) -> AsyncIterator[None]:
    if not await ground.timeseries.fetchval("select pg_try_advisory_lock($1)", NORMALIZE_LOCK_KEY):
        raise CheckFailed("`ingest normalize` is at work in this database: run again when it is done")
    try:
        yield
    finally:
        await ground.timeseries.execute("select pg_advisory_unlock($1)", NORMALIZE_LOCK_KEY)


def _day(chunk: object) -> str:
    return f"from {chunk['range_start']:%Y-%m-%d %H:%M}"  # type: ignore[index]  # an asyncpg record


COMPRESS: Final = Step("compress", "chunks that are due for compression", _look_at_due, _compress)
RECOMPRESS: Final = Step("recompress", "compression by week", _look_at_effect, _compress_anew)
RETENTION: Final = Step("retention", "what is kept for how long", _look_at_retention, _drop_outlived)
