"""`ingest dead-letters replay` as an operator runs it: what lands, what it says, and what a kill leaves."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from ingest.model import CutPayload
from tests.acceptance.command_line import CommandLine, report
from tests.acceptance.dead_letter_history import DAY_US, EPOCH, MICROSECOND, History, command_line
from tests.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.acceptance.conftest import Greenhouse
    from tests.servers import PostgresCluster


@pytest.fixture
def ingest(tmp_path: Path, database: str) -> CommandLine:
    return command_line(tmp_path, database)


@pytest.fixture
def history(greenhouse: Greenhouse, database: str) -> History:
    return History(greenhouse, database)


async def replay(ingest: CommandLine, history: History, *options: str, code: int = 0) -> dict[str, Any]:
    """Replay the greenhouse's letters; give the report."""
    arguments = ("dead-letters", "replay", "--json", "--tenant", history.greenhouse.prefix, *options)
    done = await asyncio.to_thread(ingest, *arguments)
    assert done.returncode == code, done.stderr
    return report(done)


async def test_what_can_be_read_by_now_lands_at_its_time(ingest: CommandLine, history: History) -> None:
    greenhouse = history.greenhouse
    old_us = await history.store(
        {"SENSOR_01": 1, "BOMBA": 2}, ("BOMBA", "unknown_sensor_type"), age_us=400 * DAY_US
    )
    await history.store({"SENSOR_01": 3, "TEMP_01": 6484}, ("TEMP_01", "out_of_range"))
    whole = await history.store(
        [1], ("", "unknown_topic"), topic=f"greenhouse/{greenhouse.greenhouse_id}/sensors/co2"
    )
    await history.store(CutPayload.of(b"[" * 300_000), ("", "too_large"))
    await greenhouse.fetch(
        """
        insert into metadata.sensors (greenhouse_id, tenant_id, sensor_code, sensor_type, mqtt_field_name)
        values ($1, $2, 'B', 'SENSOR', 'BOMBA')
        """,
        greenhouse.greenhouse_id,
        greenhouse.tenant_id,
    )
    counters = await greenhouse.fetch("select * from iot.ingest_counters")

    rehearsed = await replay(ingest, history, "--dry-run", code=1)
    assert (await greenhouse.count(), len(await history.letters())) == (0, 4)
    assert not await history.operations()
    done = await replay(ingest, history, code=1)
    assert {**rehearsed, "dry_run": False, "seconds": 0} == {**done, "seconds": 0}
    assert done["letters"] == {
        "fitting": 4, "replayed": 3, "settled": 2, "ignored": 0, "left": 1, "cut": 1, "passed_over": 0,
    }  # fmt: skip
    assert done["readings"] == {"replayed": 3, "written": 2, "duplicate": 0, "null": 0, "rejected": 1}
    assert (done["rejected"], done["hours_noted"]) == ({"out_of_range": 1}, 1)
    rows = await greenhouse.fetch(
        "select time, value from iot.sensor_readings where tenant_id = $1 order by value",
        greenhouse.tenant_id,
    )
    landed = {record["value"]: (record["time"] - EPOCH) // MICROSECOND for record in rows}
    assert landed == {1.0: whole, 2.0: old_us}, "a reading of last year is judged by last year's clock"
    assert [each["reasons"] for each in await history.letters()] == [["out_of_range"], ["too_large"]]
    assert await greenhouse.fetch("select * from iot.ingest_counters") == counters
    (operation,) = await history.operations()
    assert (operation["operation_type"], operation["status"]) == ("REPLAY", "PARTIAL")
    assert (operation["target_table"], operation["total_records"]) == ("iot.ingest_dead_letters", 3)
    assert (operation["successful_records"], operation["failed_records"]) == (2, 1)

    text = await asyncio.to_thread(ingest, "dead-letters", "replay", "--tenant", str(greenhouse.tenant_id))
    assert text.returncode == 1
    for part in (
        "1 of 2 dead letters replayed",
        "1 readings rejected still",
        "out_of_range",
        "too large to be",
    ):
        assert part in text.stdout
    none = await asyncio.to_thread(ingest, "dead-letters", "replay", "--tenant", "nobody")
    assert none.returncode == 2
    assert "no tenant has the topic prefix or the name 'nobody'" in none.stderr


async def test_the_filters_choose(ingest: CommandLine, history: History) -> None:
    topic = f"{history.greenhouse.map_topic}/{history.greenhouse.code}"
    await history.store({"SENSOR_01": 1}, ("SENSOR_01", "unknown_unit"), age_us=2 * DAY_US)
    await history.store({"SENSOR_02": 2}, ("SENSOR_02", "inactive"), topic=topic)
    await history.store({"SENSOR_03": 3}, ("SENSOR_03", "inactive"))
    stored = history.greenhouse.values
    assert (await replay(ingest, history, "--reason", "bad_value"))["letters"]["fitting"] == 0
    await replay(ingest, history, "--reason", "unknown_unit", "--reason", "bad_value", "--until", "1d")
    assert list(await stored()) == [1.0]
    await replay(ingest, history, "--topic", "GREENHOUSE/+/+", "--since", "1h")
    assert sorted(await stored()) == [1.0, 2.0]
    await history.greenhouse.fetch(
        "update metadata.tenants set name = $2 where id = $1", history.greenhouse.tenant_id, f"A {topic}"
    )
    named = await asyncio.to_thread(ingest, "dead-letters", "list", "--json", "--tenant", f"A {topic}")
    assert [each["topic"] for each in report(named)["dead_letters"]] == [history.greenhouse.map_topic]
    (left,) = await history.letters()
    await replay(ingest, history, "--id", str(left["dead_letter_id"]), "--id", "999999")
    assert sorted(await stored()) == [1.0, 2.0, 3.0]
    assert [each["status"] for each in await history.operations()][-4:] == ["COMPLETED"] * 4


async def test_killed_in_the_middle_and_run_again(
    tmp_path: Path, cluster: tuple[PostgresCluster, str]
) -> None:
    _, dsn = cluster
    ingest, history = await _many_letters(tmp_path, dsn, count=3_000)
    rate = ("dead-letters", "replay", "--rate", "500")
    replaying = ingest.start(*rate, stdout=subprocess.PIPE)
    await until(lambda: history.greenhouse.holds(500), "some are replayed")
    replaying.kill()
    replaying.communicate()
    before = await history.greenhouse.count()
    assert before < 3_000
    assert before == 3_000 - len(await history.letters()), "each row came with the end of its letter"
    done = await replay(ingest, history)
    assert done["readings"] == {
        "replayed": 3_000 - before, "written": 3_000 - before, "duplicate": 0, "null": 0, "rejected": 0,
    }  # fmt: skip
    await _each_once(history, 3_000)
    operations = await history.operations()
    assert [each["status"] for each in operations] == ["RUNNING", "COMPLETED"], "the killed one is seen"


async def test_interrupted_it_finishes_the_batch_and_says_so(
    tmp_path: Path, cluster: tuple[PostgresCluster, str]
) -> None:
    _, dsn = cluster
    ingest, history = await _many_letters(tmp_path, dsn, count=1_000)
    replaying = ingest.start("dead-letters", "replay", "--json", "--rate", "100", stdout=subprocess.PIPE)
    await until(lambda: history.greenhouse.holds(100), "some are replayed")
    replaying.send_signal(signal.SIGINT)
    out, err = await asyncio.to_thread(replaying.communicate)
    assert (replaying.returncode, b"run it again" in err) == (130, True)
    told = json.loads(out)
    assert told["interrupted"]
    assert told["readings"]["written"] == await history.greenhouse.count() < 1_000
    assert [each["status"] for each in await history.operations()] == ["CANCELLED"]


async def test_two_at_once_store_each_reading_once(
    tmp_path: Path, cluster: tuple[PostgresCluster, str]
) -> None:
    _, dsn = cluster
    ingest, history = await _many_letters(tmp_path, dsn, count=4_000)
    both = await asyncio.gather(*(replay(ingest, history, "--rate", "4000") for _ in range(2)))
    assert sum(each["readings"]["written"] for each in both) == 4_000
    assert sum(each["readings"]["duplicate"] for each in both) == 0
    await _each_once(history, 4_000)


async def _many_letters(directory: Path, dsn: str, *, count: int) -> tuple[CommandLine, History]:
    """Make a greenhouse with *count* letters whose one reading can be stored by now, all of a value."""
    from tests.acceptance.conftest import Greenhouse  # noqa: PLC0415 (pytest imports a conftest by itself)

    greenhouse = await Greenhouse.registered(dsn)
    history = History(greenhouse, dsn)
    await history.store({"SENSOR_01": 1, "SENSOR_02": 2}, ("SENSOR_02", "inactive"), times=count)
    return command_line(directory, dsn), history


async def _each_once(history: History, count: int) -> None:
    assert not await history.letters()
    assert await history.greenhouse.values() == {2.0: count}
    times = await history.greenhouse.fetchval("select count(distinct time) from iot.sensor_readings")
    assert times == count
