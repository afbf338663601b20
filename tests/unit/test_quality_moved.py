"""A greenhouse given to another tenant: what is doubted before and after is one issue, the newer one's."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from uuid import UUID

from ingest.quality import Issue, Subject
from ingest.quality.issues import IssueBook
from tests.batches import NOW_US
from tests.unit.quality_stream import (
    GREENHOUSE,
    TENANT,
    Stream,
    out_of_range,
    rejected,
    series_of,
)

BUYER = UUID(int=0xC)
THERMOMETER = series_of()
THERE = replace(THERMOMETER, tenant_id=BUYER)


def test_what_is_found_before_and_after_is_one_issue() -> None:
    stream = Stream()
    for series in (THERMOMETER, THERE):
        stream.survey.rejections([out_of_range(series, 6_484.1)] * 2)
    (issue,) = stream.issues()
    assert issue.count == 4
    assert issue.subject == Subject("OUT_OF_RANGE", BUYER, GREENHOUSE, THERMOMETER.sensor_id, 1)


def test_what_was_put_back_goes_to_the_newer_tenant() -> None:
    stream = Stream()
    stream.survey.rejections([out_of_range(THERMOMETER, 6_484.1)])
    waiting = stream.survey.due(stream.now_us, last=True)
    assert waiting is not None
    stream.survey.rejections([out_of_range(THERE, 101.0)])
    stream.survey.put_back(waiting)
    (issue,) = stream.issues()
    assert (issue.count, issue.subject.tenant_id) == (2, BUYER)
    assert issue.worst is not None
    assert issue.worst["value"] == 6_484.1


def test_it_has_no_second_budget_of_issues_told_one_by_one() -> None:
    book = IssueBook()
    for tenant_id in (TENANT, BUYER):
        for number in range(60):
            subject = Subject("UNMAPPED_NAME", tenant_id, GREENHOUSE, about=f"name {number}")
            make = partial(Issue, subject, "iot.ingest_dead_letters", "text", "LOW", NOW_US, NOW_US)
            book.of(subject, make).add(NOW_US, NOW_US)
    found = book.take()
    assert len({issue.subject.key for issue in found}) == len(found) == 51
    assert {issue.subject.tenant_id for issue in found} == {BUYER}
    assert sum(issue.count for issue in found) == 120


def test_names_that_the_table_cannot_tell_apart_are_one_issue() -> None:
    stream = Stream()
    stream.survey.rejections([rejected("unknown_unit", f"no unit is called 'a{end}'") for end in "\0\ufffd"])
    (issue,) = stream.issues()
    assert issue.count == 2
