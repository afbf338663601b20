"""A command whose metadata database is lost at its very end: the report, the exit code, and a remark."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.acceptance.dead_letter_history import command_line
from tests.proxy import Proxy
from tests.recordings import recorded, write

if TYPE_CHECKING:
    from pathlib import Path

    from tests.acceptance.conftest import Greenhouse


@pytest.mark.parametrize(
    "words", [("import", "a.csv"), ("replay", "a.jsonl.gz", "--direct", "--connections", "1")]
)
async def test_all_is_stored_and_only_the_log_does_not_know(
    tmp_path: Path, database: str, greenhouse: Greenhouse, words: tuple[str, ...]
) -> None:
    (tmp_path / "a.csv").write_text(
        f"time,value,type,greenhouse\n2024-07-01T00:00:00Z,1,SENSOR,{greenhouse.greenhouse_id}\n"
    )
    write(tmp_path / "a.jsonl.gz", [recorded({"SENSOR_01": 1}, 0, greenhouse.map_topic)])
    ingest = command_line(tmp_path, database)
    async with Proxy(urlsplit(database).port or 0) as proxy:
        proxy.set_trap(b"completed_at = clock_timestamp()", "cut", forward=False)
        ingest.environment["INGEST_METADATA_DSN"] = proxy.url(database)
        done = await asyncio.to_thread(ingest, *words, "--json")
        assert proxy.sprung.is_set()
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["readings"]["written"] == 1
    assert "in metadata.bulk_operation_log stays RUNNING: " in done.stderr
    log = await greenhouse.fetch("select status from metadata.bulk_operation_log order by id desc limit 1")
    assert log[0][0] == "RUNNING"
