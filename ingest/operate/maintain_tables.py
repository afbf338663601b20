"""The steps of `ingest maintain` on tables: statistics, indexes, old dead letters.

An index is rebuilt beside the old one (`reindex … concurrently`), so that writers go on. Where the server
refuses that, it is rebuilt in its place, if no writer has to be waited for longer than two seconds; and at
once on a server that has no other sessions, as the embedded one. For the login that owns the tables; dead
letters the role greenhouse_operator may purge, too.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

import asyncpg

from ingest.errors import Misconfigured
from ingest.intervals import Interval
from ingest.operate import maintain_sql as sql
from ingest.operate.letter_filter import LetterFilter
from ingest.operate.maintain_steps import Look, Step, Task
from ingest.operate.purge_letters import count_letters, purge_letters
from ingest.operate.rights import INSUFFICIENT_PRIVILEGE
from ingest.policy_settings import OFF

if TYPE_CHECKING:
    from ingest.operate.maintain_steps import Ground

_MB: Final = 1_000_000
_IMPATIENT: Final = "set local lock_timeout = '2s'"


async def _look_at_statistics(ground: Ground) -> Look:
    tables = await ground.timeseries.fetch(sql.UNANALYSED)
    return Look([], [Task(each["name"], (each["statement"], each["mine"])) for each in tables])


async def _analyse(ground: Ground, task: Task) -> None:
    statement, mine = task.arguments
    if not mine:  # PostgreSQL only warns, and leaves the table out
        raise Misconfigured("another login owns it", INSUFFICIENT_PRIVILEGE)
    await ground.timeseries.execute(statement)


async def _look_at_indexes(ground: Ground) -> Look:
    indexes = await ground.timeseries.fetch(
        sql.REBUILDABLE, int(ground.settings.maintain.reindex_from_mb * _MB)
    )
    tasks = [
        Task(
            f"drop {each['name']}: left by a rebuild that was interrupted",
            (each["drop_beside"], each["drop_alone"]),
        )
        if each["leftover"]
        else Task(
            f"rebuild {each['name']}, {each['bytes'] / _MB:.1f} MB"
            + ("" if each["valid"] else ": it is not usable"),
            (each["rebuild_beside"], each["rebuild_alone"]),
        )
        for each in indexes
    ]
    return Look([], tasks)


async def _rebuild(ground: Ground, task: Task) -> str | None:
    beside, alone = task.arguments
    if await ground.timeseries.fetchval(sql.ALONE):
        await ground.timeseries.execute(alone)
        return None
    try:
        await ground.timeseries.execute(beside)
    except asyncpg.FeatureNotSupportedError:
        async with ground.timeseries.transaction():
            await ground.timeseries.execute(_IMPATIENT)
            await ground.timeseries.execute(alone)
        return f"{task.what}: this server does not do it beside writers, so they waited"
    return None


async def _look_at_letters(ground: Ground) -> Look:
    age = ground.settings.maintain.purge_dead_letters_after
    if age == OFF:
        return Look(["dead letters are kept for ever (maintain.purge_dead_letters_after)"])
    wanted = LetterFilter(until=ground.now - timedelta(microseconds=Interval.parse(age).reckoned))
    report = await count_letters(ground.settings, wanted)
    told = [f"{letters} with {reason}" for reason, letters in report.reasons.items()]
    count = report.found.letters
    return Look(
        told, [Task(f"delete {count} dead letters older than {age}", (wanted, report))] if count else []
    )


async def _purge(ground: Ground, task: Task) -> str:
    wanted, report = task.arguments
    await purge_letters(ground.settings, wanted, report, stop=ground.stop)
    return f"{report.deleted} deleted"


STATISTICS: Final = Step("statistics", "statistics for the planner", _look_at_statistics, _analyse)
DEAD_LETTERS: Final = Step(
    "dead-letters", "dead letters past their age", _look_at_letters, _purge, "ingest_operator"
)
INDEXES: Final = Step("indexes", "indexes", _look_at_indexes, _rebuild)
