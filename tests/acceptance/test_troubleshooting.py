"""docs/troubleshooting.md, section by section: the state, what shows it, what mends it, as it is written
there.

Each test puts one database into the state its section is about, runs the section's own commands in a shell,
and finds everything well again afterwards. States that only a native server's scheduler gets into are in
tests/native.
"""

from __future__ import annotations

import asyncio
import os
import re
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

import pytest
from pydantic import SecretStr

from ingest.operate.status import look
from ingest.operate.status_judge import judge
from ingest.settings import Settings
from tests.acceptance.dead_letter_history import History, command_line
from tests.acceptance.workers import until
from tests.gateways import publish
from tests.integration.timeseries_rows import CELSIUS, TEMPERATURE
from tests.servers import shipped_broker

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import asyncpg

    from tests.acceptance.command_line import CommandLine
    from tests.acceptance.conftest import Greenhouse, WorkerMaker
    from tests.servers import Mosquitto

GUIDE = Path(__file__).parents[2] / "docs" / "troubleshooting.md"
NATIVE = {"A background job fails", "An index is not usable"}
"""Tried by tests/native/test_status_native.py."""
AGGREGATES = """
    select format('%I.%I', view_schema, view_name)
    from timescaledb_information.continuous_aggregates
    where view_schema = 'iot'
"""


class Section(NamedTuple):
    """What one section says, as it says it."""

    says: str
    shows: list[str]
    mends: list[str]


def sections() -> dict[str, Section]:
    """Cut the guide into its sections; commands are what is indented."""
    found = {}
    for text in GUIDE.read_text(encoding="utf-8").split("\n## ")[1:]:
        title, _, body = text.partition("\n")
        before, _, after = body.partition("\nMend")
        says = re.search(r"^Shows it, as `([^`]+)`", before, re.MULTILINE)
        found[title] = Section(says[1] if says else "", commands(before), commands(after))
    return found


def commands(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.startswith("    ")]


SECTIONS = sections()


class Shell:
    """A shell with `ingest` on its PATH, both DSNs in its environment, and nothing else of ours."""

    def __init__(self, ingest: CommandLine) -> None:
        self.ingest = ingest
        program = ingest.directory / "ingest"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m ingest "$@"\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        ingest.environment["PATH"] = f"{ingest.directory}:{os.environ['PATH']}"

    async def __call__(self, line: str) -> tuple[int, str]:
        """Run one command; give its exit code and both its streams."""
        done = await asyncio.to_thread(
            subprocess.run,
            ["sh", "-c", line],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.ingest.directory,
            env=self.ingest.environment,
            timeout=90,
            check=False,
        )
        said = done.stdout.decode()
        assert "Traceback" not in said, said
        return done.returncode, said

    async def breaches(self) -> list[str]:
        """Look as `ingest status` does, without a process."""
        dsn = SecretStr(self.ingest.environment["INGEST_TIMESERIES_DSN"])
        settings = Settings(metadata_dsn=dsn, timeseries_dsn=dsn)
        found = await look(settings, datetime.now(UTC))
        assert found.faults == []
        return [f"{each.check}: {each.what}" for each in judge(found, settings.status)]

    async def tries(self, title: str) -> None:
        """Go through a section: it shows, it mends, and then all is well."""
        section = SECTIONS[title]
        shown = [await self(line) for line in section.shows]
        assert any(section.says in said for _, said in shown), shown
        if section.shows[0] == "ingest status":
            assert shown[0][0] == 1
        for line in section.mends:
            code, said = await self(line)
            assert code == 0, f"{line}: {said}"
        assert await self.breaches() == []


@pytest.fixture
def shell(tmp_path: Path, database: str) -> Shell:
    return Shell(command_line(tmp_path, database))


@pytest.fixture
async def rows(connection: asyncpg.Connection, greenhouse: Greenhouse) -> Rows:
    return Rows(connection, greenhouse)


class Rows:
    """Puts readings of the greenhouse into the table."""

    def __init__(self, connection: asyncpg.Connection, greenhouse: Greenhouse) -> None:
        self.connection = connection
        self.greenhouse = greenhouse

    async def add(self, age: timedelta, count: int = 5) -> None:
        """Add readings with ids, a second apart, that no aggregate has yet."""
        await self.connection.execute(
            """
            insert into iot.sensor_readings
                (time, greenhouse_id, tenant_id, sensor_id, sensor_type_id, unit_id, value)
            select $1::timestamptz + n * interval '1 second', $2, $3, $4, $5, $6, 20 + n
            from generate_series(1, $7::integer) as n
            """,
            datetime.now(UTC) - age,
            self.greenhouse.greenhouse_id,
            self.greenhouse.tenant_id,
            uuid4(),
            TEMPERATURE,
            CELSIUS,
            count,
        )

    async def add_legacy(self, time: datetime, *spellings: str, value: float = 21.5) -> None:
        """Add a reading with names in place of ids, once in each spelling."""
        await self.connection.executemany(
            """
            insert into iot.sensor_readings (time, greenhouse_id, sensor_id, sensor_type, unit, value)
            values ($1, $2, $3, $4, '°C', $5)
            """,
            [
                (time, self.greenhouse.greenhouse_id, self.greenhouse.tenant_id, spelling, value)
                for spelling in spellings
            ],
        )

    async def aggregate(self) -> None:
        """Bring every aggregate up to date, so that nothing but the state under test is beyond its
        threshold."""
        for name in [each[0] for each in await self.connection.fetch(AGGREGATES)]:
            await self.connection.execute(
                f"call refresh_continuous_aggregate('{name}', null, now() - interval '1 minute')"
            )


def test_every_section_is_tried() -> None:
    here = Path(__file__).read_text(encoding="utf-8")
    tried = {title for title in SECTIONS if f'"{title}"' in here}
    assert tried == SECTIONS.keys()
    assert len(SECTIONS) >= 10
    assert [title for title, section in SECTIONS.items() if not section.shows] == []


async def test_a_fresh_database_is_well(shell: Shell, rows: Rows) -> None:
    _ = rows
    assert await shell.breaches() == []


async def test_an_aggregate_is_not_refreshed(shell: Shell, rows: Rows) -> None:
    await rows.add(timedelta(days=2))
    await shell.tries("An aggregate is not refreshed")


async def test_compression_does_not_run(shell: Shell, rows: Rows) -> None:
    await rows.add(timedelta(days=6))
    await rows.aggregate()
    await rows.connection.execute("call remove_columnstore_policy('iot.sensor_readings')")
    await shell.tries("Compression does not run")


async def test_queries_are_slow(shell: Shell, rows: Rows) -> None:
    await rows.add(timedelta(minutes=5))
    await shell.tries("Queries are slow")
    _, said = await shell(SECTIONS["Queries are slow"].shows[0])
    assert "_chunk" not in said


async def test_names_have_no_id(shell: Shell, rows: Rows) -> None:
    await rows.connection.execute(
        """
        insert into metadata.sensors (greenhouse_id, tenant_id, sensor_code, device_id, sensor_type)
        values ($1, $2, 'B1', 'B1', 'Bodenfeuchte')
        """,
        rows.greenhouse.greenhouse_id,
        rows.greenhouse.tenant_id,
    )
    await shell.tries("Names of sensors, actuators or alerts have no id")


async def test_readings_are_not_normalised(shell: Shell, rows: Rows) -> None:
    await rows.add_legacy(datetime.now(UTC) - timedelta(hours=30), "temperature ", value=20)
    await shell.tries("Readings are not normalised")


async def test_duplicates_are_suspected(shell: Shell, rows: Rows) -> None:
    await rows.add_legacy(datetime.now(UTC) - timedelta(minutes=7), "TEMPERATURE", "temperatura")
    await shell.tries("Duplicates are suspected")
    _, said = await shell("ingest normalize --dry-run")
    assert "merged" not in said


async def test_dead_letters_grow(shell: Shell, rows: Rows, greenhouse: Greenhouse, database: str) -> None:
    topic = f"greenhouse/{greenhouse.greenhouse_id}/sensors/temperature"
    letters = History(greenhouse, database)
    await letters.store({"value": 20, "unit": "grados"}, ("", "unknown_unit"), topic=topic, times=101)
    await shell.tries("Dead letters grow")
    assert await rows.greenhouse.count() == 101


async def test_a_sensor_is_silent(shell: Shell, rows: Rows, greenhouse: Greenhouse) -> None:
    sensor_id = uuid4()
    await rows.connection.execute(
        "insert into iot.sensor_intervals values ($1, $2, 10)", sensor_id, greenhouse.greenhouse_id
    )
    section = SECTIONS["A sensor is silent"]
    code, said = await shell(section.shows[0])
    assert (code, section.says in said) == (1, True), said
    assert str(sensor_id) in said
    code, said = await shell(section.shows[1])
    assert code == 0, said
    await rows.connection.execute(
        """
        insert into iot.sensor_readings
            (time, greenhouse_id, tenant_id, sensor_id, sensor_type_id, unit_id, value)
        values (now(), $1, $2, $3, 1, 1, 20)
        """,
        greenhouse.greenhouse_id,
        greenhouse.tenant_id,
        sensor_id,
    )
    assert await shell.breaches() == []
    await rows.connection.execute("delete from iot.sensor_intervals where sensor_id = $1", sensor_id)


async def queued(shell: Shell) -> int:
    """Ask the broker, as the guide says."""
    (line,) = SECTIONS["The broker's queue grows"].shows
    code, said = await shell(line)
    assert code == 0, said
    return int(said)


@pytest.fixture
def telling_broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker that tells everybody once a second how much it keeps."""
    made = shipped_broker(tmp_path, sys_interval=1)
    with (tmp_path / "rights.acl").open("a") as rights:
        rights.write("pattern read $SYS/#\n")
    with made as started:
        yield started


async def test_worker_behind_and_queue_growing(
    shell: Shell,
    rows: Rows,
    database: str,
    telling_broker: Mosquitto,
    worker_of: WorkerMaker,
) -> None:
    broker, greenhouse = telling_broker, rows.greenhouse
    behind, growing = SECTIONS["The worker is behind"], SECTIONS["The broker's queue grows"]
    assert behind.mends == growing.mends == ["ingest run"]
    worker = worker_of(greenhouse, database, broker.url)
    await worker.ready()
    await publish(broker.port, greenhouse.messages(range(10)))
    await worker.until(lambda: greenhouse.holds(10), "the first are stored")
    await worker.stop()
    assert await shell.breaches() == []
    before = await queued(shell_with_broker(shell, broker, worker.client_id, greenhouse.filters))
    await publish(broker.port, greenhouse.messages(range(10, 510)))
    await rows.connection.execute("update iot.ingest_sessions set committed_at = now() - interval '1 hour'")

    async def grown() -> bool:
        return await queued(shell) >= before + 450

    await until(grown, "the queue grows")
    code, said = await shell(behind.shows[0])
    assert (code, behind.says in said) == (1, True), said
    code, said = await shell(behind.shows[1])
    assert code == 0, said
    process = shell.ingest.start(*behind.mends[0].split()[1:])
    try:
        await until(lambda: greenhouse.holds(510), "what has waited is stored")
        assert await shell.breaches() == []
    finally:
        process.terminate()
        process.communicate()

    async def drained() -> bool:
        return await queued(shell) < before + 250

    await until(drained, "the queue is short again")


def shell_with_broker(shell: Shell, broker: Mosquitto, client_id: str, filters: Sequence[str]) -> Shell:
    """Tell the shell of the broker, and of the worker that was there."""
    shell.ingest.environment |= {
        "BROKER_HOST": "127.0.0.1",
        "BROKER_PORT": str(broker.port),
        "INGEST_BROKER_URL": broker.url,
        "INGEST_BROKER__CLIENT_ID": client_id,
        "INGEST_BROKER__FILTERS": ",".join(filters),
        "INGEST_OBSERVE__HTTP_PORT": "0",
    }
    return shell
