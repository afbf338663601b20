"""`ingest replay --direct` as an operator runs it: the account, a kill in the middle, what is refused."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.acceptance.command_line import report
from tests.acceptance.dead_letter_history import command_line
from tests.recordings import messages_in, recorded, write
from tests.waiting import until

if TYPE_CHECKING:
    from tests.acceptance.command_line import CommandLine
    from tests.acceptance.conftest import Greenhouse
    from tests.servers import PostgresCluster

MESSAGES = 20_000
_CHILDREN = "/proc/{pid}/task/{pid}/children"


def _processes(pid: int) -> list[int]:
    """Give the processes that serve connections: children of *pid*, and theirs."""
    found = [int(each) for each in Path(_CHILDREN.format(pid=pid)).read_text().split()]
    return [*found, *(each for child in found for each in _processes(child))]


def _ended(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


async def _prepared(directory: Path, dsn: str) -> tuple[CommandLine, Greenhouse]:
    from tests.acceptance.conftest import Greenhouse  # noqa: PLC0415 (pytest imports a conftest by itself)

    greenhouse = Greenhouse(dsn)
    await greenhouse.register()
    messages = [
        recorded({"SENSOR_01": number}, number, greenhouse.map_topic)
        if number % 2
        else recorded(number, number, greenhouse.topic)
        for number in range(MESSAGES)
    ]
    messages.insert(10, recorded(b"{", 9, greenhouse.map_topic))
    write(directory / "a.jsonl.gz", messages, block=100)
    return command_line(directory, dsn), greenhouse


async def test_killed_in_the_middle_and_gone_on(tmp_path: Path, cluster: tuple[PostgresCluster, str]) -> None:
    _, dsn = cluster
    ingest, greenhouse = await _prepared(tmp_path, dsn)
    ingest.environment["INGEST_WRITE__MAX_BATCH_ROWS"] = "100"
    direct = ("replay", "a.jsonl.gz", "--direct", "--json", "--connections", "2", "--rejected", "r.jsonl.gz")
    running = ingest.start(*direct, stdout=subprocess.PIPE)
    await until(lambda: greenhouse.holds(1_000), "some are stored")
    children = _processes(running.pid)
    assert len(children) >= 2
    running.kill()
    running.communicate()
    await until(lambda: _all(map(_ended, children)), "its processes are gone, too")
    stored = await greenhouse.count()
    assert 1_000 <= stored < MESSAGES
    point = json.loads((tmp_path / "a.jsonl.gz.direct").read_text())
    assert 0 < point["account"]["readings"]["written"] <= stored
    again = await asyncio.to_thread(ingest, *direct)
    assert (again.returncode, "r.jsonl.gz exists already" in again.stderr) == (1, True)

    running = ingest.start(*direct, "--resume", stdout=subprocess.PIPE)
    await until(lambda: greenhouse.holds(stored + 1_000), "more are stored")
    running.send_signal(signal.SIGTERM)
    out, err = await asyncio.to_thread(running.communicate)
    assert (running.returncode, b"--resume goes on from there" in err) == (130, True), err
    assert json.loads(out)["interrupted"]
    ingest.environment["INGEST_WRITE__MAX_BATCH_ROWS"] = "5000"
    done = await asyncio.to_thread(ingest, *direct, "--resume")
    assert done.returncode == 1
    told = report(done)
    assert told["messages"] == {"read": MESSAGES + 1, "ignored": 0, "incomplete": 1}
    assert told["readings"]["decoded"] == MESSAGES + 1
    assert told["readings"]["written"] + told["readings"]["duplicate"] == MESSAGES
    assert (told["rejected"], told["finished"], told["damage"]) == ({"bad_payload": 1}, True, [])
    assert await greenhouse.count() == MESSAGES
    await greenhouse.holds_each_once(MESSAGES)
    assert [each.payload for each in messages_in(tmp_path / "r.jsonl.gz")] == [b"{"]
    booked = "select sum(rows)::int from iot.ingest_written_hours where client_id = '(direct)'"
    assert await greenhouse.fetchval(booked) == MESSAGES
    log = "select operation_type || ' ' || status from metadata.bulk_operation_log order by started_at"
    assert [row[0] for row in await greenhouse.fetch(log)] == [
        "BACKFILL RUNNING",
        "BACKFILL CANCELLED",
        "BACKFILL PARTIAL",
    ]


async def _all(found: Any) -> bool:  # noqa: ANN401 (an iterator of booleans)
    return all(found)


async def test_it_says_what_came_of_it_and_what_does_not_go_with_it(
    tmp_path: Path, database: str, greenhouse: Greenhouse
) -> None:
    ingest = command_line(tmp_path, database)
    write(tmp_path / "a.jsonl.gz", [recorded({"SENSOR_01": 1}, 0, greenhouse.map_topic)])
    write(tmp_path / "b.jsonl.gz", [recorded({"BOMBA": 1}, 1, greenhouse.map_topic)])
    done = await asyncio.to_thread(ingest, "replay", "a.jsonl.gz", "--direct", "--connections", "1")
    assert (done.returncode, "1 readings stored" in done.stdout) == (0, True), done.stderr
    done = await asyncio.to_thread(ingest, "replay", ".", "--direct", "--connections", "1")
    assert done.returncode == 1
    for part in (
        "2 messages",
        "1 readings were stored already",
        "1 readings rejected",
        "unknown_sensor_type",
    ):
        assert part in done.stdout
    for options, said in (
        (("a.jsonl.gz", "--loop"), "--loop does not go with --direct"),
        (("a.jsonl.gz", "--rejected", "a.jsonl.gz"), "is to be replayed"),
        ((".", "--rejected", "r.jsonl.gz"), "would be replayed with its folder"),
    ):
        done = await asyncio.to_thread(ingest, "replay", "--direct", *options)
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    done = await asyncio.to_thread(ingest, "replay", "a.jsonl.gz", "--connections", "2")
    assert (done.returncode, "go with --direct" in done.stderr) == (2, True), done.stderr
    (tmp_path / "a.jsonl.gz.direct").write_text("{}")
    done = await asyncio.to_thread(ingest, "replay", "a.jsonl.gz", "--direct", "--resume")
    assert (done.returncode, "is no resume point" in done.stderr) == (1, True)
    done = await asyncio.to_thread(ingest, "replay", "a.jsonl.gz", "c.jsonl.gz", "--direct")
    assert (done.returncode, "c.jsonl.gz cannot be read: No such file" in done.stderr) == (1, True)
    (tmp_path / "c.jsonl.gz").write_bytes(b"no recording")
    done = await asyncio.to_thread(ingest, "replay", "c.jsonl.gz", "--direct", "--connections", "1")
    assert (done.returncode, "is no recording" in done.stderr) == (1, True)
