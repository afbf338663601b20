"""What the rounds gave, as figures: medians, and ratios within one run. Pure."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from bench.contenders import Drained

WORKER: Final = "worker"
CONTENDERS: Final = (WORKER, "mq_bridge", "paho_executemany")
LIMITS: Final = ("socket_drain", "raw_copy")


@dataclass(slots=True)
class Figures:
    """What the rounds gave for one contender."""

    rows_per_s: list[float] = field(default_factory=list)
    cpu_us_per_message: list[float] = field(default_factory=list)
    cpu_us_with_start: list[float] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)
    exact: bool = True
    """Whether it stored each reading once in every round."""

    def add(self, drained: Drained, readings: int, *, exact: bool) -> None:
        """Note one round: *readings* is what the drained messages hold, those that come twice as two."""
        self.rows_per_s.append(readings / drained.seconds)
        for kept, value in (
            (self.cpu_us_per_message, drained.cpu_us_per_message),
            (self.cpu_us_with_start, drained.cpu_us_with_start),
            (self.rss_mb, drained.rss_mb),
        ):
            if value is not None:
                kept.append(value)
        self.exact &= exact


def summary(figures: dict[str, Figures], *, says: str, messages: int, rounds: int) -> dict[str, Any]:
    """Give one workload's figures: medians over the rounds, ratios as medians of each round's own ratio."""
    worker = figures[WORKER]
    limits = [name for name in LIMITS if name in figures]
    lowest = [min(values) for values in zip(*(figures[name].rows_per_s for name in limits), strict=True)]
    others = [name for name in figures if name != WORKER]
    return {
        "says": says,
        "messages": messages,
        "rounds": rounds,
        "rows_per_s": {name: round(statistics.median(each.rows_per_s)) for name, each in figures.items()},
        **{f"ratio_to_{name}": ratio(worker.rows_per_s, figures[name].rows_per_s) for name in others},
        "ratio_to_limit": ratio(worker.rows_per_s, lowest),
        "cpu_us_per_message": _median(worker.cpu_us_per_message, 2),
        "cpu_us_with_start": _median(worker.cpu_us_with_start, 2),
        "rss_mb": _median(worker.rss_mb, 0),
        "peers": {
            name: {
                "cpu_us_per_message": _median(figures[name].cpu_us_per_message, 2),
                "rss_mb": _median(figures[name].rss_mb, 0),
            }
            for name in others
            if figures[name].rss_mb
        },
        "exact": worker.exact,
        "inexact": [name for name, each in figures.items() if not each.exact],
    }


def ratio(ours: list[float], theirs: list[float]) -> float:
    """Give the median of the rounds' ratios: what both had in common in a round cancels out."""
    return round(statistics.median(our / their for our, their in zip(ours, theirs, strict=True)), 3)


def rotated(names: list[str], turn: int) -> list[str]:
    """Give *names* in another order each turn, so that none is always the first or always after the same."""
    shift = turn % len(names)
    order = names[shift:] + names[:shift]
    return order[::-1] if turn // len(names) % 2 else order


def merged(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Give the results of *before* with those of *now* in their place, workload by workload.

    Of another target or machine than *now*'s, nothing of *before* stays.
    """
    if any(before.get(name) != now.get(name) for name in ("target", "machine")):
        before = {}
    return before | now | {"workloads": before.get("workloads", {}) | now.get("workloads", {})}


def _median(values: list[float], digits: int) -> float | None:
    return round(statistics.median(values), digits or None) if values else None
