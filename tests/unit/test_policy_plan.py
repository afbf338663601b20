"""Which changes a plan joins, and what it says of what is not there."""

from __future__ import annotations

import pytest

from ingest.errors import MigrationError
from ingest.intervals import Interval
from ingest.operate.policy_plan import REFRESH, Change, Job, Live, make_plan, merged
from ingest.settings import Settings

DAY = Interval(days=1)


def test_changes_of_one_job_are_one_change() -> None:
    changes = [
        Change("alter_job", 7, {"start_offset": DAY}),
        Change("alter_job", 8, {"every": DAY}),
        Change("alter_job", 7, {"end_offset": DAY}),
        Change("delete_job", 7),
    ]
    assert merged(changes) == [
        Change("alter_job", 7, {"start_offset": DAY, "end_offset": DAY}),
        Change("alter_job", 8, {"every": DAY}),
        Change("delete_job", 7),
    ]


def test_an_empty_database_lacks_every_table_and_aggregate() -> None:
    with pytest.raises(MigrationError) as caught:
        make_plan(Settings(), Live({}, frozenset(), ()))
    assert str(caught.value).count("iot.") == 11


def test_a_refresh_without_a_start_and_a_second_one_are_differences() -> None:
    settings = Settings()
    name = "cagg_sensor_health_hourly"
    hour = Interval.parse("1 hour")
    live = Live(
        {table: Interval.parse(text) for table, text in settings.chunk_interval.model_dump().items()},
        frozenset(settings.refresh_every.model_dump()),
        (
            Job(12, REFRESH, name, scheduled=True, every=hour, config={"end_offset": hour}),
            Job(10, REFRESH, name, scheduled=False, every=hour, config={"end_offset": hour}),
        ),
    )
    plan = make_plan(settings, live)
    mine = [each for each in plan.differences if each.option.endswith(name)]
    assert [(each.option, each.live, each.change) for each in mine] == [
        (f"refresh_start.{name}", "not set", Change("alter_job", 10, {"start_offset": Interval(days=3)})),
        (f"refresh_every.{name}", "job 10, and job 12 for the same", Change("delete_job", 12)),
    ]
    assert [job.job_id for job in plan.disabled] == [10]
    enabling = make_plan(settings, live, enable=True)
    assert enabling.differences[-1].change == Change("enable_job", 10)
    assert enabling.disabled == ()
