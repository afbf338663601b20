"""Which findings of `ingest status` are breaches, at the edge of each threshold; when the disk is full."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from ingest.intervals import Interval
from ingest.operate.policy_plan import Job as PolicyJob
from ingest.operate.policy_plan import Plan
from ingest.operate.status_facts import (
    Aggregate,
    Coverage,
    DeadLetters,
    Findings,
    Hypertable,
    Job,
    LateHours,
    LegacyName,
    LetterReason,
    Rate,
    ReadingsCoverage,
    Session,
    SilentSensor,
    Unmapped,
)
from ingest.operate.status_forecast import Forecast, forecast
from ingest.operate.status_judge import judge, remarks, some, span, up_to
from ingest.operation_settings import StatusSettings

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LIMITS = StatusSettings()
TABLE = Hypertable(
    name="sensor_readings",
    chunks=10,
    compressed=8,
    overdue=0,
    outlived=0,
    oldest=NOW - timedelta(days=10),
    newest=NOW,
    retain_for=None,
    retain_for_s=None,
    packed_rows=8_000_000,
    before_bytes=2_000_000_000,
    after_bytes=80_000_000,
    total_bytes=500_000_000,
)
JOB = Job(
    job_id=1000,
    procedure="policy_compression",
    subject="sensor_readings",
    scheduled=True,
    every_s=43_200.0,
    last_run_started_at=NOW,
    status="Success",
    duration_s=1.0,
    next_start=NOW,
    runs=4,
    failures=1,
    running=False,
    missed=False,
    error=None,
)
AGGREGATE = Aggregate(
    name="cagg_sensor_readings_hourly",
    watermark=NOW,
    wanted=NOW,
    job_id=1001,
    scheduled=True,
    last_run_started_at=NOW,
    status="Success",
    duration_s=1.0,
    runs=1,
    failures=0,
)
SESSION = Session("worker", "host", 1, None, 0, 0, NOW, NOW, 899.0)
HOUSE = uuid4()


def breaches(limits: StatusSettings = LIMITS, **parts: object) -> list[str]:
    return [each.check for each in judge(replace(Findings(NOW), **parts), limits)]  # type: ignore[arg-type]  # each part as its field wants it


def test_nothing_found_is_no_breach() -> None:
    assert breaches() == []
    well = Findings(
        NOW,
        hypertables=[TABLE],
        aggregates=[AGGREGATE],
        jobs=[JOB],
        policies=Plan((), ()),
        sessions=[SESSION],
        rate=Rate(10, 10, 60.0, 300.0),
        coverage=[Coverage("sensors", 3, 0)],
        readings=ReadingsCoverage(1, 1, 5, 0),
        dead_letters=DeadLetters(500, 100, [LetterReason("bad_value", 500, 100, NOW)], 7),
        silent=[],
        late=LateHours(3, NOW - timedelta(minutes=59)),
    )
    assert judge(well, LIMITS) == []


def test_each_threshold_is_passed_by_a_little() -> None:
    assert breaches(sessions=[replace(SESSION, age_s=901.0)]) == ["worker"]
    assert breaches(sessions=[replace(SESSION, client_id="old", age_s=901.0), SESSION]) == ["session"]
    assert breaches(sessions=[replace(SESSION, age_s=None)]) == []
    assert breaches(rate=Rate(1, 1, 60.0, 300.5)) == ["lag"]
    assert breaches(hypertables=[replace(TABLE, overdue=1)]) == ["compression"]
    assert breaches(hypertables=[replace(TABLE, outlived=1)]) == ["retention"]
    assert breaches(hypertables=[replace(TABLE, after_bytes=300_000_000)]) == []
    assert breaches(hypertables=[replace(TABLE, after_bytes=300_000_001)]) == ["ratio"]
    small = replace(TABLE, before_bytes=63_999_999, after_bytes=64_000_000)
    assert breaches(hypertables=[small]) == []
    assert breaches(StatusSettings(compression_from_mb=63), hypertables=[small]) == ["ratio"]
    assert breaches(jobs=[replace(JOB, status="Failed")]) == ["jobs"]
    assert breaches(jobs=[replace(JOB, status="Failed", scheduled=False)]) == []
    assert breaches(jobs=[replace(JOB, missed=True)]) == ["scheduler"]
    (breach,) = judge(Findings(NOW, jobs=[replace(JOB, missed=True)]), LIMITS)
    assert "INGEST_TIMESERIES_DSN_FILE" in breach.command, "the DSN is in a file as often as in the variable"
    assert breaches(jobs=[replace(JOB, missed=True, running=True)]) == []
    assert breaches(aggregates=[replace(AGGREGATE, stale=True)]) == ["aggregates"]
    assert up_to(AGGREGATE) == "readings up to 2026-03-01 12:00 UTC"
    assert up_to(replace(AGGREGATE, watermark=None)) == "nothing yet"
    assert breaches(late=LateHours(1, NOW - timedelta(minutes=61))) == ["late_hours"]
    assert breaches(invalid_indexes=["iot.x"]) == ["indexes"]
    assert breaches(readings=ReadingsCoverage(1, 1, 1_000_000, 1)) == ["readings"]
    assert breaches(StatusSettings(coverage_pct=99.9), readings=ReadingsCoverage(1, 1, 1000, 1)) == []
    letters = [LetterReason("unknown_unit", 101, 101, NOW), LetterReason("bad_value", 101, 0, NOW)]
    assert breaches(dead_letters=DeadLetters(101, 101, letters, 0)) == ["dead_letters"]
    silent = [SilentSensor(uuid4(), HOUSE, 10, None)]
    assert breaches(silent=silent, sensors_watched=2) == ["silent_sensors"]
    disk = Forecast(1, 2, 1.0, 1.0, 0.0, 29.9)
    assert breaches(forecast=disk) == ["disk"]
    assert breaches(forecast=replace(disk, days_left=30.0)) == []
    assert breaches(forecast=replace(disk, days_left=None)) == []


def test_a_session_of_a_share_group_is_left_to_its_supervisors() -> None:
    alone = replace(SESSION, client_id="it's old", age_s=901.0)
    member = replace(SESSION, client_id="worker-1", share_group="greenhouse-ingest", age_s=3600.0)
    first, second = judge(Findings(NOW, sessions=[alone, SESSION, member]), LIMITS)
    assert first.command == "INGEST_BROKER__CLIENT_ID='it'\"'\"'s old' ingest run"
    assert "committed nothing for 15 min 1 s" in first.what
    assert "'worker-1' has committed nothing for 1 h 0 min" in second.what
    assert second.command == "ingest check", "a worker by itself would subscribe to what the group has"
    assert second.hint is not None
    assert "workers.orphan_after_s" in second.hint


def test_letters_that_lack_a_name_are_told_from_those_of_a_topic_without_a_route() -> None:
    reasons = ("ambiguous_greenhouse", "unknown_unit", "unknown_topic", "too_large")
    letters = DeadLetters(400, 400, [LetterReason(each, 100, 100, NOW) for each in reasons], 0)
    told = judge(Findings(NOW, dead_letters=letters), LIMITS)
    assert ["v_ingest_missing_names" in (each.hint or "") for each in told] == [True, True, False, False]
    assert [" replay " in each.command for each in told] == [True, True, True, False]


def test_of_a_job_that_is_recorded_wrong_nothing_is_advised_that_cannot_help() -> None:
    failed = replace(JOB, status="Failed", error="iot.in_the_way is in the way")
    wrong = replace(failed, job_id=1001, error='cannot drop portal "" while it is being set up')
    mended, known = judge(Findings(NOW, jobs=[failed, wrong]), LIMITS)
    assert ("job 1000" in mended.what, mended.command) == (True, "ingest maintain daily --only jobs --yes")
    assert "job 1001" not in mended.what
    assert ("job 1001" in known.what, known.command) == (True, "ingest maintain daily --only jobs --dry-run")
    assert "a known fault of TimescaleDB 2.28.3 on PostgreSQL 15.20" in (known.hint or "")


def test_disabled_jobs_are_named() -> None:
    disabled = PolicyJob(
        7, "policy_refresh_continuous_aggregate", "x", scheduled=False, every=Interval(days=1)
    )
    (breach,) = judge(Findings(NOW, policies=Plan((), (disabled,))), LIMITS)
    assert "job 7" in breach.what
    assert breach.command == "ingest schema apply --enable"


def test_a_breach_says_how_the_names_get_into_the_catalog() -> None:
    found = Findings(
        NOW,
        coverage=[Coverage("sensors", 4, 2), Coverage("actuators", 1, 1)],
        unmapped=[
            Unmapped("sensors", "unit", "grados", None, 2),
            Unmapped("actuators", "actuator_type", "EXTRACTOR", None, 1),
            Unmapped("actuators", "actuator_type", "EXTRACTOR", "RELAY", 5),
        ],
    )
    sensors, actuators, contradiction = judge(found, LIMITS)
    assert sensors.hint is not None
    assert "`ingest catalog add alias unit 'grados' UNIT`" in sensors.hint
    assert "unit 'grados' (2)" in sensors.what
    assert actuators.hint is not None
    assert "metadata.actuator_types" in actuators.hint
    assert "'EXTRACTOR' and have the id of RELAY" in contradiction.what
    found.readings = ReadingsCoverage(1, 1, 10, 3, [LegacyName("t", None, 3, 0, 3, 3)])
    assert "'t' in None (3)" in judge(found, LIMITS)[-1].what


def test_remarks_are_no_breaches() -> None:
    never = replace(JOB, runs=0, status=None)
    unknown = Forecast(1, None, None, None, None, remark="x")
    found = Findings(NOW, jobs=[never], sessions=[], readings=ReadingsCoverage(9, 2), forecast=unknown)
    told = list(remarks(found))
    assert [each.partition(" ")[0] for each in told] == ["no", "no", "readings", "when"]
    assert "2 of 9 chunks" in told[2]
    assert judge(found, LIMITS) == []


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (61, "1 min 1 s"), (3600, "1 h 0 min"), (90_061, "1 d 1 h"), (86_400 * 400, "400 d 0 h")],
)
def test_spans_are_said_in_two_units(seconds: float, said: str) -> None:
    assert span(seconds) == said


def test_long_lists_are_cut() -> None:
    assert some(["a"]) == "a"
    assert some(["a", "b", "c", "d"]) == "a, b, c and 1 more"


def days_left(capacity_gb: float | None, **changes: object) -> float | None:
    """Of a table of 10 bytes a row and a million rows a day, with 0.4 GB used."""
    rows_a_day = changes.pop("rows_a_day", 1_000_000.0)
    assert rows_a_day is None or isinstance(rows_a_day, float)
    table = replace(TABLE, **changes)  # type: ignore[arg-type]  # each change as its field wants it
    return forecast(400_000_000, capacity_gb, rows_a_day, [table], []).days_left


def test_the_disk_is_full_when_rows_times_bytes_have_filled_it() -> None:
    assert days_left(0.5) == pytest.approx(10.0)
    assert days_left(0.4) == 0.0
    assert days_left(None) is None
    assert days_left(0.5, rows_a_day=None) is None
    assert days_left(0.5, packed_rows=0) is None
    assert days_left(1e6) is None  # more than a hundred years


def test_retention_holds_what_it_drops() -> None:
    kept = {"retain_for": "20 days", "retain_for_s": 20 * 86_400.0}
    # Ten days are there, ten more will be: 0.1 GB.
    assert days_left(0.45, **kept) == pytest.approx(5.0)
    assert days_left(0.6, **kept) is None
    found = forecast(400_000_000, 0.6, 1_000_000.0, [replace(TABLE, **kept)], [])  # type: ignore[arg-type]  # as above
    assert found.remark == "retention of 20 days holds it below"


def test_aggregates_grow_on_when_readings_do_not() -> None:
    kept = replace(TABLE, retain_for="20 days", retain_for_s=20 * 86_400.0)
    # Ten million readings (two of ten chunks are not compressed) and 10 MB of aggregates: a byte for each.
    rolled_up = replace(AGGREGATE, total_bytes=10_000_000)
    found = forecast(400_000_000, 0.6, 1_000_000.0, [kept], [rolled_up])
    assert found.aggregate_bytes_a_row == pytest.approx(1.0)
    assert found.bytes_a_day == pytest.approx(11_000_000.0)
    # Ten days at 11 MB, then 90 MB at 1 MB a day.
    assert found.days_left == pytest.approx(100.0)
