"""When the capacity is full: rows a day times what a row takes once it is compressed. Pure.

The two grow apart. Readings grow until their retention drops as much a day as comes; aggregates and rollups
are kept for ever, and grow with each row that was ever written.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ingest.operate.status_facts import Aggregate, Hypertable

READINGS: Final = "sensor_readings"
_DAY_S: Final = 86_400.0
_FOR_EVER_DAYS: Final = 36_525.0
"""A hundred years: what takes longer is not said in days."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What was reckoned; ``remark`` says what could not be, and why."""

    used_bytes: int
    capacity_bytes: int | None
    rows_a_day: float | None
    bytes_a_row: float | None
    """Of readings in compressed chunks, with their indexes."""
    aggregate_bytes_a_row: float | None
    """Of aggregates and rollups, for each reading."""
    days_left: float | None = None
    """None: not known, or never."""
    remark: str | None = None

    @property
    def bytes_a_day(self) -> float | None:
        """What is added each day."""
        if self.rows_a_day is None or self.bytes_a_row is None:
            return None
        return self.rows_a_day * (self.bytes_a_row + (self.aggregate_bytes_a_row or 0.0))


def forecast(
    used_bytes: int,
    capacity_gb: float | None,
    rows_a_day: float | None,
    tables: Iterable[Hypertable],
    aggregates: Iterable[Aggregate],
) -> Forecast:
    """Reckon from what the tables hold now."""
    by_name = {each.name: each for each in tables}
    readings = by_name.pop(READINGS, None)
    derived = sum(each.total_bytes for each in by_name.values())
    derived += sum(each.total_bytes for each in aggregates)
    capacity = None if capacity_gb is None else int(capacity_gb * 1e9)
    packed = readings is not None and readings.packed_rows > 0
    bytes_a_row = readings.after_bytes / readings.packed_rows if readings and packed else None
    rows = _rows(readings, rows_a_day) if readings else 0.0
    found = Forecast(used_bytes, capacity, rows_a_day, bytes_a_row, derived / rows if rows else None)
    if capacity is None:
        return _with(found, None, "no capacity is configured (status.capacity_gb)")
    if used_bytes >= capacity:
        return _with(found, 0.0, None)
    if rows_a_day is None:
        return _with(found, None, "no rows of the last seven days are booked or rolled up")
    if readings is None or bytes_a_row is None:
        return _with(found, None, "nothing is compressed yet, so what a row takes is not known")
    return _with(found, *_days_left(found, readings, capacity - used_bytes))


def _with(found: Forecast, days_left: float | None, remark: str | None) -> Forecast:
    return replace(found, days_left=days_left, remark=remark)


def _rows(readings: Hypertable, rows_a_day: float | None) -> float:
    """Give the readings there are: what was compressed is counted, the other chunks are taken for days."""
    if readings.oldest is None or readings.newest is None or not readings.chunks:
        return float(readings.packed_rows)
    chunk_days = (readings.newest - readings.oldest).total_seconds() / _DAY_S / readings.chunks
    return readings.packed_rows + (rows_a_day or 0.0) * chunk_days * (readings.chunks - readings.compressed)


def _days_left(found: Forecast, readings: Hypertable, free_bytes: float) -> tuple[float | None, str | None]:
    """Give the days until *free_bytes* are used, or None and why it does not come to that."""
    daily = found.bytes_a_day or 0.0
    if daily <= 0:
        return None, "nothing is added"
    if readings.retain_for_s is None:
        return _within_reason(free_bytes / daily, "it takes more than a hundred years")
    age_s = 0.0 if readings.oldest is None or readings.newest is None else (
        readings.newest - readings.oldest
    ).total_seconds()  # fmt: skip
    growing_days = max(0.0, (readings.retain_for_s - age_s) / _DAY_S)
    if free_bytes <= daily * growing_days:
        return free_bytes / daily, None
    later = (found.rows_a_day or 0.0) * (found.aggregate_bytes_a_row or 0.0)
    held = f"retention of {readings.retain_for} holds it below"
    if later <= 0:
        return None, held
    return _within_reason(growing_days + (free_bytes - daily * growing_days) / later, held)


def _within_reason(days: float, otherwise: str) -> tuple[float | None, str | None]:
    return (days, None) if days <= _FOR_EVER_DAYS else (None, otherwise)
