"""The catalogue of metrics, and the Prometheus collectors made from it.

`CATALOGUE` is the one place that names a metric; docs/metrics.md is its table, held equal by a
test. Nothing is labelled by topic, tenant or device: cardinality is fixed by the code. The worker
counts in plain integers and hands them over once a batch; gauges are read when somebody scrapes.
Runs in the worker's event loop; no lock, no I/O.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import prometheus_client as prometheus

from ingest.model import REASONS, Reason
from ingest.quality.issues import KINDS, Kind
from ingest.release import release

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MetricType: TypeAlias = Literal["counter", "gauge", "histogram"]
BatchResult: TypeAlias = Literal["straight", "staged", "retried"]
Several: TypeAlias = Literal["sum", "max", "min", "own"]
"""How a gauge of several worker processes is one; `own`: only the supervisor can say."""
GaugeName: TypeAlias = Literal[
    "ingest_in_flight_messages",
    "ingest_buffered_bytes",
    "ingest_lag_seconds",
    "ingest_ready",
    "ingest_broker_connected",
    "ingest_catalog_age_seconds",
    "ingest_catalog_sensors",
    "ingest_clock_skew_seconds",
    "ingest_skewed_gateways",
    "ingest_quality_waiting_issues",
]

SQLSTATE_CLASSES = ("08", "25", "40", "42", "53", "55", "57", "58", "other", "none")
"""Every value of the label; "none" is a fault without SQLSTATE, such as a refused connection."""

ROW_BUCKETS = (1, 10, 100, 1_000, 2_500, 5_000, 10_000, 20_000, 50_000)
"""Batches grow with load: one row when idle, `write.max_batch_rows` (20 000) when behind."""

COMMIT_BUCKETS_S = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""From one fsync on a quick disk to `write.commit_timeout_s` (60 s)."""


@dataclass(frozen=True, slots=True)
class MetricDef:
    """One metric: its Prometheus name and type, its unit, its labels with all their values."""

    name: str
    type: MetricType
    unit: str
    help: str
    spike: str
    """What an unusual value means, and where to look."""
    label: str | None = None
    values: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    several: Several | None = None
    """Of gauges; counters and histograms are summed up."""


CATALOGUE: tuple[MetricDef, ...] = (
    MetricDef(
        "ingest_messages_total",
        "counter",
        "messages",
        "PUBLISH packets by what became of them; received = committed + skipped + ignored + in flight.",
        "received without committed: the database does not take rows. skipped: the broker sent again after "
        "a reconnect what was committed already.",
        "outcome",
        ("received", "committed", "skipped", "ignored"),
    ),
    MetricDef(
        "ingest_readings_total",
        "counter",
        "readings",
        "Readings by what became of them; decoded = written + duplicate + rejected + null.",
        "rejected: see ingest_rejections_total. duplicate: a gateway sends its buffer again, or two workers "
        "have the same filters.",
        "outcome",
        ("decoded", "written", "duplicate", "rejected", "null"),
    ),
    MetricDef(
        "ingest_rejections_total",
        "counter",
        "readings",
        "Readings that became dead letters, by reason.",
        "unknown_*: register the name (`ingest catalog add`). out_of_range: a probe is disconnected. "
        "bad_payload: firmware changed; `ingest dead-letters list` shows which gateway. "
        "worker_fault, poison: a bug of the worker; report it.",
        "reason",
        REASONS,
    ),
    MetricDef(
        "ingest_healed_readings_total",
        "counter",
        "readings",
        "Rejected readings stored later, once the catalog knew the name they lacked; in no ledger.",
        "A name was registered long after its gateway began to send.",
    ),
    MetricDef(
        "ingest_dead_letters_total",
        "counter",
        "messages",
        "Messages that lost readings: kept as dead letters, or only counted because a budget was used up.",
        "counted: a gateway sends more bad messages than write.dead_letters_per_topic_per_hour; "
        "`ingest dead-letters list` says how many.",
        "outcome",
        ("kept", "counted"),
    ),
    MetricDef(
        "ingest_batches_total",
        "counter",
        "batches",
        "Attempts to write a batch, by result.",
        "straight: committed by one COPY. staged: rows of it took a temporary table, three times as slow, "
        "for duplicates or a refused row: many of them mean gateways that send everything twice. "
        "retried: the database is down or failing over.",
        "result",
        get_args(BatchResult),
    ),
    MetricDef(
        "ingest_batch_rows",
        "histogram",
        "rows",
        "Rows of a committed batch.",
        "Close to write.max_batch_rows: the worker is behind and catching up.",
        buckets=ROW_BUCKETS,
    ),
    MetricDef(
        "ingest_commit_seconds",
        "histogram",
        "seconds",
        "From a batch handed over to its PUBACKs written: packing, waits, attempts, COMMIT.",
        "Slow disk, lock waits, many late rows into compressed chunks, or an outage in between.",
        buckets=COMMIT_BUCKETS_S,
    ),
    MetricDef(
        "ingest_in_flight_messages",
        "gauge",
        "messages",
        "Received and not yet committed, skipped or ignored: what the broker still keeps for us.",
        "Flat at broker.receive_maximum or write.max_buffered_messages: intake has stopped, as designed; "
        "mend the database.",
        several="sum",
    ),
    MetricDef(
        "ingest_buffered_bytes",
        "gauge",
        "bytes",
        "Payload bytes of the messages in flight.",
        "Flat at write.max_buffered_bytes: as above.",
        several="sum",
    ),
    MetricDef(
        "ingest_lag_seconds",
        "gauge",
        "seconds",
        "How long the oldest message in flight has waited for its COMMIT; 0 when none waits.",
        "Growing by a second a second: nothing is committed. Above a few seconds with commits going on: the "
        "worker or the database is behind, and the broker keeps more; start workers, or look at "
        "ingest_commit_seconds.",
        several="max",
    ),
    MetricDef(
        "ingest_ready",
        "gauge",
        "0 or 1",
        "1 while /readyz answers 200.",
        "0: /readyz says why.",
        several="own",
    ),
    MetricDef(
        "ingest_broker_connected",
        "gauge",
        "0 or 1",
        "1 while connected and subscribed to every filter.",
        "0: broker down, credentials refused, or a filter not granted; the log says which.",
        several="min",
    ),
    MetricDef(
        "ingest_reconnects_total",
        "counter",
        "connections",
        "Connections to the broker after the first.",
        "A network that drops, or another client with the same client id (each takes the session from the "
        "other).",
    ),
    MetricDef(
        "ingest_workers",
        "gauge",
        "processes",
        "Worker processes that report to this page.",
        "Below workers.count: one has ended and waits to be started again; /readyz says which.",
        several="sum",
    ),
    MetricDef(
        "ingest_worker_restarts_total",
        "counter",
        "processes",
        "Worker processes that ended by themselves and were started again by their supervisor.",
        "Any: the log line worker_process_ended has the exit code or the signal.",
    ),
    MetricDef(
        "ingest_retries_total",
        "counter",
        "attempts",
        "Database attempts that failed and were tried again, by SQLSTATE class.",
        "08, 57, none: down or restarting. 40: deadlock or serialisation. 42: a table, column or grant is "
        "missing (`ingest schema verify`). 53: out of disk, memory or connections. 55: a lock.",
        "sqlstate_class",
        SQLSTATE_CLASSES,
    ),
    MetricDef(
        "ingest_catalog_age_seconds",
        "gauge",
        "seconds",
        "Since the catalog in use was read.",
        "Above three times resolve.refresh_interval_s: the metadata database is not reached; new names wait.",
        several="max",
    ),
    MetricDef(
        "ingest_catalog_sensors",
        "gauge",
        "sensors",
        "Sensors in the catalog in use.",
        "A fall: somebody deleted or moved sensors; their readings now get derived ids.",
        several="max",
    ),
    MetricDef(
        "ingest_clock_skew_seconds",
        "gauge",
        "seconds",
        "How far the worst gateway's clock was off, ahead or behind, in the last 15 to 30 minutes.",
        "Large: `ingest reconcile` says whose. A gateway that sent nothing but old readings for a quarter of "
        "an hour looks like one whose clock is behind.",
        several="max",
    ),
    MetricDef(
        "ingest_skewed_gateways",
        "gauge",
        "gateways",
        "Gateways whose clock was off by more than observe.clock_skew_s, or was never set, in that time.",
        "One: that gateway, named in the log as gateway_clock_skew. All of them: this machine's own clock, "
        "or a backlog being drained.",
        several="max",
    ),
    MetricDef(
        "ingest_quality_issues_total",
        "counter",
        "issues",
        "Rows of metadata.data_quality_log opened or extended, by kind; what lasts counts once a window.",
        "MISSING_DATA: a gateway or its network is down. UNMAPPED_NAME: register the name. The open rows of "
        "the table say which greenhouse, which sensor and what to do.",
        "kind",
        KINDS,
    ),
    MetricDef(
        "ingest_quality_waiting_issues",
        "gauge",
        "issues",
        "Found wrong with the data, and not written yet.",
        "More than a window brings: the metadata database is not reached, or refuses them; the log says why.",
        several="sum",
    ),
    MetricDef(
        "ingest_last_commit_timestamp_seconds",
        "gauge",
        "seconds since 1970-01-01 UTC",
        "When the last batch was committed; 0 before the first.",
        "Old while ingest_in_flight_messages is above 0: commits are stalled.",
        several="max",
    ),
    MetricDef(
        "ingest_build_info",
        "gauge",
        "always 1",
        "Version of this worker and of its Python, as labels.",
        "Two versions at once: a rollout is half done.",
        several="max",
    ),
)


class Metrics:
    """The collectors of one worker, in a registry of their own (so that tests can have many)."""

    def __init__(self) -> None:
        # `_created` series double the page and are in no catalogue; the switch is the library's, for all.
        prometheus.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = prometheus.CollectorRegistry()
        prometheus.ProcessCollector(registry=self.registry)
        self._counters: dict[str, prometheus.Counter] = {}
        self._gauges: dict[str, prometheus.Gauge] = {}
        self._histograms: dict[str, prometheus.Histogram] = {}
        for each in CATALOGUE:
            self._create(each)
        build = self._gauges["ingest_build_info"]
        self._gauges["ingest_workers"].set(1)
        build.labels(version=release(), python=platform.python_version()).set(1)

    def messages(self, *, received: int = 0, committed: int = 0, skipped: int = 0, ignored: int = 0) -> None:
        """Add to the ledger of messages."""
        self._add(
            "ingest_messages_total", received=received, committed=committed, skipped=skipped, ignored=ignored
        )

    def readings(
        self, *, decoded: int = 0, written: int = 0, duplicate: int = 0, rejected: int = 0, null: int = 0
    ) -> None:
        """Add to the ledger of readings."""
        self._add(
            "ingest_readings_total",
            decoded=decoded,
            written=written,
            duplicate=duplicate,
            rejected=rejected,
            null=null,
        )

    def rejections(self, counts: Mapping[Reason, int]) -> None:
        """Add rejected readings by reason."""
        for reason, count in counts.items():
            self._counters["ingest_rejections_total"].labels(reason=reason).inc(count)

    def healed(self, count: int) -> None:
        """Add *count* rejected readings that were stored later."""
        self._counters["ingest_healed_readings_total"].inc(count)

    def quality_issues(self, counts: Mapping[Kind, int]) -> None:
        """Add issues written, by kind."""
        for kind, count in counts.items():
            self._counters["ingest_quality_issues_total"].labels(kind=kind).inc(count)

    def dead_letters(self, *, kept: int = 0, counted: int = 0) -> None:
        """Add messages that lost readings, by whether they were kept."""
        self._add("ingest_dead_letters_total", kept=kept, counted=counted)

    def batch(self, result: BatchResult, *, rows: int = 0, commit_s: float = 0.0, at_s: float = 0.0) -> None:
        """Count one attempt at a batch; the rest (*at_s*: s since 1970 UTC) belongs to committed ones."""
        self._add("ingest_batches_total", **{result: 1})
        if result != "retried":
            self._histograms["ingest_batch_rows"].observe(rows)
            self._histograms["ingest_commit_seconds"].observe(commit_s)
            self._gauges["ingest_last_commit_timestamp_seconds"].set(at_s)

    def retry(self, sqlstate: str | None) -> None:
        """Count one failed database attempt that will be made again; None when no SQLSTATE was given."""
        known = "none" if sqlstate is None else sqlstate[:2]
        self._add("ingest_retries_total", **{known if known in SQLSTATE_CLASSES else "other": 1})

    def reconnected(self) -> None:
        """Count one connection to the broker after the first."""
        self._counters["ingest_reconnects_total"].inc()

    def read_gauge(self, name: GaugeName, source: Callable[[], float]) -> None:
        """Have the gauge *name* read from *source* at each scrape; *source* must not block."""
        self._gauges[name].set_function(source)

    def _add(self, name: str, **amounts: int) -> None:
        counter, label = self._counters[name], _LABELS[name]
        for value, amount in amounts.items():
            if amount:
                counter.labels(**{label: value}).inc(amount)

    def _create(self, each: MetricDef) -> None:
        labels: tuple[str, ...] = (each.label,) if each.label else ()
        if each.type == "counter":
            counter = prometheus.Counter(each.name, each.help, labels, registry=self.registry)
            for value in each.values:
                counter.labels(value)
            self._counters[each.name] = counter
        elif each.type == "histogram":
            self._histograms[each.name] = prometheus.Histogram(
                each.name, each.help, registry=self.registry, buckets=each.buckets
            )
        else:
            labels = ("version", "python") if each.name == "ingest_build_info" else labels
            self._gauges[each.name] = prometheus.Gauge(each.name, each.help, labels, registry=self.registry)


_LABELS = {each.name: each.label for each in CATALOGUE if each.label}
