"""The metrics of several worker processes as one page, by the numbers that each reports.

Counters and histograms are summed up, with what processes that have ended had reported last: a worker that
is started again begins at 0, the sum does not. Gauges are of the processes that run: summed up too, except
those of which only the greatest or the least says anything. Runs in the supervisor; no I/O.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

import prometheus_client as prometheus
from prometheus_client.metrics_core import Metric

from ingest.observe.metrics import CATALOGUE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_MERGES: Final[dict[str, Callable[[Sequence[float]], float]]] = {"sum": math.fsum, "max": max, "min": min}
_GAUGES: Final[dict[str, Callable[[Sequence[float]], float]]] = {
    **{each.name: _MERGES[each.several] for each in CATALOGUE if each.several in _MERGES},
    "process_start_time_seconds": max,
    "process_max_fds": min,
}
"""Those of the process that are not named are summed up."""

_READY: Final = next(each for each in CATALOGUE if each.name == "ingest_ready")
"""Of the supervisor alone: a worker that has ended, and one that ends a session, say nothing of /readyz."""


class Sample(NamedTuple):
    """One number of a page."""

    name: str
    labels: dict[str, str]
    value: float


class Family(NamedTuple):
    """One metric with all its samples; as JSON, a list of the same order."""

    name: str
    type: str
    help: str
    samples: list[Sample]

    @classmethod
    def of(cls, parts: Sequence[object]) -> Family:
        """Read what `reported` gave, after it has been JSON."""
        name, kind, text, samples = parts
        assert isinstance(samples, list)  # noqa: S101 -- our own process wrote it
        return cls(str(name), str(kind), str(text), [Sample(*each) for each in samples])


def reported(registry: prometheus.CollectorRegistry) -> list[Family]:
    """Give every number of *registry* as it is now."""
    return [
        Family(
            each.name,
            each.type,
            each.documentation,
            [Sample(sample.name, dict(sample.labels), sample.value) for sample in each.samples],
        )
        for each in registry.collect()
    ]


class Merged:
    """See the module's header; a page of its own, as `Metrics` has one."""

    def __init__(self, is_ready: Callable[[], bool]) -> None:
        """Start without a worker; *is_ready* is what /readyz answers."""
        self._is_ready = is_ready
        self._restarts = 0
        self._running: dict[str, list[Family]] = {}
        self._ended: dict[str, Family] = {}
        self.registry = prometheus.CollectorRegistry()
        self.registry.register(self)

    def take(self, worker: str, families: list[Family]) -> None:
        """Take a process's newest numbers."""
        self._running[worker] = [each for each in families if each.name != _READY.name]

    def ended(self, worker: str) -> None:
        """Keep what only grows of a process that has ended; its gauges are gone."""
        for family in self._running.pop(worker, []):
            if family.type != "gauge":
                before = [self._ended[family.name]] if family.name in self._ended else []
                self._ended[family.name] = _merged([*before, family])

    def restarted(self) -> None:
        """Count a process that ended by itself and is started again."""
        self._restarts += 1

    def collect(self) -> Iterator[Metric]:
        """Give every metric merged, in the order of the catalogue; called at each scrape."""
        parts: dict[str, list[Family]] = {}
        for families in (*self._running.values(), self._ended.values(), self._own()):
            for family in families:
                parts.setdefault(family.name, []).append(family)
        for family in map(_merged, parts.values()):
            metric = Metric(family.name, family.help, family.type)
            for sample in family.samples:
                metric.add_sample(sample.name, sample.labels, sample.value)
            yield metric

    def _own(self) -> list[Family]:
        """Give what the supervisor itself knows: restarts, which the workers report as 0, and readiness."""
        restarts = Sample("ingest_worker_restarts_total", {}, self._restarts)
        ready = Sample(_READY.name, {}, float(self._is_ready()))
        return [
            Family("ingest_worker_restarts", "counter", "", [restarts]),
            Family(_READY.name, _READY.type, _READY.help, [ready]),
        ]


def _merged(families: Sequence[Family]) -> Family:
    """Make one of the same metric of several processes."""
    first = families[0]
    merge = _GAUGES.get(first.name, math.fsum) if first.type == "gauge" else math.fsum
    values: dict[tuple[str, tuple[tuple[str, str], ...]], list[float]] = {}
    for family in families:
        for name, labels, value in family.samples:
            values.setdefault((name, tuple(labels.items())), []).append(value)
    samples = [Sample(name, dict(labels), merge(each)) for (name, labels), each in values.items()]
    return Family(first.name, first.type, first.help, samples)
