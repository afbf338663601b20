"""The metrics: the page they make, the catalogue behind it, and docs/metrics.md held equal to it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from ingest.model import REASONS
from ingest.observe.metrics import CATALOGUE, Metrics, Several

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"


def samples(metrics: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    families = text_string_to_metric_families(generate_latest(metrics.registry).decode())
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
        if sample.name.startswith("ingest_")
    }


def test_the_page_holds_the_catalogue_and_nothing_else_of_ours() -> None:
    text = generate_latest(Metrics().registry).decode()
    shown = dict(re.findall(r"(?m)^# TYPE (ingest_\w+) (\w+)$", text))
    assert shown == {each.name: each.type for each in CATALOGUE}
    helps = dict(re.findall(r"(?m)^# HELP (ingest_\w+) (.*)$", text))
    assert helps == {each.name: each.help for each in CATALOGUE}
    assert "process_resident_memory_bytes" in text


def test_every_label_value_is_there_from_the_start_as_zero() -> None:
    found = samples(Metrics())
    for each in CATALOGUE:
        for value in each.values:
            assert found[each.name, (value,)] == 0, each.name
    assert {labels[0] for name, labels in found if name == "ingest_rejections_total"} == set(REASONS)


def test_ledgers_add_up_as_they_are_told() -> None:
    metrics = Metrics()
    metrics.messages(received=10, committed=6, skipped=1, ignored=2)
    metrics.readings(decoded=20, written=15, duplicate=1, rejected=3, null=1)
    metrics.rejections({"bad_value": 2, "inactive": 1})
    metrics.read_gauge("ingest_in_flight_messages", lambda: 1)
    found = samples(metrics)
    messages = {
        labels[0]: value for (name, labels), value in found.items() if name == "ingest_messages_total"
    }
    readings = {
        labels[0]: value for (name, labels), value in found.items() if name == "ingest_readings_total"
    }
    in_flight = found["ingest_in_flight_messages", ()]
    assert messages == {"received": 10, "committed": 6, "skipped": 1, "ignored": 2}
    assert (
        messages["received"] == messages["committed"] + messages["skipped"] + messages["ignored"] + in_flight
    )
    assert readings == {"decoded": 20, "written": 15, "duplicate": 1, "rejected": 3, "null": 1}
    assert found["ingest_rejections_total", ("bad_value",)] == 2


def test_only_a_committed_batch_has_a_size_and_a_time() -> None:
    metrics = Metrics()
    metrics.batch("retried")
    metrics.batch("straight", rows=500, commit_s=0.2, at_s=1_700_000_000.5)
    found = samples(metrics)
    assert found["ingest_batches_total", ("retried",)] == found["ingest_batches_total", ("straight",)] == 1
    assert found["ingest_batch_rows_sum", ()] == 500
    assert found["ingest_commit_seconds_count", ()] == 1
    assert found["ingest_last_commit_timestamp_seconds", ()] == 1_700_000_000.5


def test_the_sqlstate_label_is_bounded() -> None:
    metrics = Metrics()
    for sqlstate in ("08006", "57P01", None, "XX000", "", 'a"b'):
        metrics.retry(sqlstate)
    found = {
        labels[0]: value
        for (name, labels), value in samples(metrics).items()
        if name == "ingest_retries_total"
    }
    assert {label: value for label, value in found.items() if value} == {
        "08": 1,
        "57": 1,
        "none": 1,
        "other": 3,
    }


def test_two_sets_of_metrics_do_not_share_anything() -> None:
    one, other = Metrics(), Metrics()
    one.reconnected()
    assert samples(one)["ingest_reconnects_total", ()] == 1
    assert samples(other)["ingest_reconnects_total", ()] == 0


def test_the_document_is_the_catalogue() -> None:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in DOCUMENT.read_text().splitlines()
        if line.startswith("| `ingest_") and line.count("|") == 7
    ]
    expected = [
        [f"`{each.name}`", each.type, each.unit, label_cell(each.label, each.values), each.help, each.spike]
        for each in CATALOGUE
    ]
    expected[-1][3] = "`version`, `python`"
    assert rows == expected


@pytest.mark.parametrize("several", get_args(Several))
def test_the_document_says_how_gauges_of_several_workers_are_one(several: str) -> None:
    (row,) = [line for line in DOCUMENT.read_text().splitlines() if line.startswith(f"| `{several}`")]
    listed = row.split("|")[2]
    assert re.findall(r"`(\w+)`", listed) == [each.name for each in CATALOGUE if each.several == several]


def label_cell(label: str | None, values: tuple[str, ...]) -> str:
    return f"`{label}`: {', '.join(f'`{value}`' for value in values)}" if label else ""


def test_every_query_in_the_document_names_known_metrics() -> None:
    known = {each.name for each in CATALOGUE}
    assert set(re.findall(r"ingest_\w+", DOCUMENT.read_text())) <= known
