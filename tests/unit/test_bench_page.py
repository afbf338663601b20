"""The benchmark's page shows what bench/results/latest.json says."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from bench import document, record
from bench.page import render
from tests.outline import Outline

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

KEPT = json.loads(record.LATEST.read_text())


def test_the_page_has_every_workload_with_its_rate() -> None:
    text = Outline(render(KEPT, "now")).text
    for name, workload in KEPT["workloads"].items():
        assert f"{name}: {workload['says']}" in text
        assert f"{workload['rows_per_s']['worker']:,}" in text
    assert KEPT["machine"] in text


def test_a_part_that_was_not_measured_is_left_out() -> None:
    for missing, heading in (
        ("latency_ms", "Latency"),
        ("stages_us", "Steps of the hot path"),
        ("workloads", "Speed"),
    ):
        page = render({name: part for name, part in KEPT.items() if name != missing}, "now")
        Outline(page)
        assert f"<h2>{heading}</h2>" not in page
        assert f"<h2>{heading}</h2>" in render(KEPT, "now")
    assert "NaN" not in render({}, "now")


def test_lost_readings_are_the_verdict() -> None:
    kept = json.loads(json.dumps(KEPT))
    next(iter(kept["workloads"].values()))["exact"] = False
    assert "The worker lost or doubled readings." in render(kept, "now")


def test_document_writes_the_page_and_leaves_the_docs_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [page.stat().st_mtime_ns for page in (*document.PAGES, document.PICTURE)]
    monkeypatch.setattr(sys, "argv", ["document", "--report", str(tmp_path / "bench.html")])
    document.main()
    assert "greenhouse-ingest: the benchmark" in Outline((tmp_path / "bench.html").read_text()).text
    assert before == [page.stat().st_mtime_ns for page in (*document.PAGES, document.PICTURE)]
