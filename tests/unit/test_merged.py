"""Several workers' metrics as one page: sums that never fall, gauges of those that run."""

from __future__ import annotations

import json

import pytest
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from ingest.observe.merged import Family, Merged, reported
from ingest.observe.metrics import CATALOGUE, Metrics
from ingest.workers.line import Report

Samples = dict[tuple[str, tuple[str, ...]], float]


def page_of(merged: Merged) -> Samples:
    """Give the page as a scraper that knows OpenMetrics reads it: the strictest there is."""
    families = text_string_to_metric_families(generate_latest(merged.registry).decode())  # type: ignore[no-untyped-call]
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }


def worker(*, written: int, in_flight: int, connected: float, age_s: float) -> Metrics:
    metrics = Metrics()
    metrics.readings(decoded=written, written=written)
    metrics.batch("straight", rows=written, commit_s=0.01, at_s=1000.0 + written)
    metrics.read_gauge("ingest_in_flight_messages", lambda: in_flight)
    metrics.read_gauge("ingest_broker_connected", lambda: connected)
    metrics.read_gauge("ingest_catalog_age_seconds", lambda: age_s)
    return metrics


def heard(metrics: Metrics) -> list[Family]:
    """Give what the supervisor gets of it over the line."""
    return Report.of(Report(subscribed=True, reasons=[], metrics=reported(metrics.registry)).line()).metrics


def test_counters_and_histograms_are_summed_up_and_gauges_as_they_say() -> None:
    merged = Merged(lambda: True)
    merged.take("a", heard(worker(written=3, in_flight=5, connected=1, age_s=10)))
    merged.take("b", heard(worker(written=40, in_flight=7, connected=0, age_s=2)))
    page = page_of(merged)
    assert page["ingest_readings_total", ("written",)] == 43
    assert page["ingest_batch_rows_count", ()] == 2
    assert page["ingest_batch_rows_sum", ()] == 43
    assert page["ingest_batch_rows_bucket", ("10.0",)] == 1
    assert page["ingest_batch_rows_bucket", ("+Inf",)] == 2
    assert page["ingest_in_flight_messages", ()] == 12
    assert page["ingest_broker_connected", ()] == 0
    assert page["ingest_catalog_age_seconds", ()] == 10
    assert page["ingest_last_commit_timestamp_seconds", ()] == 1040
    assert page["ingest_workers", ()] == 2
    assert page["process_resident_memory_bytes", ()] > 0
    assert [value for (name, _), value in page.items() if name == "ingest_build_info"] == [1]


def test_a_worker_that_ends_and_starts_again_takes_nothing_back() -> None:
    merged = Merged(lambda: True)
    merged.take("a", heard(worker(written=3, in_flight=5, connected=1, age_s=10)))
    merged.take("b", heard(worker(written=40, in_flight=7, connected=1, age_s=2)))
    merged.ended("b")
    merged.restarted()
    page = page_of(merged)
    assert page["ingest_readings_total", ("written",)] == 43
    assert page["ingest_in_flight_messages", ()] == 5
    assert page["ingest_workers", ()] == 1
    merged.take("b", heard(worker(written=1, in_flight=0, connected=1, age_s=2)))
    merged.ended("b")
    merged.ended("a")
    page = page_of(merged)
    assert page["ingest_readings_total", ("written",)] == 44
    assert page["ingest_batch_rows_count", ()] == 3
    assert page["ingest_worker_restarts_total", ()] == 1
    assert ("ingest_workers", ()) not in page


@pytest.mark.parametrize("ready", [True, False])
def test_readiness_is_the_supervisors_own(*, ready: bool) -> None:
    """A worker that has ended says nothing, and one that ends a session need not be ready."""
    merged = Merged(lambda: ready)
    assert page_of(merged)["ingest_ready", ()] == ready
    metrics = worker(written=0, in_flight=0, connected=1, age_s=1)
    metrics.read_gauge("ingest_ready", lambda: not ready)
    merged.take("a", heard(metrics))
    assert page_of(merged)["ingest_ready", ()] == ready


def test_every_gauge_of_the_catalogue_says_how_several_are_one() -> None:
    assert [each.several is not None for each in CATALOGUE] == [each.type == "gauge" for each in CATALOGUE]


def test_a_report_survives_numbers_that_json_has_no_word_for() -> None:
    metrics = worker(written=0, in_flight=0, connected=1, age_s=float("inf"))
    line = Report(subscribed=False, reasons=["broker: away"], metrics=reported(metrics.registry)).line()
    assert line.count(b"\n") == 1
    again = Report.of(line)
    assert (again.subscribed, again.reasons) == (False, ["broker: away"])
    (age,) = [each for each in again.metrics if each.name == "ingest_catalog_age_seconds"]
    assert age.samples[0].value == float("inf")
    assert len(line) < 100_000
    assert json.loads(line)
