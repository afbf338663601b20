"""`ingest schema plan` and `apply`: policies, schedules, chunk intervals, brought to what the settings say.

Reads TimescaleDB's views and changes jobs in place, under the lock of the schema's runner, on a connection
of its own. Touches only what a setting names: a job that is none of ours, a key of a config that no setting
has, and a job somebody disabled stay as they are. What differs is decided in `policy_plan`, purely.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import asyncpg

from ingest.errors import Misconfigured
from ingest.intervals import Interval
from ingest.migrate import Database
from ingest.migration_connection import connected, in_transaction, locked, translated
from ingest.operate.policy_plan import Job, Live, make_plan, merged

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ingest.migration_connection import Connection
    from ingest.operate.policy_plan import Change, Difference, Kind, Plan
    from ingest.settings import Settings

Step: TypeAlias = "Kind | Literal['remove_compression']"

_DIMENSIONS: Final = """
select hypertable_name, time_interval
from timescaledb_information.dimensions
where hypertable_schema = 'iot'
    and dimension_number = 1
    and time_interval is not null
"""
_AGGREGATES: Final = """
select view_name
from timescaledb_information.continuous_aggregates
where view_schema = 'iot'
"""
# A refresh policy belongs to the aggregate's hidden hypertable; later versions say the aggregate itself.
_JOBS: Final = """
select
    j.job_id,
    j.proc_name,
    coalesce(a.view_name, j.hypertable_name, j.proc_name) as subject,
    j.scheduled,
    j.schedule_interval as every,
    (j.config ->> 'compress_after')::interval as compress_after,
    (j.config ->> 'drop_after')::interval as drop_after,
    (j.config ->> 'start_offset')::interval as start_offset,
    (j.config ->> 'end_offset')::interval as end_offset,
    (j.config ->> 'window')::interval as window_back
from timescaledb_information.jobs as j
left join timescaledb_information.continuous_aggregates as a
    on a.materialization_hypertable_schema = j.hypertable_schema
    and a.materialization_hypertable_name = j.hypertable_name
where 'iot' in (j.hypertable_schema, j.proc_schema, a.view_schema)
order by j.job_id
"""
_CONFIG_COLUMNS: Final = {
    "compress_after": "compress_after",
    "drop_after": "drop_after",
    "start_offset": "start_offset",
    "end_offset": "end_offset",
    "window": "window_back",
}
"""Key of a job's config -> column of `_JOBS`."""

# A relation comes as $1, a bare name in schema iot; a job as its number.
_ALTER_JOB: Final = """
select alter_job(
    j.job_id,
    schedule_interval => $2::interval,
    config => coalesce(j.config, '{}') || $3::text::jsonb
)
from timescaledb_information.jobs as j
where j.job_id = $1::integer
"""
_ADD_REFRESH: Final = """
select add_continuous_aggregate_policy(
    ('iot.' || $1::text)::regclass,
    start_offset => $2::interval,
    end_offset => $3::interval,
    schedule_interval => $4::interval
)
"""
_ADD_RETENTION: Final = """
select add_retention_policy(('iot.' || $1::text)::regclass, drop_after => $2::interval)
"""
_STATEMENTS: Final[dict[Step, str]] = {
    "set_chunk_interval": "select set_chunk_time_interval(('iot.' || $1::text)::regclass, $2::interval)",
    "alter_job": _ALTER_JOB,
    "enable_job": "select alter_job($1::integer, scheduled => true)",
    "delete_job": "select delete_job($1::integer)",
    "add_compression": "call add_columnstore_policy(('iot.' || $1::text)::regclass, after => $2::interval)",
    "remove_compression": "call remove_columnstore_policy(('iot.' || $1::text)::regclass)",
    "add_retention": _ADD_RETENTION,
    "remove_retention": "select remove_retention_policy(('iot.' || $1::text)::regclass)",
    "add_refresh": _ADD_REFRESH,
    "add_job": "select add_job(('iot.' || $1::text)::regproc, $2::interval, config => $3::text::jsonb)",
}
_STEPS: Final[dict[Kind, tuple[Step, ...]]] = {
    "replace_compression": ("remove_compression", "add_compression"),
    "replace_retention": ("remove_retention", "add_retention"),
}
"""What takes more than one statement; both are seen at once, in one transaction."""


async def plan(dsn: str, settings: Settings, *, enable: bool = False) -> Plan:
    """Return what differs, changing nothing. Raises as read_live does."""
    async with connected(dsn, Database.TIMESERIES) as connection:
        return make_plan(settings, await read_live(connection), enable=enable)


async def apply(
    dsn: str,
    settings: Settings,
    *,
    enable: bool = False,
    on_applied: Callable[[Difference], None] | None = None,
) -> Plan:
    """Change what differs and return it as the plan that was carried out; a second run has nothing to do.

    One transaction a job or chunk interval, so that what failed names itself and what was done before stays.
    *enable* starts disabled jobs again. Raises MigrationError for a change the database refuses.
    """
    async with connected(dsn, Database.TIMESERIES) as connection, locked(connection, Database.TIMESERIES):
        todo = make_plan(settings, await read_live(connection), enable=enable)
        for change in merged(each.change for each in todo.differences):
            parts = [
                each
                for each in todo.differences
                if (each.change.kind, each.change.subject) == (change.kind, change.subject)
            ]
            with translated(f"changing {', '.join(each.option for each in parts)}"):
                async with in_transaction(connection):
                    await _carry_out(connection, change)
            if on_applied is not None:
                for each in parts:
                    on_applied(each)
    return todo


async def _carry_out(connection: Connection, change: Change) -> None:
    for step in _STEPS.get(change.kind, (change.kind,)):
        await connection.execute(_STATEMENTS[step], change.subject, *_arguments(step, change.spans))


def _arguments(step: Step, spans: Mapping[str, Interval]) -> tuple[object, ...]:
    """Return what follows the subject in the statement of this step."""
    match step:
        case "alter_job" | "add_job":
            config = {key: str(span) for key, span in spans.items() if key != "every"}
            return spans.get("every"), json.dumps(config)
        case "add_refresh":
            return spans["start_offset"], spans["end_offset"], spans["every"]
        case "remove_compression" | "remove_retention":
            return ()
        case _:
            return tuple(spans.values())


async def read_spans(connection: Connection) -> None:
    """Have spans come as Interval on *connection*; asyncpg's timedelta would make 30 days of a month."""
    await connection.set_type_codec(
        "interval",
        schema="pg_catalog",
        format="tuple",
        encoder=lambda span: (span.months, span.days, span.microseconds),
        decoder=lambda parts: Interval(*parts),
    )


async def read_live(connection: Connection) -> Live:
    """Read chunk intervals and jobs; any role may. Spans come as Interval on this connection from then on.

    Raises Misconfigured without TimescaleDB, MigrationError for tables and views that are not there.
    """
    with translated("reading chunk intervals and jobs"):
        await read_spans(connection)
        try:
            dimensions = await connection.fetch(_DIMENSIONS)
        except asyncpg.UndefinedTableError as error:
            text = f"the timeseries database is not migrated: {error}; run `ingest schema migrate`"
            raise Misconfigured(text, error.sqlstate) from error
        aggregates = await connection.fetch(_AGGREGATES)
        jobs = await connection.fetch(_JOBS)
    return Live(
        {row["hypertable_name"]: row["time_interval"] for row in dimensions},
        frozenset(row["view_name"] for row in aggregates),
        tuple(
            Job(
                row["job_id"],
                row["proc_name"],
                row["subject"],
                row["scheduled"],
                row["every"],
                {key: row[column] for key, column in _CONFIG_COLUMNS.items() if row[column] is not None},
            )
            for row in jobs
        ),
    )
