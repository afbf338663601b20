"""What a soak is judged by beside its account: memory and file handles that grow, a lag that stays. Pure.

Growth is a slope that outliers do not move (Theil and Sen: the median of the slopes of all pairs), over what
a process lived after its warm-up, and a trend that noise does not have (Mann and Kendall's test). Both have
to say so: the buffers of an outage are no leak, nor are a saw's teeth.
"""

from __future__ import annotations

import math
import statistics
from itertools import combinations, groupby
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MOST_RSS_BYTES: Final = 200_000_000
MOST_GROWTH: Final = 0.05
"""Of the median, over all of the time that is judged: in an hour three megabytes, in ten as many."""
_FLOORS: Final = {"rss_bytes": 4_000_000.0, "handles": 5.0}
"""Less is none: a map that grew, a connection more in a pool."""
_CACHES_S: Final = 600.0
_CACHES_BYTES: Final = 16_000_000.0
"""In the first minutes caches fill: so short a run finds only large leaks."""
_WARM_UP_S: Final = 60.0
_LEAST_SAMPLES: Final = 12
_MOST_SAMPLES: Final = 400
"""Beyond, medians of neighbours: 80 000 pairs are enough."""
_SURE: Final = 3.0
"""Standard deviations: one in a thousand by chance."""


class Growth(NamedTuple):
    """How one figure of one process developed after its warm-up."""

    what: str
    pid: int
    seconds: float
    """Judged."""
    median: float
    grown: float
    """By the slope, over these seconds."""
    allowed: float
    deviations: float
    """Of the trend from none."""

    @property
    def bad(self) -> bool:
        return self.grown > self.allowed and self.deviations > _SURE

    @property
    def said(self) -> str:
        """Give it in words, memory in MB."""
        scale, unit = (1e6, " MB") if self.what == "rss_bytes" else (1.0, "")
        return (
            f"{self.what} of process {self.pid}: {self.grown / scale:+.1f}{unit} in {self.seconds:.0f} s at "
            f"{self.median / scale:.1f}{unit}, {self.allowed / scale:.1f}{unit} allowed"
        )


def growths(samples: Sequence[Mapping[str, Any]]) -> list[Growth]:
    """Give the growth of memory and handles of each process that lived long enough to tell."""
    found = []
    for pid, group in groupby((each for each in samples if each["pid"]), key=lambda each: each["pid"]):
        lived = list(group)
        life_s = lived[-1]["at_s"] - lived[0]["at_s"]
        warm_s = lived[0]["at_s"] + min(life_s / 3, max(_WARM_UP_S, life_s / 5))
        for what in _FLOORS:
            points = [
                (each["at_s"], float(each[what]))
                for each in lived
                if each["at_s"] >= warm_s and each[what] is not None
            ]
            if len(points) >= _LEAST_SAMPLES:
                found.append(growth(what, pid, points))
    return found


def growth(what: str, pid: int, points: Sequence[tuple[float, float]]) -> Growth:
    """Judge *points*, (s, value), at least two of different times."""
    thinned = _thinned(points)
    slopes, signs = [], 0
    for (before_s, before), (at_s, value) in combinations(thinned, 2):
        slopes.append((value - before) / (at_s - before_s))
        signs += (value > before) - (value < before)
    seconds = points[-1][0] - points[0][0]
    count = len(thinned)
    spread = math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    median = statistics.median(value for _, value in points)
    floor = _FLOORS[what]
    if what == "rss_bytes" and seconds < _CACHES_S:
        floor = _CACHES_BYTES
    return Growth(
        what,
        pid,
        seconds,
        median,
        statistics.median(slopes) * seconds,
        max(floor, median * MOST_GROWTH),
        signs / spread,
    )


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    size = -(-len(points) // _MOST_SAMPLES)
    parts = [points[begin : begin + size] for begin in range(0, len(points), size)]
    return [
        (statistics.median(at for at, _ in part), statistics.median(value for _, value in part))
        for part in parts
    ]


def violations(samples: Sequence[Mapping[str, Any]], lag: int | None) -> Iterator[str]:
    """Give in words what is not as it must be; *lag* is of the end, in messages, None where it stayed."""
    for each in growths(samples):
        if each.bad:
            yield f"it grows: {each.said}"
    most = max((each["rss_bytes"] for each in samples if each["rss_bytes"]), default=0)
    if most > MOST_RSS_BYTES:
        yield f"the worker took {most / 1e6:.1f} MB, {MOST_RSS_BYTES / 1e6:.0f} MB are the most"
    if lag is None:
        yield "the queue did not run empty: what was published last is not in the table"
    elif lag > 0:
        yield f"the lag is not back to 0: {lag} messages are acknowledged and not committed"
