"""Which MQTT version a broker is asked for next, by what came of the connections before."""

from __future__ import annotations

import pytest

from ingest.errors import BrokerRefused
from ingest.receive import ConnectionLost, HungUp, ProtocolUnsupported, Undecided, VersionChoice

REFUSAL = ProtocolUnsupported("0x84")
HANG_UP = HungUp("closed")
AWAY = ConnectionLost("no route")
PASSWORD = BrokerRefused("0x87")
ANSWER = None


def asked_for(choice: VersionChoice, *outcomes: Exception | None) -> str:
    """Connect for each of *outcomes*: give what was tried, + where it was kept, and what is tried next."""
    told = ""
    for outcome in outcomes:
        attempt = choice.attempt()
        told += attempt.version[0]
        if outcome is not ANSWER:
            choice.failed(attempt, outcome)
            continue
        try:
            choice.answered(attempt)
        except Undecided as error:
            choice.failed(attempt, error)  # says nothing that `answered` did not know
        else:
            told += "+"
            choice.failed(attempt, AWAY)  # lost again, later
    return told + choice.version[0]


@pytest.mark.parametrize(
    ("outcomes", "tried"),
    [
        ([ANSWER, HANG_UP, HANG_UP, AWAY], "5+5555"),
        ([HANG_UP, ANSWER, ANSWER, HANG_UP], "535+55"),  # it was being restarted
        ([HANG_UP, ANSWER, HANG_UP, ANSWER, HANG_UP], "5353+33"),  # it speaks 3.1.1 only
        ([HANG_UP, HANG_UP, HANG_UP, AWAY, ANSWER], "53535+5"),
        ([HANG_UP, ANSWER, AWAY, HANG_UP, ANSWER, ANSWER], "535535+5"),  # away when it was asked again
        ([AWAY, AWAY], "555"),
        ([REFUSAL, HANG_UP, HANG_UP, ANSWER, AWAY], "5333+33"),
        ([ANSWER, REFUSAL, HANG_UP], "5+533"),  # it was exchanged for an older one
        ([REFUSAL, REFUSAL, HANG_UP], "5355"),
        ([PASSWORD, HANG_UP, ANSWER], "555+5"),
        ([HANG_UP, PASSWORD, PASSWORD, HANG_UP], "53555"),
        ([HANG_UP, PASSWORD, HANG_UP, PASSWORD], "53533"),
    ],
)
def test_5_is_spoken_where_the_broker_speaks_it(outcomes: list[Exception | None], tried: str) -> None:
    assert asked_for(VersionChoice("auto"), *outcomes) == tried


@pytest.mark.parametrize("configured", ["5", "3.1.1"])
def test_a_configured_version_is_kept_whatever_comes(configured: str) -> None:
    choice = VersionChoice("5" if configured == "5" else "3.1.1")
    (one,) = set(asked_for(choice, HANG_UP, REFUSAL, ANSWER, PASSWORD, AWAY)) - {"+"}
    assert one == configured[0]


def test_connections_made_at_the_same_time_count_as_one() -> None:
    choice = VersionChoice("auto")
    late, *first = [choice.attempt() for _ in range(3)]
    for attempt in first:
        choice.failed(attempt, HANG_UP)
    second = [choice.attempt() for _ in range(3)]
    assert {attempt.version for attempt in second} == {"3.1.1"}
    for attempt in second[:2]:
        with pytest.raises(Undecided):
            choice.answered(attempt)
    choice.failed(late, HANG_UP)  # it was asked before the answer
    choice.failed(second[2], AWAY)
    third = choice.attempt()
    assert third.version == "5"
    choice.failed(third, HANG_UP)
    assert choice.version == "3.1.1"
    choice.answered(choice.attempt())
