"""What the database is to do on its own, as settings: chunks, compression, retention, refreshes and jobs.

Plain values, one table of the TOML file for each kind of setting and one option in it for each
hypertable, continuous aggregate or job of schema `iot`; the defaults are what the migrations make.
Each value is a span of time as text ("3 days"), kept as `Interval` writes it. `ingest schema plan`
compares them with the database.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

from ingest.intervals import Interval


def _span(text: str) -> str:
    return str(Interval.parse(text))


def _fixed_span(text: str) -> str:
    parsed = Interval.parse(text)
    if parsed.months:
        raise ValueError(f"{text!r}: TimescaleDB's chunks have a fixed length: write it in days")
    return str(parsed)


def _retention(text: str) -> str:
    return OFF if text == OFF else _span(text)


OFF = "off"
Span = Annotated[str, AfterValidator(_span)]
FixedSpan = Annotated[str, AfterValidator(_fixed_span)]
Retention = Annotated[str, AfterValidator(_retention)]


class _PolicyTable(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class ChunkIntervalSettings(_PolicyTable):
    """Time that one chunk of a hypertable spans."""

    sensor_readings: FixedSpan = "1 day"
    sensor_readings_hourly: FixedSpan = "1 day"
    sensor_readings_daily: FixedSpan = "30 days"
    sensor_readings_monthly: FixedSpan = "90 days"
    greenhouse_daily_summary: FixedSpan = "30 days"
    sensor_performance_daily: FixedSpan = "30 days"


class CompressAfterSettings(_PolicyTable):
    """Age at which a chunk of a hypertable is compressed."""

    sensor_readings: Span = "3 days"
    sensor_readings_hourly: Span = "7 days"
    sensor_readings_daily: Span = "30 days"
    sensor_readings_monthly: Span = "90 days"
    greenhouse_daily_summary: Span = "30 days"
    sensor_performance_daily: Span = "30 days"


class RetainForSettings(_PolicyTable):
    """Age at which a chunk of a hypertable is dropped; "off" keeps everything."""

    sensor_readings: Retention = OFF
    sensor_readings_hourly: Retention = OFF
    sensor_readings_daily: Retention = OFF
    sensor_readings_monthly: Retention = OFF
    greenhouse_daily_summary: Retention = OFF
    sensor_performance_daily: Retention = OFF


class RefreshEverySettings(_PolicyTable):
    """Time from one refresh of a continuous aggregate to the next."""

    cagg_sensor_readings_hourly: Span = "30 minutes"
    cagg_sensor_readings_daily: Span = "6 hours"
    cagg_sensor_readings_monthly: Span = "1 day"
    cagg_greenhouse_conditions_realtime: Span = "5 minutes"
    cagg_sensor_health_hourly: Span = "1 hour"


class RefreshStartSettings(_PolicyTable):
    """How far back a refresh of a continuous aggregate begins."""

    cagg_sensor_readings_hourly: Span = "3 days"
    cagg_sensor_readings_daily: Span = "4 days"
    cagg_sensor_readings_monthly: Span = "3 months"
    cagg_greenhouse_conditions_realtime: Span = "3 days"
    cagg_sensor_health_hourly: Span = "3 days"


class RefreshEndSettings(_PolicyTable):
    """How far back a refresh of a continuous aggregate ends."""

    cagg_sensor_readings_hourly: Span = "1 hour"
    cagg_sensor_readings_daily: Span = "1 hour"
    cagg_sensor_readings_monthly: Span = "1 hour"
    cagg_greenhouse_conditions_realtime: Span = "15 minutes"
    cagg_sensor_health_hourly: Span = "1 hour"


class JobEverySettings(_PolicyTable):
    """Time from one run of a job of ours to the next."""

    fill_sensor_readings_hourly: Span = "30 minutes"
    fill_sensor_readings_daily: Span = "6 hours"
    fill_sensor_readings_monthly: Span = "1 day"
    fill_greenhouse_daily_summary: Span = "1 hour"
    fill_sensor_performance_daily: Span = "1 hour"
    recompute_late_buckets: Span = "15 minutes"
    fold_ledger_hours: Span = "1 day"


class JobWindowSettings(_PolicyTable):
    """How far back a job computes its rollup anew."""

    fill_sensor_readings_hourly: Span = "3 days"
    fill_sensor_readings_daily: Span = "4 days"
    fill_sensor_readings_monthly: Span = "2 months"
    fill_greenhouse_daily_summary: Span = "4 days"
    fill_sensor_performance_daily: Span = "4 days"


BUCKETS = {
    "cagg_sensor_readings_hourly": Interval(microseconds=3_600_000_000),
    "cagg_sensor_readings_daily": Interval(days=1),
    "cagg_sensor_readings_monthly": Interval(months=1),
    "cagg_greenhouse_conditions_realtime": Interval(microseconds=900_000_000),
    "cagg_sensor_health_hourly": Interval(microseconds=3_600_000_000),
    "fill_sensor_readings_hourly": Interval(microseconds=3_600_000_000),
    "fill_sensor_readings_daily": Interval(days=1),
    "fill_sensor_readings_monthly": Interval(months=1),
    "fill_greenhouse_daily_summary": Interval(days=1),
    "fill_sensor_performance_daily": Interval(days=1),
}
"""Bucket of each continuous aggregate and rollup, as V13 and V15_1 have them; a test compares."""

LATE_AFTER = Interval(days=2)
"""Older readings are noted in iot.ingest_late_buckets (V15); younger ones the windows must cover."""
