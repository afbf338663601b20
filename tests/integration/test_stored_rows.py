"""A day of the table for a report, with what legacy writers and hostile gateways have left in it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ingest.load.measured import Measured
from ingest.load.report import render
from ingest.load.stored_rows import stored_rows
from tests.histories import HOUSE, fetch, register

if TYPE_CHECKING:
    from asyncpg import Record

AT = datetime(2024, 3, 31, tzinfo=UTC)
AT_US = 1_711_843_200_000_000
VALUES = ["1.5", "2.5", "3.5", "NaN", "NaN", "Infinity", "-Infinity"]
FILL = """
    insert into iot.sensor_readings (time, greenhouse_id, sensor_type_id, unit_id, sensor_id, value)
    select
        $1::timestamptz + number * interval '1 s',
        $2,
        (select id from iot.sensor_types where name = 'SETPOINT'),
        (select id from iot.units where symbol = 'value'),
        gen_random_uuid(),
        value::float8
    from unnest($3::text[]) with ordinality as given (value, number)
"""


async def test_values_that_are_no_numbers_are_no_part_of_a_day(plain_dsn: str) -> None:
    await register(plain_dsn)
    await fetch(plain_dsn, FILL, AT, HOUSE, VALUES)

    async def ask(query: str, *given: Any) -> list[Record]:  # noqa: ANN401 (asyncpg's own)
        return await fetch(plain_dsn, query, *given)

    stored = await stored_rows(ask, [HOUSE], AT_US, AT_US + 60_000_000)
    assert stored.by_type == (("SETPOINT", len(VALUES)),)
    (day,) = stored.days
    assert {part.middle for part in day.parts} == {2.5}
    assert "SETPOINT" in render(Measured(title="t", verdict="v", ok=None, days=stored.days))
    await fetch(plain_dsn, FILL, AT, HOUSE, ["-1.7e308", "1.7e308"])
    stored = await stored_rows(ask, [HOUSE], AT_US, AT_US + 60_000_000)
    assert "SETPOINT" in render(Measured(title="t", verdict="v", ok=None, days=stored.days))
