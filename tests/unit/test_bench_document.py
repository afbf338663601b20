"""Three pages of docs/ and a picture say what bench/results/latest.json says."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from bench import record
from bench.document import PAGES, PICTURE, written
from bench.plot import draw
from docs.scaling_arithmetic import figures

if TYPE_CHECKING:
    from pathlib import Path

KEPT = json.loads(record.LATEST.read_text())


@pytest.mark.parametrize(
    ("page", "parts", "said"),
    [(PAGES[0], 6, set()), (PAGES[1], 3, set(figures(KEPT))), (PAGES[2], 1, set())],
)
def test_a_page_is_as_python_m_bench_document_leaves_it(page: Path, parts: int, said: set[str]) -> None:
    text = page.read_text()
    assert text == written(text, KEPT), "run `python -m bench.document`"
    assert text.count("<!-- bench: end -->") == parts
    assert set(re.findall(r"<!-- = (\w+) -->", text)) == said


def test_other_results_make_other_pages() -> None:
    text = PAGES[1].read_text()
    kept = json.loads(record.LATEST.read_text())
    kept["workloads"]["many_sensors"]["rows_per_s"] |= {"worker": 20_004, "raw_copy": 100_000}
    assert "counted with <!-- = worker -->20 000<!-- = --> readings" in written(text, kept)
    assert "| 1,000,000 | 60 s | 92.6 % | 367 % | 19 | 65.4 GB |" in written(text, kept)


def test_the_picture_is_drawn_from_the_figures() -> None:
    picture = PICTURE.read_text()
    assert picture == draw(KEPT["workloads"]), "run `python -m bench.document`"
    ET.fromstring(picture)  # noqa: S314 - our own file, well-formed
    assert "prefers-color-scheme: dark" in picture


def test_what_is_kept_has_every_figure_of_every_workload() -> None:
    assert KEPT.get("direct", {"exact": True})["exact"]
    for name, workload in KEPT["workloads"].items():
        assert workload["exact"], name
        assert {"rows_per_s", "ratio_to_limit", "cpu_us_per_message", "rss_mb", "inexact"} <= workload.keys()
        assert workload["rows_per_s"]["worker"] > 0


@pytest.mark.parametrize(
    "marked", ["<!-- bench: weather -->\n<!-- bench: end -->", "<!-- = weather -->?<!-- = -->"]
)
def test_a_marker_nobody_knows_is_an_error(marked: str) -> None:
    with pytest.raises(KeyError):
        written(marked, KEPT)
