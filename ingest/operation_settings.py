"""What `ingest status` calls a breach, and what `ingest maintain` takes on, as settings.

Plain values; the reason of each default is beside it in `config/ingest.toml`. The worker reads none of them.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from ingest.policy_settings import Retention


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


class StatusSettings(_Table):
    """Thresholds: beyond one of them `ingest status` names a breach and ends with 1."""

    coverage_pct: float = Field(default=100.0, ge=0, le=100)
    """Rows that have their ids, of those that were counted."""
    count_for_s: float = Field(default=2.0, gt=0, le=3600)
    """How long readings without ids are counted, the newest and the oldest chunks first."""
    compression_pct: float = Field(default=85.0, ge=0, lt=100)
    """Part of the bytes that compression has to save,"""
    compression_from_mb: float = Field(default=64.0, ge=0, le=1_000_000)
    """judged once a table had as many before."""
    compression_late_s: float = Field(default=86_400.0, ge=0, le=366 * 86_400)
    """A chunk may be so much older than compress_after and not compressed, or than retain_for and there."""
    aggregate_late_runs: float = Field(default=2.0, ge=1, le=1000)
    """Runs that a continuous aggregate or a job may miss."""
    silent_intervals: float = Field(default=3.0, ge=1, le=1000)
    """A sensor is silent after so many of its intervals,"""
    silent_least_s: float = Field(default=900.0, ge=1, le=30 * 86_400)
    """and not before: what a gateway needs to reconnect."""
    dead_letters_per_day: int = Field(default=100, ge=0, le=1_000_000_000)
    commit_age_s: float = Field(default=900.0, ge=1, le=30 * 86_400)
    """Since a worker committed something."""
    lag_s: float = Field(default=300.0, ge=1, le=30 * 86_400)
    """From the time of a reading to its receipt, of the gateway that is least behind."""
    capacity_gb: float | None = Field(default=None, gt=0, le=1_000_000_000)
    """What the readings' database may take; without it nothing is forecast."""
    disk_days: float = Field(default=30.0, ge=0, le=36_600)
    """Days that have to be left until the capacity is full."""


class MaintainSettings(_Table):
    """What `ingest maintain` deletes and rebuilds."""

    purge_dead_letters_after: Retention = "90 days"
    reindex_from_mb: float = Field(default=16.0, ge=0, le=1_000_000)
    """Smaller indexes are not worth it."""
