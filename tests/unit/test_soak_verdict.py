"""The verdict of a soak finds a leak, however noisy, and takes no noise, outage or warm-up for one."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any

import pytest

from tests.acceptance.soak_verdict import growths, violations

if TYPE_CHECKING:
    from collections.abc import Callable

HOUR_S = 3_600.0
MB = 1e6


def sampled(
    rss_mb: Callable[[float], float],
    *,
    hours: float = 1.0,
    handles: Callable[[float], float] = lambda _: 20,
    pid: Callable[[float], int] = lambda _: 1,
    every_s: float = 5.0,
) -> list[dict[str, Any]]:
    return [
        {"at_s": at_s, "pid": pid(at_s), "rss_bytes": rss_mb(at_s) * MB, "handles": round(handles(at_s))}
        for at_s in (number * every_s for number in range(int(hours * HOUR_S / every_s)))
    ]


def noise(spread: float, seed: int = 1) -> Callable[[float], float]:
    seeded = random.Random(seed)  # noqa: S311 (of a test)
    return lambda _: seeded.gauss(0, spread)


NOISE = noise(3)
QUIET = {
    "flat": lambda _: 80.0,
    "noise": lambda at_s: 80 + NOISE(at_s),
    "a saw's teeth": lambda at_s: 75 + at_s % 300 / 20,
    "warming up": lambda at_s: 95 - 40 * math.exp(-at_s / 200),
    "an outage's buffers": lambda at_s: 140.0 if 1_800 < at_s < 2_400 else 80.0,
    "teeth of ten minutes, and noise": lambda at_s: 80 + 5 * math.sin(at_s / 95) + NOISE(at_s),
    "a little less every hour": lambda at_s: 100 - at_s / HOUR_S * 9,
}
LEAKS = {
    "a steady leak": lambda at_s: 60 + at_s / HOUR_S * 15,
    "one in noise": lambda at_s: 80 + at_s / HOUR_S * 15 + NOISE(at_s),
    "one in teeth": lambda at_s: 75 + at_s % 300 / 20 + at_s / HOUR_S * 12,
    "by steps": lambda at_s: 80 + 2 * (at_s // 400),
    "with outages": lambda at_s: (150 if at_s % 1_500 < 200 else 80) + at_s / HOUR_S * 12,
}


@pytest.mark.parametrize("name", QUIET)
def test_what_does_not_leak_is_not_accused(name: str) -> None:
    assert list(violations(sampled(QUIET[name]), 0)) == []


@pytest.mark.parametrize("name", LEAKS)
def test_a_leak_is_found(name: str) -> None:
    (found,) = violations(sampled(LEAKS[name]), 0)
    assert "it grows: rss_bytes of process 1: +" in found


def test_noise_of_many_seeds_is_not_accused() -> None:
    for seed in range(30):
        shaken = noise(6, seed)
        assert list(violations(sampled(lambda at_s, by=shaken: 80 + by(at_s), hours=0.2), 0)) == [], seed  # type: ignore[misc]


def test_a_slow_leak_is_found_in_ten_hours_and_not_in_one() -> None:
    def leaking(at_s: float) -> float:
        return 80 + at_s / HOUR_S * 1.2 + NOISE(at_s)

    assert list(violations(sampled(leaking), 0)) == []
    assert list(violations(sampled(leaking, hours=10, every_s=10), 0))


def test_handles_that_are_not_closed_are_found() -> None:
    (found,) = violations(sampled(lambda _: 80, handles=lambda at_s: 20 + at_s / 300), 0)
    assert "handles of process 1: +" in found
    assert list(violations(sampled(lambda _: 80, handles=lambda at_s: 20 + at_s // 60 % 4), 0)) == []


def test_each_process_is_judged_for_itself_and_one_that_lived_too_short_not_at_all() -> None:
    samples = sampled(lambda at_s: 60 + at_s % 1_800 / 20, pid=lambda at_s: int(at_s // 1_800))
    assert {each.pid for each in growths(samples)} == {1}, "0 is no process"
    samples = sampled(lambda at_s: 60 + at_s % 60 / 2, pid=lambda at_s: 1 + int(at_s // 60))
    assert growths(samples) == []
    assert list(violations(samples, 0)) == []


def test_what_was_not_known_is_left_out() -> None:
    samples = sampled(lambda _: 80.0)
    for sample in samples[100:300]:
        sample |= {"pid": None, "rss_bytes": None, "handles": None}
    for sample in samples[400:420]:
        sample["rss_bytes"] = None
    assert list(violations(samples, 0)) == []
    assert list(violations([], 0)) == []


def test_too_much_memory_a_lag_and_a_queue_that_stays_are_told() -> None:
    assert "the worker took 250.0 MB" in next(violations(sampled(lambda at_s: 250 if at_s == 60 else 80), 0))
    samples = sampled(lambda _: 80.0)
    assert list(violations(samples, 3)) == [
        "the lag is not back to 0: 3 messages are acknowledged and not committed"
    ]
    assert "the queue did not run empty" in next(violations(samples, None))
    assert list(violations(samples, -2)) == []
