"""docs/troubleshooting.md, section by section: the state, what shows it, what mends it, as it is written
there.

Each test puts one database into the state its section is about, runs the section's own commands in a shell,
and finds everything well again afterwards. States that only a native server's scheduler gets into are in
tests/native.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from tests.acceptance.dead_letter_history import History, command_line
from tests.acceptance.troubleshooting_guide import SECTIONS, Shell, tried_by
from tests.gateways import publish
from tests.native import test_troubleshooting_native
from tests.servers import shipped_broker
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.acceptance.conftest import Greenhouse, WorkerMaker
    from tests.acceptance.maintained_rows import Rows
    from tests.servers import Mosquitto

SILENT = "A sensor is silent"


@pytest.fixture
def shell(tmp_path: Path, database: str, request: pytest.FixtureRequest) -> Iterator[Shell]:
    made = Shell(command_line(tmp_path, database))
    yield made
    made.has_gone_through(request.node)


def test_every_section_is_tried() -> None:
    assert tried_by(sys.modules[__name__]) | tried_by(test_troubleshooting_native) == SECTIONS.keys()
    assert len(SECTIONS) >= 10
    assert [title for title, section in SECTIONS.items() if not section.shows] == []


async def test_a_fresh_database_is_well(shell: Shell) -> None:
    assert await shell.breaches() == {}


@pytest.mark.section("An aggregate is not refreshed")
async def test_an_aggregate_is_not_refreshed(shell: Shell, rows: Rows) -> None:
    await rows.add(2)
    await shell.tries("An aggregate is not refreshed")


@pytest.mark.section("Compression does not run")
async def test_compression_does_not_run(shell: Shell, rows: Rows) -> None:
    await rows.add(6)
    await rows.aggregate()
    await rows.connection.execute("call remove_columnstore_policy('iot.sensor_readings')")
    await shell.tries("Compression does not run")


@pytest.mark.section("Queries are slow")
async def test_queries_are_slow(shell: Shell, rows: Rows) -> None:
    await rows.add(5 / 1_440)
    await shell.tries("Queries are slow")
    _, said = await shell(SECTIONS["Queries are slow"].shows[0])
    assert "_chunk" not in said


@pytest.mark.section("Names of sensors, actuators or alerts have no id")
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


@pytest.mark.section("Readings are not normalised")
async def test_readings_are_not_normalised(shell: Shell, rows: Rows) -> None:
    await rows.add_legacy(datetime.now(UTC) - timedelta(hours=30), "temperature ", value=20)
    await shell.tries("Readings are not normalised")


@pytest.mark.section("Duplicates are suspected")
async def test_duplicates_are_suspected(shell: Shell, rows: Rows) -> None:
    await rows.add_legacy(datetime.now(UTC) - timedelta(minutes=7), "TEMPERATURE", "temperatura")
    await shell.tries("Duplicates are suspected")
    _, said = await shell("ingest normalize --dry-run")
    assert "merged" not in said


@pytest.mark.section("Dead letters grow")
async def test_dead_letters_grow(shell: Shell, rows: Rows, greenhouse: Greenhouse, database: str) -> None:
    topic = f"greenhouse/{greenhouse.greenhouse_id}/sensors/temperature"
    letters = History(greenhouse, database)
    await letters.store({"value": 20, "unit": "grados"}, ("", "unknown_unit"), topic=topic, times=101)
    await shell.tries("Dead letters grow")
    assert await rows.greenhouse.count() == 101


@pytest.mark.section(SILENT)
async def test_a_sensor_is_silent(
    shell: Shell, rows: Rows, database: str, broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    """Of two, one is heard again; the other is gone for good, and no longer waited for."""
    house = rows.greenhouse
    again, gone = uuid4(), uuid4()
    await rows.connection.executemany(
        """
        insert into metadata.sensors
            (id, greenhouse_id, tenant_id, sensor_code, sensor_type, unit, expected_interval_s)
        values ($1, $2, $3, $4, 'TEMPERATURE', '°C', 10)
        """,
        [
            (sensor_id, house.greenhouse_id, house.tenant_id, code)
            for sensor_id, code in ((again, "DHT22-02"), (gone, "DHT22-01"))
        ],
    )
    await rows.connection.executemany(
        "insert into iot.sensor_intervals values ($1, $2, 10, '-infinity')",
        [(sensor_id, house.greenhouse_id) for sensor_id in (again, gone)],
    )
    (_, said), (code, reconciled) = await shell.shows(SILENT)
    assert (code, "DHT22-01" in said, "DHT22-02" in said) == (0, True, True), said + reconciled
    await rows.connection.execute(
        """
        insert into iot.sensor_readings
            (time, greenhouse_id, tenant_id, sensor_id, sensor_type_id, unit_id, value)
        values (now(), $1, $2, $3, 1, 1, 20)
        """,
        house.greenhouse_id,
        house.tenant_id,
        again,
    )
    code, said = await shell("ingest status")
    assert (code, "DHT22-01" in said, "DHT22-02" in said) == (1, True, False), said
    (retire,) = SECTIONS[SILENT].mends
    code, said = await shell(retire)
    assert (code, said) == (0, "UPDATE 1\n")
    worker = worker_of(house, database, broker.url)

    async def is_well() -> bool:
        return await shell.breaches() == {}

    await worker.until(is_well, "the worker has mirrored that it is not waited for")
    await worker.stop()


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


@pytest.mark.section("The worker is behind", "The broker's queue grows")
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
    assert await shell.breaches() == {}
    before = await queued(shell_with_broker(shell, broker, worker.client_id, greenhouse.filters))
    await publish(broker.port, greenhouse.messages(range(10, 510)))
    await rows.connection.execute("update iot.ingest_sessions set committed_at = now() - interval '1 hour'")

    async def grown() -> bool:
        return await queued(shell) >= before + 450

    await until(grown, "the queue grows")
    _, (code, said) = await shell.shows("The worker is behind")
    assert code == 0, said
    with shell.running(behind.mends[0]):
        await until(lambda: greenhouse.holds(510), "what has waited is stored")
        assert await shell.breaches() == {}

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
