"""Which dead letters are kept: budgets by topic and tenant, what is past them counted to the last reading."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from ingest.model import UNPLACED, CutPayload, Reason, Rejection
from ingest.write import DeadLetter
from ingest.write.budget import (
    EVERY_OTHER,
    OWN_TOPICS,
    SAMPLED,
    SAMPLES_SHARE,
    TOPICS_OF_A_TENANT,
    Budget,
    Counted,
)
from tests.batches import NOW_US

if TYPE_CHECKING:
    from collections.abc import Sequence

SARA, HORTAMED = UUID(int=1), UUID(int=2)
HOUR_US = 3_600_000_000
HOUR = NOW_US - NOW_US % HOUR_US


def letter(
    topic: str = "a",
    tenant_id: UUID | None = SARA,
    *,
    reasons: Sequence[Reason] = ("bad_value",),
    payload: bytes = b"",
    after_us: int = 0,
) -> DeadLetter:
    rejections = tuple(Rejection(f"f{at}", reason, "") for at, reason in enumerate(reasons))
    gateway = UNPLACED.name if tenant_id is None or "unknown_greenhouse" in reasons else "g"
    return DeadLetter(NOW_US + after_us, topic, payload, tenant_id, rejections, gateway=gateway)


def kept(budget: Budget, letters: Sequence[DeadLetter]) -> int:
    """Commit *letters* as one batch; give how many were kept."""
    division = budget.divide(letters)
    assert len(division.kept) + division.counted == len(letters)
    budget.spend(division)
    return len(division.kept)


def test_a_topic_has_its_budget_in_every_hour() -> None:
    budget = Budget(5)
    assert kept(budget, [letter("a")] * 4) == 4
    assert kept(budget, [letter("a")] * 4) == 1
    assert kept(budget, [letter("b")] * 9) == 5
    assert kept(budget, [letter("a", after_us=HOUR_US)] * 9) == 5
    assert kept(budget, [letter("a", after_us=HOUR_US), letter("a", after_us=2 * HOUR_US)]) == 1


def test_nothing_is_spent_by_a_batch_that_is_not_committed() -> None:
    budget = Budget(5)
    for _ in range(3):
        assert len(budget.divide([letter()] * 4).kept) == 4
    assert kept(budget, [letter()] * 4) == 4


def test_a_letter_weighs_what_it_stores() -> None:
    budget = Budget(5)
    assert kept(budget, [letter(payload=bytes(4 * 4_096))] * 3) == 1
    assert kept(budget, [letter("b", payload=bytes(4_000))] * 9) == 5
    wordy = letter("c")._replace(rejections=(Rejection("f", "bad_value", "x" * 8_192),))
    assert kept(budget, [wordy] * 9) == 2


def test_a_tenant_has_ten_topics_worth_for_all_its_topics() -> None:
    budget = Budget(5)
    assert kept(budget, [letter(f"t{at}") for at in range(1_000)]) == 5 * TOPICS_OF_A_TENANT
    assert kept(budget, [letter("t", HORTAMED)] * 9) == 5, "another tenant has its own"


def test_what_the_catalog_has_no_place_for_shares_one_budget() -> None:
    budget = Budget(5)
    strangers = [
        *(letter(f"x/{at}", None) for at in range(100)),
        *(letter(f"GREENHOUSE/T{at}", None, reasons=("unknown_tenant",)) for at in range(100)),
        *(letter(f"GREENHOUSE/SARA/{at}", SARA, reasons=("unknown_greenhouse",)) for at in range(100)),
    ]
    assert kept(budget, strangers) == 5 * TOPICS_OF_A_TENANT
    division = budget.divide(strangers)
    assert {counted.topic for counted in division.messages} == {EVERY_OTHER}
    assert kept(budget, [letter()] * 9) == 5


def test_so_many_topics_have_a_count_of_their_own() -> None:
    budget = Budget(1)
    division = budget.divide([letter(f"t{at}") for at in range(3 * OWN_TOPICS)])
    named = {counted.topic for counted in division.messages}
    assert EVERY_OTHER in named
    assert len(named) <= OWN_TOPICS + 1
    assert len(division.hour.spent) <= OWN_TOPICS + 1
    assert sum(division.readings.values()) == 3 * OWN_TOPICS - len(division.kept)
    long = Budget(1)
    division = long.divide([letter("x" * 60_000 + str(at)) for at in range(5)])
    assert max(len(counted.topic) for counted in division.messages) == 200


def test_a_payload_that_is_stored_cut_weighs_what_is_left_of_it() -> None:
    """Whether it is the writer who cuts it, or the transport did."""
    limit = 262_144
    for payload in (b"x" * 1_200_000, CutPayload.of(b"x" * 1_200_000)):
        assert kept(Budget(20, limit), [letter(payload=payload)] * 20) == 10
    assert kept(Budget(20, limit), [letter(payload=b"x" * limit)] * 20) == 1


def test_past_the_budget_one_in_a_thousand_is_kept() -> None:
    budget = Budget(20)
    most = 20 // SAMPLES_SHARE
    assert kept(budget, [letter()] * 20) == 20
    assert kept(budget, [letter()] * (SAMPLED - 1)) == 0
    assert kept(budget, [letter()]) == 1
    assert sum(kept(budget, [letter()] * SAMPLED) for _ in range(10)) == most - 1


def test_what_is_not_kept_is_counted_by_reason() -> None:
    budget = Budget(1)
    mixed = letter(reasons=("bad_value", "bad_value", "out_of_range"))
    division = budget.divide([mixed, mixed, mixed, letter(reasons=("bad_payload",))])
    assert division.kept == [mixed]
    assert division.messages == {
        Counted(HOUR, "g", SARA, "a", "bad_value"): 2,
        Counted(HOUR, "g", SARA, "a", "out_of_range"): 2,
        Counted(HOUR, "g", SARA, "a", "bad_payload"): 1,
    }
    assert division.readings == {
        Counted(HOUR, "g", SARA, "a", "bad_value"): 4,
        Counted(HOUR, "g", SARA, "a", "out_of_range"): 2,
        Counted(HOUR, "g", SARA, "a", "bad_payload"): 1,
    }
    assert division.first
    budget.spend(division)
    assert not budget.divide([mixed]).first
    assert budget.divide([letter(after_us=HOUR_US)] * 3).first


@given(
    batches=st.lists(
        st.lists(
            st.builds(
                letter,
                topic=st.sampled_from("abcd"),
                tenant_id=st.sampled_from([SARA, HORTAMED, None]),
                reasons=st.lists(
                    st.sampled_from(["bad_value", "out_of_range", "unknown_tenant"]), min_size=1, max_size=4
                ),
                after_us=st.integers(0, 2 * HOUR_US),
            ),
            max_size=20,
        ),
        max_size=6,
    ),
    per_topic=st.integers(1, 5),
)
def test_every_rejected_reading_is_kept_or_counted(batches: list[list[DeadLetter]], per_topic: int) -> None:
    budget = Budget(per_topic)
    for batch in batches:
        division = budget.divide(batch)
        budget.spend(division)
        listed = Counter(rejection.reason for each in division.kept for rejection in each.rejections)
        counted = Counter[Reason]()
        for key, readings in division.readings.items():
            counted[key.reason] += readings
        assert listed + counted == Counter(
            rejection.reason for each in batch for rejection in each.rejections
        )
