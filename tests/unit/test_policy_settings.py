"""Settings of policies: what is refused, what contradicts, and that they cover what the migrations make."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from ingest.configuration import load_settings
from ingest.errors import ConfigurationError
from ingest.intervals import Interval
from ingest.migrate import Database, schema_folder
from ingest.policy_contradictions import policy_contradictions
from ingest.policy_settings import BUCKETS, OFF
from ingest.settings import Settings

SCHEMA = schema_folder(Database.TIMESERIES)


@pytest.fixture(autouse=True)
def _no_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [each for each in os.environ if each.upper().startswith("INGEST_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def faults(toml: str) -> list[str]:
    Path("test.toml").write_text(toml)
    with pytest.raises(ConfigurationError) as caught:
        load_settings(Path("test.toml"))
    return caught.value.faults


def source(pattern: str) -> str:
    return "\n".join(path.read_text() for path in sorted(SCHEMA.glob(pattern)))


@pytest.mark.parametrize(
    ("toml", "fault"),
    [
        (
            "[compress_after]\nsensor_readings = '0 days'",
            "compress_after.sensor_readings: '0 days' is no time at all: it must be above 0 (test.toml)",
        ),
        ("[compress_after]\nsensor_readings = 3", "compress_after.sensor_readings: 3 is no text (test.toml)"),
        (
            "[chunk_interval]\nsensor_readings = '1 month'",
            (
                "chunk_interval.sensor_readings: '1 month': TimescaleDB's chunks have a fixed length: "
                "write it in days (test.toml)"
            ),
        ),
        (
            "[refresh_start]\ncagg_sensor_readings_daily = '2 days'",
            (
                "refresh_start.cagg_sensor_readings_daily: 2 days must reach two buckets of 1 day beyond "
                "refresh_end.cagg_sensor_readings_daily 1 hour (test.toml)"
            ),
        ),
        (
            "[refresh_start]\ncagg_sensor_health_hourly = '2 days'",
            (
                "refresh_start.cagg_sensor_health_hourly: 2 days must cover 2 days, a bucket of 1 hour and "
                "refresh_every.cagg_sensor_health_hourly 1 hour: later readings are noted and computed "
                "again, earlier ones would be missed (test.toml)"
            ),
        ),
        (
            "[job_every]\nfill_sensor_readings_hourly = '2 days'",
            (
                "job_window.fill_sensor_readings_hourly: 3 days must cover 2 days and "
                "job_every.fill_sensor_readings_hourly 2 days: later readings are noted and computed again, "
                "earlier ones would be missed (test.toml)"
            ),
        ),
        (
            "[retain_for]\nsensor_readings = '3 months'",
            (
                "retain_for.sensor_readings: 3 months is not above "
                "refresh_start.cagg_sensor_readings_monthly 3 months: what was computed from whole buckets "
                "would be computed again from what is left of them (test.toml)"
            ),
        ),
        (
            "[decode]\nmax_age_s = 31536000\n[retain_for]\nsensor_readings = '1 year'",
            (
                "retain_for.sensor_readings: 1 year is not above decode.max_age_s 31536000 and a bucket of "
                "1 month: what was computed from whole buckets would be computed again from what is left of "
                "them (test.toml)"
            ),
        ),
        (
            "[retain_for]\nsensor_readings_daily = '30 days'",
            (
                "retain_for.sensor_readings_daily: 30 days is not above compress_after.sensor_readings_daily "
                "30 days (test.toml)"
            ),
        ),
        (
            "[compress_after]\nsensor_readings_daily='1 day'\n[retain_for]\nsensor_readings_daily='5 days'",
            (
                "retain_for.sensor_readings_daily: 5 days is not above job_window.fill_sensor_readings_daily "
                "4 days and a bucket of 1 day: the job would fill it again (test.toml)"
            ),
        ),
    ],
)
def test_each_fault_is_one_line(toml: str, fault: str) -> None:
    assert faults(toml) == [fault]


def test_the_defaults_contradict_nothing_and_two_years_neither() -> None:
    assert list(policy_contradictions(Settings())) == []
    kept = Settings.model_validate({"retain_for": {"sensor_readings": "2 years"}})
    assert list(policy_contradictions(kept)) == []


def test_months_are_kept_as_months() -> None:
    settings = Settings.model_validate({"compress_after": {"sensor_readings_monthly": "12 weeks"}})
    assert settings.compress_after.sensor_readings_monthly == "84 days"
    assert settings.refresh_start.cagg_sensor_readings_monthly == "3 months"


def test_every_hypertable_aggregate_and_job_of_the_migrations_has_its_settings() -> None:
    settings = Settings()
    tables = set(re.findall(r"create_hypertable\(\s*'iot\.(\w+)'", source("V*.sql")))
    assert set(settings.chunk_interval.model_dump()) == tables
    assert set(settings.compress_after.model_dump()) == set(settings.retain_for.model_dump()) == tables
    assert set(settings.retain_for.model_dump().values()) == {OFF}
    aggregates = set(re.findall(r"create materialized view if not exists iot\.(\w+)", source("V13__*.sql")))
    for table in (settings.refresh_every, settings.refresh_start, settings.refresh_end):
        assert set(table.model_dump()) == aggregates
    jobs = set(re.findall(r"create or replace procedure iot\.(\w+)\(job_id", source("V16__*.sql")))
    assert set(settings.job_every.model_dump()) == jobs
    assert set(settings.job_window.model_dump()) == {name for name in jobs if name.startswith("fill_")}


def test_the_buckets_are_those_of_the_aggregates() -> None:
    found = re.findall(
        r"create materialized view if not exists iot\.(\w+).*?time_bucket\(interval '([^']+)'",
        source("V13__*.sql"),
        re.DOTALL,
    )
    assert {name: Interval.parse(text) for name, text in found} == {
        name: bucket for name, bucket in BUCKETS.items() if name.startswith("cagg_")
    }
