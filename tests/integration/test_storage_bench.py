"""The storage benchmark works, and notices when two forms do not say the same. Speed is no matter here."""

from __future__ import annotations

import json

from bench.storage.measure import measure
from bench.storage.queries import differences
from bench.storage.report import STORED, as_json, as_markdown

# Question -> rows of its answer, at most: readings of five days, each sensor's three hours apart.
QUESTIONS = {
    "last 24 hours, hourly": 9,
    "7 days, hourly": 40,
    "30 days, daily": 6,
    "12 months, monthly": 2,
    "latest of each sensor": 20,
}


async def test_every_form_is_weighed_and_gives_the_same_answers(migrated_dsn: str) -> None:
    steps: list[str] = []
    result = await measure(migrated_dsn, rows=4000, interval_s=10_800, rounds=1, progress=steps.append)
    assert 3500 < result.readings.rows <= 4000
    assert result.answers.keys() == QUESTIONS.keys()
    for name, answers in result.answers.items():
        assert answers.differences == []
        assert 1 <= answers.rows <= QUESTIONS[name]
    assert result.sizes.keys() == STORED.keys()
    assert 500 < result.sizes["compressed"].rows < result.readings.rows
    assert len(steps) > len(QUESTIONS)
    figures = json.loads(json.dumps(as_json(result)))
    assert figures["bytes_a_row"]["compressed"] < figures["bytes_a_row"]["normalised"]
    assert all(question["equal"] for question in figures["queries"].values())
    report = as_markdown(result)
    assert all(f"\n| {words} | " in report for words in (*STORED.values(), *QUESTIONS))


def test_a_different_answer_is_noticed() -> None:
    answer = [("a", 1, 0.1 + 0.2), ("b", 2, None)]
    assert differences(answer, [("a", 1, 0.3), ("b", 2, None)]) == []
    assert differences(answer, answer[:1]) == ["2 rows against 1"]
    assert differences(answer, [("a", 1, 0.3001), ("b", 2, 0.0)]) == [
        "('a', 1, 0.30000000000000004) against ('a', 1, 0.3001)",
        "('b', 2, None) against ('b', 2, 0.0)",
    ]
