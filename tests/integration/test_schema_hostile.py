"""Every migration file in every hostile state: cut off, killed, edited, run twice at once, obstructed.

Over all files of both schemas, as the folders list them: those of schema iot on TimescaleDB and, without what
is TimescaleDB's, on plain PostgreSQL. A file that is added is tried by itself.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from ingest.errors import MigrationError, Unavailable
from ingest.migrate import Database, migrate, schema_folder, verify
from ingest.migration_files import load_migrations
from tests.integration.hostile_ground import CUT, Ground, half_way, made_by
from tests.proxy import Proxy
from tests.statements import execute

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.servers import PostgresCluster

GROUNDS = {
    "metadata": Database.METADATA,
    "plain": Database.TIMESERIES,
    "timescale": Database.TIMESERIES,
}
FILES = [
    pytest.param(ground, file.version, id=f"{ground}-V{file.version}")
    for ground, database in GROUNDS.items()
    for file in load_migrations(schema_folder(database))
]
every_file = pytest.mark.parametrize(("ground", "version"), FILES, indirect=["ground"])
several_sessions = pytest.mark.parametrize(
    ("ground", "version"),
    [
        pytest.param(ground, file.version, id=f"{ground}-V{file.version}", marks=marks)
        for ground, database in GROUNDS.items()
        for file in load_migrations(schema_folder(database))
        if ground != "plain" or not file.transactional
        for marks in ([pytest.mark.native] if ground == "timescale" else [],)
    ],
    indirect=["ground"],
)
"""As every_file; on TimescaleDB where the embedded one, which has but one session, will not do, and on plain
PostgreSQL what schema metadata does not show: files without a transaction."""
RUNNER = """
import asyncio, pathlib, sys
from ingest.migrate import Database, migrate
dsn, database, folder = sys.argv[1:]
asyncio.run(migrate(dsn, Database(database), folder=pathlib.Path(folder)))
"""
PUT_ASIDE = {"iot.sensor_readings_hourly"}
"""What V12 renames, on TimescaleDB, since a live database has an aggregate of that name."""
APPLICATION_SETTINGS = (
    "statement_timeout = '1ms'",
    "idle_in_transaction_session_timeout = '1ms'",
    "lock_timeout = '1ms'",
    "search_path = ''",
    "default_transaction_isolation = 'serializable'",
    "datestyle = 'German'",
)
GATE = 20_340_817
"""Key of the advisory lock that a runner waits for in the middle of a file, until it is killed."""


@pytest.fixture(scope="module")
def grounds(
    request: pytest.FixtureRequest,
    postgres_cluster: PostgresCluster,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], Ground]:
    made: dict[str, Ground] = {}

    def ground(name: str) -> Ground:
        if name not in made:
            plain = name != "timescale"
            dsn = (
                postgres_cluster.create_database()
                if plain
                else request.getfixturevalue("module_timescale_dsn")
            )
            made[name] = Ground(dsn, GROUNDS[name], tmp_path_factory.mktemp(name), plain=plain)
        return made[name]

    return ground


@pytest.fixture
def ground(request: pytest.FixtureRequest, grounds: Callable[[str], Ground]) -> Ground:
    return grounds(request.param)


async def run(ground: Ground, folder: Path) -> list[str]:
    return [file.version for file in await migrate(ground.dsn, ground.database, folder=folder)]


@every_file
async def test_cut_off_anywhere_it_is_done_again(ground: Ground, version: str) -> None:
    straight = await ground.straight(version)
    await ground.stand_before(version)
    before = await ground.described()
    file = ground.file(version)
    async with Proxy(urlsplit(ground.dsn).port or 0) as proxy:
        for text in half_way(file):
            proxy.set_trap(CUT.encode(), "cut", forward=False)
            with pytest.raises(Unavailable, match=rf"{file.path.name}, line \d+ .*run again"):
                await migrate(
                    proxy.url(ground.dsn), ground.database, folder=ground.folder_through(version, text)
                )
            assert proxy.sprung.is_set()
        assert version not in await ground.applied()
        folder = ground.folder_through(version)
        if file.transactional:
            assert await ground.described() == before
            # Its COMMIT arrives, and the answer does not.
            proxy.set_trap(b"COMMIT;", "cut", forward=True)
            with pytest.raises(Unavailable, match="run again"):
                await migrate(proxy.url(ground.dsn), ground.database, folder=folder)
            assert proxy.sprung.is_set()
            assert await run(ground, folder) == []
        else:
            assert await run(ground, folder) == [version]
    assert await ground.described() == straight


@several_sessions
async def test_a_runner_that_is_killed_half_way_is_followed_by_another(ground: Ground, version: str) -> None:
    straight = await ground.straight(version)
    await ground.stand_before(version)
    texts = half_way(ground.file(version), f"set lock_timeout = 0; select pg_advisory_lock({GATE})")
    folder = ground.folder_through(version, texts[len(texts) // 2])
    beside = await asyncpg.connect(ground.dsn)
    try:
        await beside.execute(f"select pg_advisory_lock({GATE})")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", RUNNER, ground.dsn, ground.database, str(folder),
            env={"PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        waiting = f"select count(*) > 0 from pg_locks where objid = {GATE} and not granted"
        async with asyncio.timeout(30):
            while not await beside.fetchval(waiting):
                assert process.returncode is None
                await asyncio.sleep(0.01)
        process.kill()
        await process.wait()
        # The server knows of no kill before it has an answer to give: until then the next runner waits.
        following = asyncio.create_task(run(ground, ground.folder_through(version)))
        await asyncio.sleep(0.05)
        assert not following.done()
    finally:
        await beside.close()
    assert await following == [version]
    assert await ground.described() == straight


@every_file
async def test_two_at_once_both_succeed(ground: Ground, version: str) -> None:
    straight = await ground.straight(version)
    await ground.stand_before(version)
    folder = ground.folder_through(version)
    runs = await asyncio.gather(run(ground, folder), run(ground, folder))
    assert sorted(runs) == [[], [version]]
    assert await ground.described() == straight


async def test_two_runners_at_once_both_succeed(postgres_dsn: str) -> None:
    arguments = (
        sys.executable,
        "-c",
        RUNNER,
        postgres_dsn,
        "metadata",
        str(schema_folder(Database.METADATA)),
    )
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    runners = [await asyncio.create_subprocess_exec(*arguments, env=environment) for _ in range(2)]
    assert [await runner.wait() for runner in runners] == [0, 0]
    assert await verify(postgres_dsn, Database.METADATA) == []


@every_file
async def test_edited_after_it_was_applied_it_is_refused_by_name(ground: Ground, version: str) -> None:
    await ground.complete()
    file = ground.file(version)
    last = load_migrations(ground.folder)[-1].version
    folder = ground.folder_through(last)
    edited = folder / file.path.name
    edited.write_text(edited.read_text(encoding="utf-8") + "-- a comment\n")
    (folder / "V999__next.sql").write_text(f"create table {ground.database.schema}.next (id integer);\n")
    with pytest.raises(MigrationError, match=f"^{file.path.name} was edited after it was applied"):
        await migrate(ground.dsn, ground.database, folder=folder)
    assert await ground.fetchval(f"select to_regclass('{ground.database.schema}.next') is null")


@every_file
async def test_what_is_in_the_way_is_named_and_left_alone(ground: Ground, version: str) -> None:
    await ground.stand_before(version)
    before = await ground.described()
    file = ground.file(version)
    folder = ground.folder_through(version)
    await ground.execute(f"create schema if not exists {ground.database.schema}")
    for name in made_by(file):
        if name in PUT_ASIDE and not ground.plain:
            continue
        table = name.partition(".")[2]
        await ground.execute(f"create table {name} (mine text)", f"comment on table {name} is 'mine'")
        theirs = [f"column {name}.mine text", f"comment {table} 0 mine"]
        try:
            with pytest.raises(MigrationError, match=table) as refusal:
                await migrate(ground.dsn, ground.database, folder=folder)
            found = await ground.described()
        finally:
            await ground.execute(f"drop table {name}")
        told = rf"{file.path.name}, line \d+ .*((?i:rename or drop it)|is not a continuous aggregate)"
        assert re.match(told, str(refusal.value))
        assert found == sorted([*before, *theirs])


@pytest.mark.parametrize(("ground", "version"), [("plain", "14"), ("timescale", "14")], indirect=["ground"])
@pytest.mark.parametrize("index", [
    "create index sensor_readings_key on iot.{} (greenhouse_id, sensor_type_id, time desc, sensor_id)",
    "create unique index sensor_readings_key on iot.{} (greenhouse_id, sensor_type_id, time, sensor_id)",
    "create unique index sensor_readings_key on iot.units (id)",
])  # fmt: skip
async def test_an_index_under_the_name_of_the_key_is_refused(
    ground: Ground, version: str, index: str
) -> None:
    await ground.stand_before(version)
    before = await ground.described()
    await ground.execute(index.format("sensor_readings"))
    try:
        with pytest.raises(MigrationError, match="sensor_readings_key is in the way"):
            await run(ground, ground.folder_through(version))
    finally:
        await ground.execute("drop index iot.sensor_readings_key")
    assert await ground.described() == before


@pytest.mark.parametrize("ground", ["metadata", "plain"], indirect=True)
async def test_what_an_installation_sets_for_its_applications_is_no_hindrance(ground: Ground) -> None:
    await ground.clear()
    name = urlsplit(ground.dsn).path[1:]
    await ground.execute(*(f"alter database {name} set {setting}" for setting in APPLICATION_SETTINGS))
    try:
        await migrate(ground.dsn, ground.database, folder=ground.folder)
    finally:
        await execute(urlunsplit(urlsplit(ground.dsn)._replace(path="/postgres")),
                      f"alter database {name} reset all")  # fmt: skip
    last = load_migrations(ground.folder)[-1].version
    assert await ground.described() == await ground.straight(last)


async def test_a_file_may_take_longer_than_applications_may(postgres_dsn: str, tmp_path: Path) -> None:
    (tmp_path / "V1__slow.sql").write_text("select pg_sleep(1.5);\n")
    connection = await asyncpg.connect(postgres_dsn)
    bounds = "select name from pg_settings where name in ('statement_timeout', 'transaction_timeout')"
    for row in await connection.fetch(bounds):
        await connection.execute(f"alter database {urlsplit(postgres_dsn).path[1:]} set {row[0]} = '1s'")
    await connection.close()
    assert len(await migrate(postgres_dsn, Database.METADATA, folder=tmp_path)) == 1


@pytest.mark.parametrize("ground", GROUNDS, indirect=True)
async def test_in_the_end_the_schema_is_the_snapshot(ground: Ground) -> None:
    straight = await ground.straight(load_migrations(ground.folder)[-1].version)
    await ground.complete()
    assert await ground.described() == straight
    if not ground.plain or ground.database is Database.METADATA:
        assert await verify(ground.dsn, ground.database) == []
