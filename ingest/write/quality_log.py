"""The issues of a window, into `metadata.data_quality_log`: one row an issue, for as long as it is open.

An issue that goes on adds to its open row, whichever worker finds it; once a person has resolved the row, it
opens another. What a person ignores stays ignored, and goes on counting. A gap whose sensor is heard again is
resolved here after a while, an unmapped name once the catalog has it; every other issue waits for a person.
One short connection a window, to the metadata database: nothing of it touches the writing of readings.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import asyncpg
import orjson

from ingest.errors import Poison, Unavailable
from ingest.quality.issues import OpenGap
from ingest.storable import storable
from ingest.write.retry import DRIVER_ERRORS, translate

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from ingest.errors import DatabaseFault
    from ingest.quality.issues import Issue

CONNECT_TIMEOUT_S: Final = 10.0
WRITE_TIMEOUT_S: Final = 30.0
CLOSE_TIMEOUT_S: Final = 1.0
MAX_OPEN_GAPS: Final = 10_000
MAX_NAMES: Final = 1_000
"""Open unmapped names looked up in the catalog at the end of a window, the latest: 5 ms."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

# In the order of the key: two workers that write the same issues do not deadlock. A row keeps its first
# example, the worst of all, and the latest of what else it tells.
_WRITE: Final = """
insert into metadata.data_quality_log as open (
    data_source,
    quality_issue_type,
    severity,
    greenhouse_id,
    sensor_id,
    tenant_id,
    time_range_start,
    time_range_end,
    affected_records_count,
    description,
    sample_data
)
select *
from unnest(
    $1::text[],
    $2::text[],
    $3::text[],
    $4::uuid[],
    $5::uuid[],
    $6::uuid[],
    $7::timestamptz[],
    $8::timestamptz[],
    $9::bigint[],
    $10::text[],
    $11::jsonb[]
) as issue (
    data_source,
    quality_issue_type,
    severity,
    greenhouse_id,
    sensor_id,
    tenant_id,
    time_range_start,
    time_range_end,
    affected_records_count,
    description,
    sample_data
)
order by issue.sample_data ->> 'key'
on conflict ((sample_data ->> 'key')) where status <> 'RESOLVED' do update
    set data_source = excluded.data_source,
        severity = case
            when array_position(array['LOW', 'MEDIUM', 'HIGH', 'CRITICAL'], excluded.severity::text)
                > array_position(array['LOW', 'MEDIUM', 'HIGH', 'CRITICAL'], open.severity::text)
                then excluded.severity
            else open.severity
        end,
        tenant_id = excluded.tenant_id,
        time_range_start = least(open.time_range_start, excluded.time_range_start),
        time_range_end = greatest(open.time_range_end, excluded.time_range_end),
        affected_records_count = open.affected_records_count + excluded.affected_records_count,
        description = excluded.description,
        sample_data = open.sample_data
            || case
                when coalesce((excluded.sample_data ->> 'worst_by')::double precision, 0)
                    > coalesce((open.sample_data ->> 'worst_by')::double precision, 0)
                    then excluded.sample_data
                else excluded.sample_data - array['worst', 'worst_by']
            end
            || jsonb_build_object('first', open.sample_data -> 'first')
"""
_END_GAPS: Final = """
update metadata.data_quality_log
set status = 'RESOLVED'
where sample_data @> '{"silent": false}'
    and sample_data ? 'key'
    and quality_issue_type = 'MISSING_DATA'
    and status = 'OPEN'
    and time_range_end < now() - $1::interval
"""
_NAMES: Final = """
select
    sample_data ->> 'key' as key,
    array(select jsonb_array_elements_text(sample_data -> 'missing')) as missing
from metadata.data_quality_log
where sample_data ?& array['key', 'missing']
    and jsonb_typeof(sample_data -> 'missing') = 'array'
    and quality_issue_type = 'UNMAPPED_NAME'
    and status = 'OPEN'
order by time_range_end desc
limit $1
"""
_END_NAMES: Final = """
update metadata.data_quality_log
set status = 'RESOLVED'
where sample_data ->> 'key' = any ($1::text[])
    and quality_issue_type = 'UNMAPPED_NAME'
    and status = 'OPEN'
"""
_OPEN_GAPS: Final = """
select
    greenhouse_id,
    sensor_id,
    (sample_data ->> 'sensor_type_id')::integer as sensor_type_id,
    (sample_data ->> 'since')::timestamptz as since,
    (sample_data ->> 'interval_s')::double precision as interval_s,
    (sample_data ->> 'overdue')::bigint as overdue
from metadata.data_quality_log
where sample_data @> '{"silent": true}'
    and sample_data ?& array['key', 'sensor_type_id', 'since', 'interval_s', 'overdue']
    and quality_issue_type = 'MISSING_DATA'
    and status <> 'RESOLVED'
    and greenhouse_id is not null
    and sensor_id is not null
order by time_range_end desc
limit $1
"""


class QualityLog:
    """Writes issues to the metadata database; see the module's header."""

    def __init__(self, dsn: str, client_id: str, *, resolve_after_s: float) -> None:
        """Prepare; each call connects anew. A gap is resolved *resolve_after_s* after it ended."""
        self._dsn = dsn
        self._client_id = client_id
        self._resolve_after = timedelta(seconds=resolve_after_s)

    async def write(
        self, issues: Sequence[Issue], is_cured: Callable[[Sequence[str]], bool]
    ) -> list[tuple[Issue, Poison]]:
        """Open or extend the rows of *issues*, and resolve what is over; give what was refused, and why.

        Over are gaps that ended, and unmapped names whose missing names *is_cured* says the catalog has.
        One transaction; only when the database refuses what is in it, one for each issue. Raises
        DatabaseFault; what was written all the same, its answer lost, counts twice if it is written again.
        """
        refused: list[tuple[Issue, Poison]] = []
        try:
            await self._connected(lambda connection: self._write(connection, issues, is_cured))
        except Poison as fault:
            if len(issues) < 2:  # noqa: PLR2004 (one alone is the one)
                return [(issue, fault) for issue in issues]
            for issue in issues:
                refused += await self.write([issue], is_cured)
        return refused

    async def open_gaps(self) -> list[OpenGap]:
        """Give the gaps that were open when they were last written. Raises DatabaseFault."""
        gaps: list[OpenGap] = []

        async def read(connection: asyncpg.Connection[asyncpg.Record]) -> None:
            rows = await connection.fetch(_OPEN_GAPS, MAX_OPEN_GAPS)
            gaps.extend(
                OpenGap(
                    UUID(int=row["greenhouse_id"].int),  # the standard library's, as in a Series
                    UUID(int=row["sensor_id"].int),
                    row["sensor_type_id"],
                    (row["since"] - _EPOCH) // timedelta(microseconds=1),
                    int(row["interval_s"] * 1e6),
                    row["overdue"],
                )
                for row in rows
            )

        await self._connected(read)
        return gaps

    async def _write(
        self,
        connection: asyncpg.Connection[asyncpg.Record],
        issues: Sequence[Issue],
        is_cured: Callable[[Sequence[str]], bool],
    ) -> None:
        columns = zip(*(_row(issue) for issue in issues), strict=True)
        # Not asyncpg's transaction object: on a deadline its ROLLBACK would wait on a server that is silent.
        await connection.execute("begin")
        if issues:
            await connection.execute(_WRITE, *columns)
        await connection.execute(_END_GAPS, self._resolve_after)
        names = await connection.fetch(_NAMES, MAX_NAMES)
        if cured := [row["key"] for row in names if row["missing"] and is_cured(row["missing"])]:
            await connection.execute(_END_NAMES, cured)
        await connection.execute("commit")

    async def _connected(self, work: Callable[[asyncpg.Connection[asyncpg.Record]], Awaitable[None]]) -> None:
        """Do *work* on a connection of its own; translate what it raises."""
        connection: asyncpg.Connection[asyncpg.Record] | None = None
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S + WRITE_TIMEOUT_S):
                connection = await asyncpg.connect(
                    self._dsn,
                    timeout=CONNECT_TIMEOUT_S,
                    command_timeout=WRITE_TIMEOUT_S,
                    server_settings={
                        "application_name": f"greenhouse-ingest quality {self._client_id}",
                        "timezone": "UTC",
                    },
                )
                await work(connection)
                await connection.close(timeout=CLOSE_TIMEOUT_S)
        except TimeoutError as error:
            raise Unavailable("the metadata database did not answer in time") from error
        except DRIVER_ERRORS as error:
            raise _translated(error) from error
        finally:
            if connection is not None:
                connection.terminate()


def _translated(error: BaseException) -> DatabaseFault:
    """As everywhere; but two rows of one key in one statement (class 21) hold up each other only."""
    fault = translate(error)
    if (fault.sqlstate or "").startswith("21"):
        return Poison(str(fault), fault.sqlstate)
    return fault


def _row(issue: Issue) -> tuple[Any, ...]:
    subject = issue.subject
    sample: dict[str, Any] = {"key": subject.key, **issue.facts, "first": issue.first}
    if issue.worst is not None:
        sample |= {"worst": issue.worst, "worst_by": issue.worst_by}
    return (
        issue.data_source,
        subject.kind,
        issue.severity,
        subject.greenhouse_id,
        subject.sensor_id,
        subject.tenant_id,
        _EPOCH + timedelta(microseconds=issue.first_us),
        _EPOCH + timedelta(microseconds=issue.last_us),
        issue.count,
        storable(issue.description),
        orjson.dumps(_storable(sample)).decode(),
    )


def _storable(value: Any) -> Any:  # noqa: ANN401 (JSON of any depth)
    """Make every text in *value* fit for jsonb; gateways choose some of them."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        return {key: _storable(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_storable(each) for each in value]
    return value
