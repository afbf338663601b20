"""Half a minute of `make chaos` in the suite: the same code, a fixed seed, a count of every message."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from tests.acceptance.chaos import DRAIN_S, run

if TYPE_CHECKING:
    from pathlib import Path

SEED = 20_251_117
SECONDS = float(os.environ.get("INGEST_CHAOS_SECONDS", "30"))


@pytest.mark.timeout(SECONDS + DRAIN_S + 180)
async def test_every_message_is_accounted_for_under_fire(tmp_path: Path) -> None:
    lines: list[str] = []
    report = await run(SEED, SECONDS, tmp_path, lines.append)
    assert report["ok"], "\n".join([*lines, json.dumps(report)])
    assert report["account"]["acknowledged by the broker"] > 50 * SECONDS
    assert {fault.partition(":")[0] for fault in report["faults"]} >= {"worker", "broker", "database"}
