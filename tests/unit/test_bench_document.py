"""docs/speed.md and its picture say what bench/results/latest.json says."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import pytest

from bench import record
from bench.document import PAGE, PICTURE, written
from bench.plot import draw

KEPT = json.loads(record.LATEST.read_text())


def test_the_page_is_as_python_m_bench_document_leaves_it() -> None:
    page = PAGE.read_text()
    assert page == written(page, KEPT), "run `python -m bench.document`"
    assert page.count("<!-- bench: end -->") == 6


def test_the_picture_is_drawn_from_the_figures() -> None:
    picture = PICTURE.read_text()
    assert picture == draw(KEPT["workloads"]), "run `python -m bench.document`"
    ET.fromstring(picture)  # noqa: S314 - our own file, well-formed
    assert "prefers-color-scheme: dark" in picture


def test_what_is_kept_has_every_figure_of_every_workload() -> None:
    for name, workload in KEPT["workloads"].items():
        assert workload["exact"], name
        assert {"rows_per_s", "ratio_to_limit", "cpu_us_per_message", "rss_mb", "inexact"} <= workload.keys()
        assert workload["rows_per_s"]["worker"] > 0


def test_a_marker_nobody_knows_is_an_error() -> None:
    with pytest.raises(KeyError):
        written("<!-- bench: weather -->\n<!-- bench: end -->", KEPT)
