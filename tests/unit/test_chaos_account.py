"""The account of the chaos run finds what it is there for: a loss, a duplicate, a ledger that is wrong."""

from __future__ import annotations

import pytest

from ingest.write import Counts
from tests.acceptance.chaos_account import Account, Crash, Stored
from tests.acceptance.chaos_gateways import KINDS, Published

CRASH = Crash(saved_s=100.0, killed_s=110.0, up_s=112.0)


def violations(published: Published, stored: Stored | None, *crashes: Crash) -> list[str]:
    account = Account()
    account.take([published], {published.number: stored} if stored else {}, crashes)
    return account.violations


def sent(kind: str, *, times: int = 1, acknowledged_s: float | None = 50.0) -> Published:
    (found,) = [each for each in KINDS if each.name == kind]
    return Published(7, found, times, 49.0, acknowledged_s)


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS])
def test_what_was_acknowledged_must_be_there_once(kind: str) -> None:
    published = sent(kind)
    once = [50.5]
    rows, letters = once * published.kind.row, once * published.kind.letter
    assert violations(published, Stored(rows, letters)) == []
    assert "lost" in violations(published, None)[0]
    assert "stored 2 times, 1 at most" in violations(published, Stored(rows * 2, letters * 2))[0]
    assert violations(published, Stored([*rows, 50.5], [*letters, 50.5])), "a row or letter too many"


def test_what_was_not_acknowledged_may_be_missing_and_not_be_twice() -> None:
    published = sent("map", acknowledged_s=None)
    assert violations(published, None) == []
    assert violations(published, Stored([51.0], [])) == []
    assert violations(published, Stored([51.0, 52.0], []))


def test_what_was_sent_again_may_be_stored_as_often_without_a_time_only() -> None:
    twice = Stored([51.0, 52.0], [])
    assert violations(sent("map", times=2), twice) == []
    assert violations(sent("map", times=2), Stored([51.0, 52.0, 53.0], []))
    assert violations(sent("timed", times=2), twice)


@pytest.mark.parametrize(
    ("acknowledged_s", "forgiven"), [(99.9, False), (100.1, True), (111.9, True), (112.1, False)]
)
def test_a_crashed_broker_may_forget_what_its_file_had_not(acknowledged_s: float, *, forgiven: bool) -> None:
    for kind in ("timed", "map", "no JSON"):
        assert (violations(sent(kind, acknowledged_s=acknowledged_s), None, CRASH) == []) is forgiven


@pytest.mark.parametrize(
    ("copies", "forgiven"),
    [([105.0, 113.0], True), ([105.0, 106.0], False), ([113.0, 114.0], False), ([90.0, 105.0, 113.0], False)],
)
def test_a_crashed_broker_may_send_again_what_was_acknowledged(
    copies: list[float], *, forgiven: bool
) -> None:
    assert (violations(sent("map"), Stored(copies, []), CRASH) == []) is forgiven
    assert (violations(sent("no JSON"), Stored([], copies), CRASH) == []) is forgiven
    assert violations(sent("timed"), Stored(copies, []), CRASH)
    assert (violations(sent("map", times=2), Stored(copies * 2, []), CRASH) == []) is forgiven


def test_a_row_and_a_dead_letter_of_one_message_come_together() -> None:
    published = sent("map, bad field", times=2)
    assert violations(published, Stored([51.0, 52.0], [52.0, 51.0])) == []
    assert violations(published, Stored([51.0], []))
    assert violations(published, Stored([51.0], [52.0]))


def test_what_nobody_published_is_found() -> None:
    account = Account()
    account.take([], {8: Stored([1.0], [])}, [])
    assert account.violations == ["8: stored, and never published"]


def test_ledgers_that_do_not_add_up_are_found() -> None:
    good = Counts(
        received=10, committed=6, skipped=3, ignored=1, decoded=9, written=4, duplicate=2, rejected=2, null=1
    )
    account = Account()
    account.add_up(good.as_dict(), rows=4, rejections=2)
    assert account.violations == []
    for name in good.as_dict():
        account = Account()
        account.add_up(good.as_dict() | {name: 99}, rows=4, rejections=2)
        assert account.violations, name
    account = Account()
    account.add_up(good.as_dict(), rows=5, rejections=1)
    assert len(account.violations) == 2
