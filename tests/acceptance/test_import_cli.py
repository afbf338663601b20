"""`ingest import` and `ingest export` as an operator runs them: options, exit codes, a kill and a signal."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.acceptance.command_line import report
from tests.acceptance.dead_letter_history import command_line
from tests.histories import names_in
from tests.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.acceptance.command_line import CommandLine
    from tests.acceptance.conftest import Greenhouse
    from tests.servers import PostgresCluster

ROWS = 12_000


@pytest.fixture
def ingest(tmp_path: Path, database: str) -> CommandLine:
    return command_line(tmp_path, database)


async def test_out_and_in_again(ingest: CommandLine, greenhouse: Greenhouse, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        "Zeit;Wert;Typ\n2024-07-01 12:00;24,5;Temperatura\n2024-07-01 12:01;x;Temperatura\n"
    )
    options = ("--column", "time=Zeit", "--column", "value=Wert", "--column", "sensor_type=Typ", "--json")
    here = ("--greenhouse", greenhouse.code, "--tenant", greenhouse.prefix)
    named = await asyncio.to_thread(ingest, "import", "a.csv", *options, *here)
    assert (named.returncode, named.stdout) == (2, "")
    assert "a.csv:2: a time without a zone, and no --timezone says which it is in" in named.stderr
    assert named.stderr.splitlines()[-1] == "ingest: nothing was written"
    wrong = await asyncio.to_thread(ingest, "import", "a.csv", *options, *here, "--timezone", "Berlin")
    assert (wrong.returncode, "there is Europe/Berlin" in wrong.stderr) == (2, True)
    zone = ("--timezone", "Europe/Berlin", "--rejected", "r.csv")
    done = await asyncio.to_thread(ingest, "import", "a.csv", *options, *here, *zone)
    assert (done.returncode, done.stderr) == (1, "")
    told = report(done)
    assert told["readings"] == {"read": 2, "written": 1, "duplicate": 0, "null": 0, "rejected": 1}
    assert told["rejected_file"] == "r.csv"
    assert "bad_value" in (tmp_path / "r.csv").read_text()
    text = await asyncio.to_thread(ingest, "import", "a.csv", *options[:-1], *here, *zone[:2])
    assert (text.returncode, "were stored already" in text.stdout) == (1, True)

    out = ("export", "--since", "2024-07-01", "--until", "2024-07-02", "--greenhouse", greenhouse.code)
    done = await asyncio.to_thread(ingest, *out, "--output", "b.jsonl.gz", "--json")
    assert (done.returncode, report(done)["rows"]) == (0, 1)
    done = await asyncio.to_thread(ingest, "import", "b.jsonl.gz", "--json")
    assert (done.returncode, report(done)["readings"]["duplicate"]) == (0, 1)
    done = await asyncio.to_thread(ingest, *out, "--output", "-", "--format", "jsonl", "--json")
    assert (done.returncode, report(done)["value"], json.loads(done.stderr)["rows"]) == (0, 24.5, 1)
    running = ingest.start(*out, "--output", "-", "--format", "jsonl", stdout=subprocess.PIPE)
    assert running.stdout is not None
    running.stdout.close()  # as `head` does
    _, err = await asyncio.to_thread(running.communicate)
    assert (running.returncode, err) == (141, b"")
    for wrong_words, said in (
        (("--output", "b"), "does not tell the format"),
        (("--output", "b.csv", "--until", "2023-01-01"), "is not after --since"),
        (("--output", "b.csv", "--tenant", "NOBODY"), "no tenant has"),
    ):
        done = await asyncio.to_thread(ingest, *out, *wrong_words)
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr


def _many(directory: Path, greenhouse: Greenhouse) -> None:
    (directory / "many.csv").write_text(
        "time,value,type,greenhouse\n"
        + "".join(
            f"2024-07-01T00:00:00.{number:06}Z,{number},SENSOR,{greenhouse.greenhouse_id}\n"
            for number in range(ROWS)
        )
    )


async def test_killed_in_the_middle_and_run_again(
    tmp_path: Path, cluster: tuple[PostgresCluster, str]
) -> None:
    from tests.acceptance.conftest import Greenhouse  # noqa: PLC0415 (pytest imports a conftest by itself)

    _, dsn = cluster
    greenhouse = Greenhouse(dsn)
    await greenhouse.register()
    ingest = command_line(tmp_path, dsn)
    ingest.environment["INGEST_WRITE__MAX_BATCH_ROWS"] = "100"
    _many(tmp_path, greenhouse)
    running = ingest.start("import", "many.csv", "--rejected", "r.csv", stdout=subprocess.PIPE)
    await until(lambda: greenhouse.holds(300), "some are stored")
    running.kill()
    running.communicate()
    left = [name for name in names_in(tmp_path) if "r.csv" in name]
    assert left == [f".r.csv.{running.pid}"], "as docs/import-export.md says"
    stored = await greenhouse.count()
    assert 300 <= stored < ROWS
    running = ingest.start("import", "many.csv", "--json", stdout=subprocess.PIPE)
    await until(lambda: greenhouse.holds(stored + 300), "more are stored")
    running.send_signal(signal.SIGTERM)
    out, err = await asyncio.to_thread(running.communicate)
    assert (running.returncode, b"run it again to go on" in err) == (130, True)
    told = json.loads(out)
    assert (told["interrupted"], told["readings"]["duplicate"]) == (True, stored)
    ingest.environment["INGEST_WRITE__MAX_BATCH_ROWS"] = "10000"
    done = await asyncio.to_thread(ingest, "import", "many.csv", "--json")
    assert done.returncode == 0
    await greenhouse.holds_each_once(ROWS)
    booked = "select sum(rows)::int from iot.ingest_written_hours where client_id = '(import)'"
    assert await greenhouse.fetchval(booked) == ROWS
    log = "select status from metadata.bulk_operation_log order by started_at"
    assert [row[0] for row in await greenhouse.fetch(log)] == ["RUNNING", "CANCELLED", "COMPLETED"]
