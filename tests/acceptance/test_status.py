"""`ingest status` and `ingest maintain` as an operator runs them: what they say, refuse and leave alone."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from ingest.errors import CheckFailed, Misconfigured
from ingest.operate.maintain import LOCK_KEY, STEPS, maintain, survey
from ingest.operate.maintain_steps import Look, Step, Task
from ingest.operate.status import look
from tests.acceptance.command_line import report
from tests.acceptance.dead_letter_history import DAY_US, History, command_line
from tests.acceptance.maintained_rows import Rows, as_role, breaches, settings_of
from tests.servers import free_port

if TYPE_CHECKING:
    from ingest.operate.maintain_steps import Ground, MaintenanceReport
    from ingest.operate.progress import Progress
    from ingest.settings import Settings
    from tests.acceptance.command_line import CommandLine
    from tests.acceptance.conftest import Greenhouse

ROOT = Path(__file__).parents[2]
SHIPPED = """
    alter table iot.sensor_readings set (
        timescaledb.segmentby = 'greenhouse_id, tenant_id, sensor_type_id',
        timescaledb.orderby = 'time desc, sensor_id'
    )
"""


@pytest.fixture
def ingest(tmp_path: Path, database: str) -> CommandLine:
    return command_line(tmp_path, database)


def shape(tree: Any) -> Any:  # noqa: ANN401 (JSON)
    """Give the keys of a report; of a list those of its first entry."""
    match tree:
        case dict():
            return {key: shape(each) for key, each in tree.items()}
        case [dict() as first, *_]:
            return [shape(first)]
        case _:
            return None


async def test_the_report_has_the_keys_that_are_documented(
    ingest: CommandLine, rows: Rows, greenhouse: Greenhouse, database: str
) -> None:
    await rows.add(9)
    await rows.connection.execute(
        "insert into iot.sensor_intervals values ($1, $2, 9, '-infinity')", uuid4(), greenhouse.greenhouse_id
    )
    await rows.connection.execute("insert into iot.ingest_sessions (client_id) values ('x')")
    await rows.connection.execute(
        """
        insert into metadata.actuators (tenant_id, greenhouse_id, actuator_code, actuator_type)
        values ($1, $2, 'X', 'X')
        """,
        greenhouse.tenant_id,
        greenhouse.greenhouse_id,
    )
    await rows.connection.execute("select metadata.note_unmapped_names()")
    await rows.connection.execute(
        """
        insert into iot.sensor_readings (time, greenhouse_id, sensor_type, value)
        values (now(), $1, 'x', 1)
        """,
        greenhouse.greenhouse_id,
    )
    await History(greenhouse, database).store({"a": 1}, ("a", "bad_value"))
    ingest.environment["INGEST_COMPRESS_AFTER__SENSOR_READINGS"] = "4 days"
    done = await asyncio.to_thread(ingest, "status", "--json")
    assert done.returncode == 1
    found = report(done)
    documented = re.search(r"```json\n(.*?)```", (ROOT / "docs" / "status.md").read_text(), re.DOTALL)
    assert documented is not None
    assert shape(found) == shape(json.loads(documented[1]))
    assert (found["ok"], found["faults"]) == (False, [])


async def test_a_reader_is_enough(rows: Rows, database: str) -> None:
    await rows.add(5, 0)
    mine, readers = [
        await look(settings_of(dsn), datetime.now(UTC), count_all=True)
        for dsn in (database, as_role(database, "greenhouse_reader"))
    ]
    assert readers.faults == []
    for part in (
        "hypertables",
        "jobs",
        "readings",
        "dead_letters",
        "coverage",
        "quality",
        "sessions",
        "silent",
    ):
        assert getattr(readers, part) == getattr(mine, part), part


async def test_an_operator_reviews_and_does_not_touch_chunks(rows: Rows, database: str) -> None:
    await rows.add(5)
    operator = settings_of(as_role(database, "greenhouse_operator"))
    done = await maintain(operator, "daily", ["audit", "quality", "names", "compress"])
    faults = {step.name: step.faults for step in done.steps if step.faults}
    assert faults.keys() == {"compress"}
    assert "it takes the login ingest_migrator" in faults["compress"][0]
    assert await rows.compressed() == (0, 1)
    assert await rows.log() == [("FAILED", 0)]
    reader = settings_of(as_role(database, "greenhouse_reader"))
    with pytest.raises(Misconfigured, match="takes the login ingest_migrator"):
        await maintain(reader, "daily")
    (letters,) = (await survey(reader, "weekly", ["dead-letters"])).steps
    assert letters.faults[0].count("takes the login") == 1
    assert "takes the login ingest_operator" in letters.faults[0]


async def test_one_database_down_and_the_other_is_shown(ingest: CommandLine, database: str) -> None:
    away = f"postgresql://nobody@127.0.0.1:{free_port()}/x"
    half = await look(settings_of(away, metadata_dsn=database), datetime.now(UTC))
    assert [each.database for each in half.faults] == ["timeseries"]
    assert half.coverage is not None
    assert half.hypertables is None
    ingest.environment["INGEST_METADATA_DSN"] = away
    done = await asyncio.to_thread(ingest, "status")
    assert done.returncode == 1
    assert "NOT LOOKED AT: the metadata database is not reached at 127.0.0.1:" in done.stdout
    assert "sensor_readings_hourly" in done.stdout
    assert "what was seen is well" in done.stdout


async def test_a_sensor_is_silent_after_three_of_its_own_intervals(rows: Rows, database: str) -> None:
    """And never sooner than a quarter of an hour; with an interval of days it is not judged."""
    house = rows.greenhouse
    heard = {(5, 14): False, (5, 16): True, (600, 29): False, (600, 31): True, (200_000, 10_050): True}
    ids = {key: uuid4() for key in (*heard, (400_000, 40))}
    await rows.connection.executemany(
        "insert into iot.sensor_intervals values ($1, $2, $3, '-infinity')",
        [(ids[key], house.greenhouse_id, key[0]) for key in ids],
    )
    await rows.connection.execute(
        "insert into iot.sensor_intervals values ($1, $2, 5)", new := uuid4(), house.greenhouse_id
    )
    await rows.connection.executemany(
        """
        insert into iot.sensor_readings
            (time, greenhouse_id, tenant_id, sensor_id, sensor_type_id, unit_id, value)
        values (now() - $1 * interval '1 minute', $2, $3, $4, 2, 3, 60)
        """,
        [(key[1], house.greenhouse_id, house.tenant_id, ids[key]) for key in ids],
    )
    found = await look(settings_of(database), datetime.now(UTC))
    assert found.silent is not None
    assert found.sensors_watched == len(ids) + 1
    silent = {each.sensor_id for each in found.silent}
    assert {key: ids[key] in silent for key in heard} == heard
    assert new not in silent


async def test_watching_refreshes_in_place_and_ends_at_ctrl_c(ingest: CommandLine) -> None:
    refused = await asyncio.to_thread(ingest, "status", "--watch", "--json")
    assert refused.returncode == 2
    assert "--json is one object" in refused.stderr

    watching = ingest.on_a_terminal("status", "--watch", "--every", "1")
    a_look = b"\x1b[H\x1b[2J"
    await asyncio.to_thread(watching.until, lambda shown: shown.count(a_look) == 2)  # the second begins
    watching.process.send_signal(signal.SIGINT)
    assert await asyncio.to_thread(watching.ended) == 0
    assert b"nothing is beyond its threshold" in watching.shown


async def test_poor_compression_is_named_and_compressed_anew(rows: Rows, database: str) -> None:
    """A day compressed by settings of another time, one segment for each reading."""
    table = rows.connection
    settings = settings_of(database, status={"compression_from_mb": 0.1})
    poor = (
        "alter table iot.sensor_readings set (timescaledb.segmentby = 'value', timescaledb.orderby = 'time')"
    )
    await table.execute(poor)
    await rows.add(6, count=4_000)
    await table.execute("select compress_chunk(c) from show_chunks('iot.sensor_readings') as c")
    await table.execute(SHIPPED)
    named = await breaches(settings)
    assert named["ratio"].command == "ingest maintain weekly --only recompress --yes"
    done = await maintain(settings, "weekly", ["recompress"])
    assert (done.faults, done.tasks, done.steps[0].done) == ([], 1, 1)
    assert "ratio" not in await breaches(settings)
    assert await rows.compressed() == (1, 1)
    await rows.add(6)
    (step,) = (await survey(settings, "weekly", ["recompress"])).steps
    assert ["rows came after it was compressed" in each for each in step.tasks] == [True]
    await maintain(settings, "weekly", ["recompress"])
    assert (await survey(settings, "weekly", ["recompress"])).tasks == 0
    assert await table.fetchval("select count(*) from iot.sensor_readings") == 4_010


async def test_retention_drops_only_what_settings_and_database_agree_on(rows: Rows, database: str) -> None:
    await rows.add(70, 1)
    kept = settings_of(database, retain_for={"sensor_readings": "2 months"}, decode={"max_age_s": 86_400})
    await rows.connection.execute("select add_retention_policy('iot.sensor_readings', interval '2 months')")
    assert (await breaches(kept))["retention"].command == "ingest maintain monthly --only retention --yes"
    (told,) = (await survey(settings_of(database), "monthly", ["retention"])).steps
    assert told.tasks == []
    assert "retain_for is off, and the database drops" in told.findings[0]
    done = await maintain(kept, "monthly", ["retention"])
    assert (done.faults, done.steps[0].done) == ([], 1)
    assert (await rows.compressed())[1] == 1
    assert "retention" not in await breaches(kept)


async def test_a_disk_that_is_nearly_full_is_named(rows: Rows, greenhouse: Greenhouse, database: str) -> None:
    await rows.add(4)
    await maintain(settings_of(database), "daily", ["compress"])
    await rows.connection.execute(
        """
        insert into iot.ingest_written_hours (hour, greenhouse_id, tenant_id, client_id, rows)
        values (date_trunc('hour', now()) - interval '1 day', $1, $2, 'w', 1000000)
        """,
        greenhouse.greenhouse_id,
        greenhouse.tenant_id,
    )
    found = await look(settings_of(database, status={"capacity_gb": 20}), datetime.now(UTC))
    assert found.forecast is not None
    assert found.rows_a_day == pytest.approx(1_000_000, rel=0.05)
    assert found.forecast.bytes_a_row is not None
    assert found.forecast.days_left is not None
    expected = (20e9 - found.forecast.used_bytes) / (found.forecast.bytes_a_day or 1)
    assert found.forecast.days_left == pytest.approx(expected)
    assert "disk" in await breaches(settings_of(database, status={"capacity_gb": 0.001}))


async def test_without_yes_nothing_is_done(ingest: CommandLine, rows: Rows) -> None:
    await rows.add(8)
    before = await rows.log(1_000)
    for arguments, code, said in (
        (("daily",), 2, "nothing was done: add --yes"),
        (("daily", "--only", "indexes"), 2, "maintain daily has these steps: audit, quality"),
    ):
        done = await asyncio.to_thread(ingest, "maintain", *arguments)
        assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    looked = await asyncio.to_thread(ingest, "maintain", "daily", "--dry-run", "--only", "compress", "--json")
    found = report(looked)
    assert looked.returncode == 0
    assert (found["dry_run"], found["steps"][0]["left"], found["steps"][0]["done"]) == (True, 1, 0)
    assert (await rows.compressed())[0] == 0
    assert await rows.log(1_000) == before


@pytest.mark.parametrize(("answer", "code", "compressed"), [(b"n\n", 2, 0), (b"y\n", 0, 1)])
async def test_on_a_terminal_it_asks(
    answer: bytes, code: int, compressed: int, ingest: CommandLine, rows: Rows
) -> None:
    await rows.add(8)
    done = await asyncio.to_thread(ingest.answered, answer, "maintain", "daily", "--only", "compress")
    assert (done.returncode, b"1 to do" in done.stdout) == (code, True)
    assert (await rows.compressed())[0] == compressed


async def test_never_two_at_once(rows: Rows, database: str) -> None:
    await rows.connection.fetchval("select pg_try_advisory_lock($1)", LOCK_KEY)
    with pytest.raises(CheckFailed, match="another `ingest maintain` is at work"):
        await maintain(settings_of(database), "daily")


async def test_what_tasks_have_to_wait_for_they_wait_for_together(
    rows: Rows, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three tasks, the second of which fails: the others are begun before the first is waited for."""
    order: list[str] = []

    async def find(_: Ground) -> Look:
        return Look([], [Task("a"), Task("b"), Task("c")])

    async def do(_: Ground, task: Task) -> None:
        order.append(f"do {task.what}")
        if task.what == "b":
            raise CheckFailed("it is broken")

    async def settle(_: Ground, task: Task, since_s: float) -> str:
        assert asyncio.get_running_loop().time() - since_s < 60
        order.append(f"settle {task.what}")
        return f"{task.what} is well"

    monkeypatch.setitem(STEPS, "daily", (Step("jobs", "jobs", find, do, settle=settle),))
    done = await maintain(settings_of(database), "daily")
    assert order == ["do a", "do b", "do c", "settle a", "settle c"]
    (step,) = done.steps
    assert (step.done, step.told, step.faults) == (2, ["a is well", "c is well"], ["b: it is broken"])
    assert await rows.log() == [("PARTIAL", 2)]


async def stopped_after(settings: Settings, tasks: int) -> MaintenanceReport:
    stop = asyncio.Event()

    def on_progress(step: Progress) -> None:
        if step.done == tasks:
            stop.set()

    return await maintain(settings, "daily", ["compress"], stop=stop, on_progress=on_progress)


async def test_what_was_stopped_is_taken_up_again_and_twice_is_once(rows: Rows, database: str) -> None:
    await rows.add(*range(5, 11))
    settings = settings_of(database)
    first = await stopped_after(settings, 2)
    assert (first.interrupted, first.steps[0].done, first.steps[0].left) == (True, 3, 3)
    assert await rows.compressed() == (3, 6)
    second = await maintain(settings, "daily", ["compress"])
    assert (second.interrupted, second.steps[0].done) == (False, 3)
    third = await maintain(settings, "daily", ["compress"])
    assert third.tasks == 0
    assert await rows.log(3) == [("COMPLETED", 0), ("COMPLETED", 3), ("CANCELLED", 3)]
    assert await rows.connection.fetchval("select count(*) from iot.sensor_readings") == 60


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_signal_in_the_middle_harms_nothing(
    ingest: CommandLine, rows: Rows, database: str, number: signal.Signals
) -> None:
    await rows.add(*range(5, 25))
    process = ingest.start("maintain", "daily", "--only", "compress", "--yes", stdout=subprocess.PIPE)
    while (await rows.compressed())[0] < 2:
        assert process.poll() is None
    process.send_signal(number)
    await asyncio.to_thread(process.communicate)
    killed = number is signal.SIGKILL
    assert process.returncode == (-signal.SIGKILL if killed else 130)
    assert (await rows.log())[0][0] == ("RUNNING" if killed else "CANCELLED")
    done = await maintain(settings_of(database), "daily", ["compress"])
    assert done.faults == []
    assert await rows.compressed() == (20, 20)
    assert [status for status, _ in await rows.log(2)] == ["COMPLETED", "CANCELLED"]
    assert await rows.connection.fetchval("select count(*) from iot.sensor_readings") == 200


async def test_it_reviews_and_purges(rows: Rows, greenhouse: Greenhouse, database: str) -> None:
    letters = History(greenhouse, database)
    await letters.store({"a": 1}, ("a", "bad_value"), age_us=100 * DAY_US)
    await letters.store({"a": 1}, ("a", "bad_value"))
    await rows.connection.execute(
        "update metadata.tenants set is_active = false where id = $1", greenhouse.tenant_id
    )
    daily = await survey(settings_of(database), "daily", ["audit", "quality"])
    assert any("tenants: 1 UPDATE of is_active by postgres" in each for each in daily.steps[0].findings)
    assert daily.tasks == 0
    done = await maintain(settings_of(database), "weekly", ["dead-letters"])
    assert done.steps[0].told == ["1 deleted"]
    assert len(await letters.letters()) == 1
    off = settings_of(database, maintain={"purge_dead_letters_after": "off"})
    assert (await survey(off, "weekly", ["dead-letters"])).tasks == 0
