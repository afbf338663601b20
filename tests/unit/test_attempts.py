"""When a batch that fails again and again is given back, to be committed in parts."""

from __future__ import annotations

import pytest

from ingest.errors import BatchRefused, DatabaseFault, Misconfigured, Poison, Unavailable
from ingest.write.attempts import TRIES_ALONE, TRIES_WHOLE, Attempts


def silent() -> Unavailable:
    """Make what a deadline is translated to."""
    fault = Unavailable("no answer in time")
    fault.__cause__ = TimeoutError()
    return fault


HUNG_UP = Unavailable("the connection is lost")
TERMINATED = Unavailable("terminated", "57P01")
FULL = Unavailable("no space", "53100")
CANCELLED = Unavailable("statement timeout", "57014")


def tried(attempts: Attempts, *faults: DatabaseFault, begun: bool = True, writing: bool = True) -> Attempts:
    for fault in faults:
        attempts.check()
        attempts.begun, attempts.writing = begun, writing
        attempts.failed(fault)
    return attempts


@pytest.mark.parametrize("fault", [silent(), HUNG_UP, TERMINATED, FULL, CANCELLED], ids=str)
def test_a_batch_is_tried_twice_as_it_is(fault: Unavailable) -> None:
    attempts = tried(Attempts(2, 2), *[fault] * TRIES_WHOLE)
    with pytest.raises(BatchRefused, match=r"2 attempts ended with") as refused:
        attempts.check()
    assert refused.value.sqlstate == fault.sqlstate
    assert refused.value.__cause__ is fault


def test_a_server_that_is_away_says_nothing_of_the_batch() -> None:
    tried(Attempts(2, 2), *[HUNG_UP] * 100, begun=False, writing=False).check()


def test_a_missing_table_says_nothing_of_the_batch() -> None:
    tried(Attempts(2, 2), *[Misconfigured("no table", "42P01")] * 100).check()


@pytest.mark.parametrize("fault", [silent(), FULL, CANCELLED], ids=str)
def test_a_message_alone_is_tried_for_ever_while_the_server_is_slow_or_full(fault: Unavailable) -> None:
    tried(Attempts(1, 9), *[fault] * 100).check()


@pytest.mark.parametrize("fault", [HUNG_UP, TERMINATED, Unavailable("gone", "08006")], ids=str)
def test_a_message_that_the_server_does_not_survive_is_given_back(fault: Unavailable) -> None:
    attempts = tried(Attempts(1, 9), *[fault] * TRIES_ALONE)
    with pytest.raises(BatchRefused):
        attempts.check()
    tried(Attempts(1, 9), *[fault] * (TRIES_ALONE - 1), silent(), *[fault] * (TRIES_ALONE - 1)).check()
    tried(Attempts(1, 9), *[fault] * 100, writing=False).check()
    tried(Attempts(1, 0), *[fault] * 100).check()


@pytest.mark.parametrize(
    ("messages", "rows", "kind"), [(2, 0, BatchRefused), (1, 1, BatchRefused), (1, 0, Misconfigured)]
)
def test_a_refusal_that_names_no_row_is_looked_for_in_parts(
    messages: int, rows: int, kind: type[DatabaseFault]
) -> None:
    fault = Attempts(messages, rows).poisoned(Poison("no", "23514"))
    assert (type(fault), fault.sqlstate) == (kind, "23514")
