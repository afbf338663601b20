"""What dashboards ask, on the legacy rows, on the continuous aggregates and on the rollups; the comparison.

Each form of a question is asked with the same values, beginning with the greenhouse, and has to give the same
rows, numbers and all. A sum of floating-point numbers depends on their order: two count as equal within 1e-9
of their size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from string import Template
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

_TOLERANCE: Final = 1e-9
_LEGACY: Final = Template("""
    select
        time_bucket(interval '1 $unit', r.time) as bucket,
        r.unit,
        avg(r.value) as avg_value,
        min(r.value) as min_value,
        max(r.value) as max_value,
        stddev_samp(r.value) as stddev_value,$percentiles
        count(*) as count_readings,
        count(*) filter (where r.value is null) as null_count,
        min(r.time) as first_reading_at,
        max(r.time) as last_reading_at
    from legacy.sensor_readings as r
    where r.greenhouse_id = $$1
        and r.sensor_type = $$2
        and r.time >= $$3
    group by 1, 2
    order by 1, 2
""")
_LEGACY_PERCENTILES: Final = """
        percentile_cont(0.5) within group (order by r.value) as median_value,
        percentile_cont(0.05) within group (order by r.value) as p5_value,
        percentile_cont(0.95) within group (order by r.value) as p95_value,"""
_AGGREGATED: Final = Template("""
    select
        a.bucket,
        u.symbol as unit,
        a.avg_value,
        a.min_value,
        a.max_value,
        a.stddev_value,$percentiles
        a.count_readings,
        a.null_count,
        a.first_reading_at,
        a.last_reading_at
    from iot.$table as a
    join iot.units as u on u.id = a.unit_id
    where a.greenhouse_id = $$1
        and a.sensor_type_id = (select t.id from iot.sensor_types as t where t.name = $$2)
        and a.bucket >= $$3
    order by 1, 2
""")
_PERCENTILES: Final = """
        a.median_value,
        a.p5_value,
        a.p95_value,"""
_LEGACY_LATEST: Final = """
    select distinct on (r.sensor_id)
        r.sensor_id,
        r.time,
        r.unit,
        r.value
    from legacy.sensor_readings as r
    where r.greenhouse_id = $1
        and r.time >= $2
    order by r.sensor_id, r.time desc
"""
# Which sensors there are, from the aggregate; the latest reading of each, from the unique index.
_LATEST: Final = """
    select
        s.sensor_id,
        r.time,
        u.symbol as unit,
        r.value
    from (
        select distinct h.sensor_type_id, h.sensor_id
        from iot.cagg_sensor_health_hourly as h
        where h.greenhouse_id = $1
            and h.bucket >= $2
    ) as s
    cross join lateral (
        select
            l.time,
            l.unit_id,
            l.value
        from iot.sensor_readings as l
        where l.greenhouse_id = $1
            and l.sensor_type_id = s.sensor_type_id
            and l.sensor_id = s.sensor_id
            and l.time >= $2
        order by l.time desc
        limit 1
    ) as r
    join iot.units as u on u.id = r.unit_id
    order by s.sensor_id
"""


@dataclass(frozen=True, slots=True)
class Question:
    """One question: its SQL by form (legacy, aggregate, rollup), asked with a greenhouse and ``values``."""

    name: str
    forms: dict[str, str]
    values: tuple[object, ...]


def questions(until: datetime) -> list[Question]:
    """Return what a dashboard asks at *until*, a full hour."""
    day = until.replace(hour=0)
    month = day.replace(day=1)
    return [
        _by_bucket("last 24 hours, hourly", "hour", "hourly", until - timedelta(hours=24)),
        _by_bucket("7 days, hourly", "hour", "hourly", until - timedelta(days=7)),
        _by_bucket("30 days, daily", "day", "daily", day - timedelta(days=30)),
        _by_bucket("12 months, monthly", "month", "monthly", month.replace(year=month.year - 1)),
        Question(
            "latest of each sensor",
            {"legacy": _LEGACY_LATEST, "aggregate": _LATEST},
            (until - timedelta(hours=24),),
        ),
    ]


def _by_bucket(name: str, unit: str, table: str, since: datetime) -> Question:
    """Ask for the temperatures of a greenhouse; by day and month with the percentiles shown there."""
    legacy, ours = ("", "") if unit == "hour" else (_LEGACY_PERCENTILES, _PERCENTILES)
    forms = {
        "legacy": _LEGACY.substitute(unit=unit, percentiles=legacy),
        "aggregate": _AGGREGATED.substitute(table=f"cagg_sensor_readings_{table}", percentiles=ours),
        "rollup": _AGGREGATED.substitute(table=f"sensor_readings_{table}", percentiles=ours),
    }
    return Question(name, forms, ("TEMPERATURE", since))


def differences(one: Sequence[tuple[Any, ...]], other: Sequence[tuple[Any, ...]]) -> list[str]:
    """Return how two answers differ, a line a row; [] when they say the same."""
    found = [f"{len(one)} rows against {len(other)}"] if len(one) != len(other) else []
    return found + [
        f"{left} against {right}"
        for left, right in zip(one, other, strict=False)
        if not all(map(_same, left, right))
    ]


def _same(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
    return one == other
