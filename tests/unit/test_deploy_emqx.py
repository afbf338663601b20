"""config/emqx-acl.conf: Erlang terms of the shape EMQX takes, and the rights they give.

Without an EMQX: the file is read and judged as EMQX 5 documents it (its own acl.conf has the formal
specification). The same rights, under a real broker, are tested in
tests/integration/test_deploy_mosquitto.py.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, NamedTuple

import pytest

from ingest.settings import BrokerSettings
from ingest.topics import match, valid_filter
from tests.erlang_terms import Atom, Term, read_terms

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "config" / "emqx-acl.conf").read_text()
WORKER = "greenhouse-ingest"
GREENHOUSE = "7f0c1e2a-58a4-4f5e-9c1b-2f4de0a41c11"
ACTIONS = {"publish", "subscribe", "all"}
Action = Literal["publish", "subscribe"]


class Rule(NamedTuple):
    """One rule, checked."""

    allows: bool
    who: Term
    action: str
    topics: list[tuple[str, bool]]
    """Each with whether only exactly this filter is meant ({eq, …})."""


def checked(term: Term) -> Rule:
    """Take a term for a rule as EMQX would; fail where it would refuse the file."""
    assert isinstance(term, tuple), term
    permission, who, *rest = term
    assert permission in (Atom("allow"), Atom("deny"))
    if not rest:
        assert who == Atom("all")
        return Rule(permission == "allow", who, "all", [("#", False)])
    action, topics = rest
    match who:
        case Atom("all"):
            pass
        case (Atom("username" | "user"), str() as name) if not isinstance(name, Atom):
            pass
        case (Atom("username" | "user"), (Atom("re"), str() as pattern)) if not isinstance(pattern, Atom):
            re.compile(pattern)
        case _:
            pytest.fail(f"{who!r} names nobody")
    assert isinstance(action, Atom)
    assert action in ACTIONS
    assert isinstance(topics, list)
    assert topics
    found = [_topic(each) for each in topics]
    assert all(valid_filter(topic) for topic, _ in found)
    return Rule(permission == "allow", who, str(action), found)


def _topic(term: Term) -> tuple[str, bool]:
    match term:
        case (Atom("eq"), str() as topic):
            return topic, True
        case str() as topic if not isinstance(topic, Atom):
            assert set(re.findall(r"\$\{(.*?)\}", topic)) <= {"username"}
            return topic, False
        case _:
            pytest.fail(f"{term!r} is no topic")


RULES = [checked(term) for term in read_terms(TEXT)]


def allowed(username: str | None, action: Action, topic: str) -> bool:
    """Judge as EMQX does: the first rule that fits decides, and without one `no_match = deny`."""
    real = topic.split("/", 2)[2] if topic.startswith("$share/") else topic
    for rule in RULES:
        concerned = rule.action in (action, "all") and _is_meant(rule.who, username)
        if concerned and any(_fits(wanted, exact, real, username) for wanted, exact in rule.topics):
            return rule.allows
    return False


def _is_meant(who: Term, username: str | None) -> bool:
    match who:
        case Atom("all"):
            return True
        case (_, (_, str() as pattern)):
            return username is not None and re.search(pattern, username) is not None
        case (_, name):
            return username == name
    raise AssertionError(who)


def _fits(wanted: str, exact: bool, topic: str, username: str | None) -> bool:  # noqa: FBT001 (a pair's second half)
    if "${username}" in wanted:
        if username is None:
            return False  # a placeholder without a value fits nothing
        wanted = wanted.replace("${username}", username)
    return wanted == topic if exact else match(wanted, topic)


def test_the_last_rule_refuses_everybody_everything() -> None:
    assert RULES[-1] == Rule(allows=False, who=Atom("all"), action="all", topics=[("#", False)])


@pytest.mark.parametrize(
    ("login", "own", "not_own"),
    [
        (
            "SARA",
            ["GREENHOUSE/SARA", "GREENHOUSE/SARA/01", "greenhouse/SARA/readings"],
            [
                "GREENHOUSE",
                "GREENHOUSE/sara",
                "GREENHOUSE/HORTAMED",
                "GREENHOUSE/HORTAMED/A1",
                "GREENHOUSE/SARA/01/more",
                "GREENHOUSE/RESPONSE",
                "greenhouse/01/readings",
                "SYSTEM/commands",
                "$SYS/x",
                "#",
            ],
        ),
        (
            GREENHOUSE,
            [f"greenhouse/{GREENHOUSE}/sensors/temperature", f"greenhouse/{GREENHOUSE}/readings"],
            [
                f"greenhouse/{GREENHOUSE.upper()}/readings",
                "greenhouse/SARA01/sensors/temperature",
                f"greenhouse/{GREENHOUSE}",
                f"greenhouse/{GREENHOUSE}/sensors/temperature/raw",
                "GREENHOUSE/SARA",
            ],
        ),
        ("DEFAULT", ["GREENHOUSE"], ["GREENHOUSE/SARA", "GREENHOUSE/SARA/01"]),
        (
            WORKER,
            [],
            [f"GREENHOUSE/{WORKER}", f"greenhouse/{WORKER}/readings", "GREENHOUSE/RESPONSE", "GREENHOUSE"],
        ),
        # names that would be filters
        ("+", [], ["GREENHOUSE/SARA", "GREENHOUSE/+", "greenhouse/01/readings"]),
        ("#", [], ["GREENHOUSE/SARA", "GREENHOUSE/#"]),
        ("SARA/01", [], ["GREENHOUSE/SARA/01", "GREENHOUSE/SARA/01/x"]),
        (None, [], ["GREENHOUSE", "GREENHOUSE/SARA", "GREENHOUSE/undefined"]),
    ],
)
def test_each_login_publishes_to_its_own_topics_only(
    login: str | None, own: list[str], not_own: list[str]
) -> None:
    assert [topic for topic in own if not allowed(login, "publish", topic)] == []
    assert [topic for topic in not_own if allowed(login, "publish", topic)] == []


def test_gateways_read_nothing_and_the_worker_what_it_subscribes_to() -> None:
    filters = BrokerSettings().filters
    for topic_filter in (*filters, "#", "+/#", "$SYS/#", "GREENHOUSE/SARA", "greenhouse/+/sensors/co2"):
        for login in ("SARA", GREENHOUSE, "DEFAULT", "+", None):
            assert not allowed(login, "subscribe", topic_filter)
        assert allowed(WORKER, "subscribe", topic_filter) == (topic_filter in filters)
        assert allowed(WORKER, "subscribe", f"$share/group/{topic_filter}") == (topic_filter in filters)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{allow, all}", "end of the file"),
        ("{allow all}.", "expected"),
        ("{allow, all)}.", "no term"),
        ('{allow, all, publish, ["a]}.', "no term"),
        ("{allow, Everybody}.", "no term"),
        ("{allow, all}}.", "expected"),
        ("{allow, }.", "where a term"),
    ],
)
def test_what_is_no_erlang_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_terms(text)


def test_erlang_terms() -> None:
    assert read_terms('% a\n{a,\'B c\',"s\\"%",[1, {}] }. %% b\n[].') == [
        (Atom("a"), Atom("B c"), 's"%', [1, ()]),
        [],
    ]
