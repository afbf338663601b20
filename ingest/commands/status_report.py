"""The report of `ingest status --json`: one object, whose keys docs/status.md shows; a test compares."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ingest.operate.status_facts import floor2

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingest.operate.names import Names
    from ingest.operate.policy_plan import Plan
    from ingest.operate.status_facts import (
        Aggregate,
        Coverage,
        Findings,
        Hypertable,
        Job,
        Rate,
        ReadingsCoverage,
        SilentSensor,
        Unmapped,
    )
    from ingest.operate.status_forecast import Forecast
    from ingest.operate.status_judge import Breach


def as_json(
    found: Findings, breaches: Sequence[Breach], remarks: Sequence[str], names: Names
) -> dict[str, Any]:
    """Give everything that was found; a part that could not be read is null."""
    report = {
        "ok": not breaches and not found.faults,
        "at": found.at,
        "seconds": round(found.seconds, 3),
        "breaches": [asdict(each) for each in breaches],
        "faults": [asdict(each) for each in found.faults],
        "remarks": list(remarks),
        "server": None if found.server is None else asdict(found.server),
        "hypertables": _each(found.hypertables, _hypertable),
        "aggregates": _each(found.aggregates, lambda each: _aggregate(each, found.at)),
        "jobs": _each(found.jobs, _job),
        "policies": None if found.policies is None else _policies(found.policies),
        "invalid_indexes": found.invalid_indexes,
        "late_hours": None if found.late is None else asdict(found.late),
        "coverage": _each(found.coverage, _coverage),
        "unmapped": _each(found.unmapped, _unmapped),
        "readings": None if found.readings is None else _readings(found.readings),
        "sensors_watched": found.sensors_watched,
        "silent_sensors": _each(found.silent, lambda each: _silent(each, names)),
        "sessions": _each(found.sessions, asdict),
        "rate": None if found.rate is None else _rate(found.rate),
        "rows_a_day": found.rows_a_day,
        "forecast": None if found.forecast is None else _forecast(found.forecast),
        "dead_letters": None if found.dead_letters is None else asdict(found.dead_letters),
        "quality": _each(found.quality, asdict),
    }
    plain = _plain(report)
    assert isinstance(plain, dict), "it was one"  # noqa: S101 (for the type checker)
    return plain


def _each(things: Sequence[Any] | None, told: Any) -> list[Any] | None:  # noqa: ANN401 (a function of each kind)
    return None if things is None else [told(each) for each in things]


def _hypertable(table: Hypertable) -> dict[str, Any]:
    return asdict(table) | {"saved_pct": _rounded(table.saved_pct)}


def _aggregate(aggregate: Aggregate, at: datetime) -> dict[str, Any]:
    behind = None if aggregate.watermark is None else round((at - aggregate.watermark).total_seconds())
    return asdict(aggregate) | {"behind_s": behind}


def _job(job: Job) -> dict[str, Any]:
    return asdict(job) | {"failure_pct": _rounded(job.failure_pct)}


def _policies(plan: Plan) -> dict[str, Any]:
    return {
        "differences": [
            {"setting": each.option, "live": each.live, "wanted": each.wanted} for each in plan.differences
        ],
        "disabled": [job.job_id for job in plan.disabled],
    }


def _coverage(table: Coverage) -> dict[str, Any]:
    return {
        "table": table.table_name,
        "rows": table.rows,
        "lacking": table.lacking,
        "pct": _rounded(table.pct),
    }


def _unmapped(name: Unmapped) -> dict[str, Any]:
    return {
        "table": name.table_name,
        "column": name.column_name,
        "value": name.value,
        "mapped_to": name.mapped_to,
        "rows": name.rows,
    }


def _readings(readings: ReadingsCoverage) -> dict[str, Any]:
    return asdict(readings) | {"pct": _rounded(readings.pct)}


def _silent(sensor: SilentSensor, names: Names) -> dict[str, Any]:
    return asdict(sensor) | {
        "sensor": names.sensor(sensor.sensor_id),
        "greenhouse": names.greenhouse(sensor.greenhouse_id),
    }


def _rate(rate: Rate) -> dict[str, Any]:
    messages, readings = rate.messages_per_s, rate.readings_per_s
    return asdict(rate) | {
        "messages_per_s": None if messages is None else round(messages, 2),
        "readings_per_s": None if readings is None else round(readings, 2),
    }


def _forecast(forecast: Forecast) -> dict[str, Any]:
    return asdict(forecast) | {"bytes_a_day": forecast.bytes_a_day}


def _rounded(share: float | None) -> float | None:
    return None if share is None else floor2(share)


def _plain(tree: Any) -> Any:  # noqa: ANN401 (JSON is any of them)
    """Give *tree* with times and ids as text."""
    match tree:
        case dict():
            return {key: _plain(each) for key, each in tree.items()}
        case list():
            return [_plain(each) for each in tree]
        case datetime():
            return tree.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        case UUID():
            return str(tree)
        case _:
            return tree
