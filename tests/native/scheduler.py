"""States that only a server with a scheduler gets into: a job that fails, an index that is not usable."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.waiting import until

if TYPE_CHECKING:
    import asyncpg

JOB = """
    create or replace procedure iot.sometimes(job_id integer, config jsonb) language plpgsql as $$
    begin
        if to_regclass('iot.in_the_way') is not null then
            raise exception 'iot.in_the_way is in the way';
        end if;
    end;
    $$
"""
RECORDS = """
    select count(*)
    from timescaledb_information.jobs as j
    join timescaledb_information.job_stats as t using (job_id)
    where 'iot' in (j.hypertable_schema, j.proc_schema)
        and t.last_run_status is null
"""
DELETE_ALL = """
    select delete_job(job_id)
    from timescaledb_information.jobs
    where 'iot' in (hypertable_schema, proc_schema)
"""
UNUSABLE = """
    update pg_index
    set indisvalid = false
    where indexrelid in (
        select i.indexrelid
        from show_chunks('iot.sensor_readings') as c
        join pg_index as i on i.indrelid = c
    )
"""
"""Of the chunks that there are."""
UPSTREAM = "cannot drop portal"
"""How every background run ends on TimescaleDB 2.28.3 with PostgreSQL 15.20, its work done."""


async def first_runs_are_over(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Wait for the runs that follow a migration at once."""

    async def over() -> bool:
        return bool(await connection.fetchval(RECORDS) == 0)

    await until(over, "the scheduler has run each job", patience_s=120)


async def failing_job(connection: asyncpg.Connection[asyncpg.Record]) -> int:
    """Have one job, which fails while there is a table iot.in_the_way; give its id once it has failed.

    No others: what mends one waits for the scheduler, and they all have failed where UPSTREAM is met.
    """
    await first_runs_are_over(connection)
    await connection.execute(DELETE_ALL)
    await connection.execute(JOB)
    await connection.execute("create table iot.in_the_way (x integer)")
    job_id = await connection.fetchval("select add_job('iot.sometimes'::regproc, '1 hour')")
    await first_runs_are_over(connection)
    return int(job_id)
