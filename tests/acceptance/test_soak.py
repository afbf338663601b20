"""Seconds of `make soak` in the suite: the same code, a fixed seed, the verdict and the page."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from tests.acceptance.soak import Options, soak
from tests.acceptance.soak_run import Run
from tests.outline import Outline

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.timeout(360)
async def test_simulated_greenhouses_are_soaked_and_judged(tmp_path: Path) -> None:
    lines: list[str] = []
    options = Options(seconds=8.0, seed=20_251_126, gateways=15, interval_s=1.0, every_s=0.25)
    report = await soak(options, tmp_path, lines.append)
    assert report["ok"], "\n".join([*lines, json.dumps(report)])
    account = report["account"]
    assert account["readings in them"] == account["landed once"] > 400
    assert (
        report["ledgers"]["received"]
        == report["acknowledged"]
        == account["messages acknowledged by the broker"] + 1
    )
    samples = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert len(samples) == report["samples"] > 20
    last = samples[-1]
    assert (last["lag"], last["queue"], last["rows"]) == (0, 0, report["ledgers"]["written"])
    assert min(last["rss_bytes"] / 1e6, last["handles"], last["database_bytes"] / 1e6, last["wal_bytes"]) > 5
    assert len(report["growth"]) == 2, "memory and handles of one process"
    page = (tmp_path / "report.html").read_text()
    Outline(page)
    for title in ("Resident memory of the worker", "Open files of the worker", "Behind the broker", "Disk"):
        assert f"<caption>{title}" in page


class Losing(Run):
    """A soak whose database loses a row."""

    async def _drained(self) -> bool:
        drained = await super()._drained()
        await self._fetch(
            "delete from iot.sensor_readings"
            " where ctid = (select max(ctid) from iot.sensor_readings where value > 0)"
        )
        return drained


async def test_a_lost_row_is_found_and_named(tmp_path: Path) -> None:
    options = Options(seconds=2.0, seed=7, gateways=8, interval_s=0.5, every_s=0.4, patience_s=3.0)
    async with Losing(options, tmp_path, lambda _line: None) as run:
        report = await run.run(asyncio.Event())
    assert not report["ok"]
    assert report["account"]["missing"] == 1
    ((_, topic, _, why),) = report["missing"]
    assert (why, topic.lower().startswith("greenhouse")) == ("no row", True)
    missing, ledger, *_ = report["violations"]
    assert missing == f"1 readings are missing, of {topic}"
    assert "the counter written says" in ledger
