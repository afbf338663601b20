"""The arithmetic of the benchmark: messages, packets, medians, ratios, percentiles, and judgements."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from bench.backlog import Backlog
from bench.contenders import Drained
from bench.figures import Figures, merged, ratio, rotated, summary
from bench.latency import commits, latencies_ms, percentiles
from bench.peer import route
from bench.targets import judge
from bench.workloads import BY_NAME, WORKLOADS, Workload, messages
from tests.batches import NOW_US

SMALL = [replace(each, topics=min(each.topics, 20)) for each in WORKLOADS]
"""With a thousand sensors at most: to make fifty thousand takes seconds."""
every_workload = pytest.mark.parametrize("workload", SMALL, ids=lambda each: each.name)


@every_workload
def test_the_worker_makes_the_rows_that_the_publisher_promises(workload: Workload) -> None:
    count = 200 if workload.shape == "reading" else 3
    backlog = Backlog.of(workload, count, NOW_US)
    rows = backlog.rows()
    assert (len(rows), sum(round(row.value * 10) for row in rows)) == backlog.expected(count)
    assert all(row.metadata is None for row in rows), "a registered sensor's row has none"
    if workload.shape != "map":
        keys = {(row.time_us, row.series.sensor_id) for row in rows}
        assert len(keys) == len(rows)
        last, sensor_id = backlog.last_key()
        assert (round(last.timestamp() * 1e6), sensor_id) in keys


def test_one_message_in_twenty_comes_twice_near_and_far() -> None:
    made = list(messages(BY_NAME["single_duplicates"], 16_000, NOW_US))
    first: dict[bytes, int] = {}
    distances = []
    for index, message in enumerate(made):
        if message.rows:
            assert first.setdefault(message.payload, index) == index
        else:
            distances.append(index - first[message.payload])
    assert len(distances) == 16_000 // 20
    assert set(distances) == {10, 6_990}


def test_every_sensor_has_its_turn_on_its_own_topic() -> None:
    workload = replace(BY_NAME["many_sensors"], topics=20)
    made = list(messages(workload, 1_100, NOW_US))
    assert len({message.topic for message in made[:20]}) == 20
    places = {(message.topic, json.loads(message.payload)["sensor_id"]) for message in made}
    assert len(places) == len(workload.fleet().channels) == 1_000
    assert places == {
        (f"greenhouse/{each.greenhouse_id}/sensors/{each.kind.name}", str(each.sensor_id))
        for each in workload.fleet().channels
    }


def figures(rates: list[float], *, cpu_us: float | None = None, exact: bool = True) -> Figures:
    made = Figures()
    for rate in rates:
        made.add(Drained(100, 100 / rate, cpu_us, cpu_us, cpu_us), 100, exact=exact)
    return made


def test_ratios_are_those_of_each_round_and_the_limit_is_the_lower_one_of_each() -> None:
    made = summary(
        {
            "worker": figures([100.0, 50.0, 80.0], cpu_us=5.0),
            "mq_bridge": figures([50.0, 50.0, 20.0], cpu_us=9.0, exact=False),
            "socket_drain": figures([200.0, 100.0, 400.0]),
            "raw_copy": figures([125.0, 200.0, 160.0]),
        },
        says="readings",
        messages=100,
        rounds=3,
    )
    assert made["rows_per_s"]["worker"] == 80
    assert made["ratio_to_mq_bridge"] == 2.0
    assert made["ratio_to_limit"] == 0.5
    assert (made["exact"], made["inexact"]) == (True, ["mq_bridge"])
    assert (made["cpu_us_per_message"], made["rss_mb"]) == (5.0, 5)
    assert made["peers"] == {"mq_bridge": {"cpu_us_per_message": 9.0, "rss_mb": 9}}
    assert ratio([1.0, 9.0, 4.0], [2.0, 3.0, 4.0]) == 1.0


def test_nobody_is_always_first() -> None:
    names = ["a", "b", "c"]
    orders = [rotated(names, turn) for turn in range(6)]
    assert [order[0] for order in orders[:3]] == names
    assert all(sorted(order) == names for order in orders)
    assert len({tuple(order) for order in orders}) == 6


def test_new_figures_replace_those_of_the_same_workload_only() -> None:
    before = {"target": "T", "workloads": {"a": {"n": 1}, "b": {"n": 2}}, "latency_ms": {"10": {}}}
    after = merged(before, {"target": "T", "workloads": {"b": {"n": 3}}})
    assert after == {**before, "workloads": {"a": {"n": 1}, "b": {"n": 3}}}


def test_figures_of_another_machine_or_database_are_not_kept_beside_new_ones() -> None:
    heading = {"target": "T", "machine": "two cores"}
    before = {**heading, "workloads": {"a": {"n": 1}}, "latency_ms": {"10": {}}}
    for other in ({"target": "U"}, {"machine": "four cores"}):
        now = {**heading, **other, "workloads": {"b": {"n": 2}}}
        assert merged(before, now) == now


def test_a_wait_is_from_when_a_message_was_due_to_its_batchs_line() -> None:
    lines = [
        '{"event": "broker_connected", "timestamp": "2026-01-01T00:00:00Z"}',
        '{"event": "batch_committed", "messages": 1, "timestamp": "2026-01-01T00:00:00.010Z"}',
        '{"event": "batch_committed", "messages": 2, "timestamp": "2026-01-01T00:00:01.500Z"}',
    ]
    batches = commits(lines)
    first_s = batches[0][0] - 0.010
    assert latencies_ms(first_s, 2, batches) == pytest.approx([10.0, 1_000.0, 500.0])


def test_percentiles_are_measured_values() -> None:
    assert percentiles(range(1, 1_001)) == {"p50_ms": 500, "p99_ms": 990, "p99_9_ms": 999}
    assert percentiles([3.0]) == {"p50_ms": 3.0, "p99_ms": 3.0, "p99_9_ms": 3.0}


def test_targets_say_what_was_met_missed_and_not_measured() -> None:
    kept: dict[str, Any] = {
        "workloads": {
            "single_qos1": {
                "ratio_to_mq_bridge": 2.1, "ratio_to_limit": 0.4, "cpu_us_per_message": 6.5, "rss_mb": 99,
            },
            "single_duplicates": {"ratio_to_limit": 0.32},
        }
    }  # fmt: skip
    judged = [each.met for each in judge(kept)]
    assert judged == [True, False, False, True, None, None, True, None, None]
    kept["workloads"]["single_duplicates"]["run"] = "2026-01-02T03:04:05Z"
    assert judge(kept)[6].met is None, "a share of two runs is none"
    kept["workloads"]["single_qos1"]["run"] = "2026-01-02T03:04:05Z"
    assert judge(kept)[6].met


def test_mq_bridge_copies_unless_readings_come_twice() -> None:
    for name, copies in (("single_qos1", True), ("single_duplicates", False)):
        made = route(BY_NAME[name], "mqtt://127.0.0.1:1883", "client", "postgresql://x/y")
        assert made["output"]["sqlx"]["bulk_copy"] is copies
        assert ("on conflict do nothing" in made["output"]["sqlx"]["insert_query"]) is not copies
        assert made["input"]["mqtt"]["url"] == "tcp://127.0.0.1:1883"
