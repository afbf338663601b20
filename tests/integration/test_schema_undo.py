"""Migrations taken back: what each undo removes, when it refuses, and what goes with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ingest.errors import MigrationError
from ingest.migrate import Database, baseline, describe, migrate, schema_folder, status
from ingest.undo import losing, plan_undo, try_undo, undo
from tests.statements import execute

if TYPE_CHECKING:
    from pathlib import Path

METADATA, TIMESERIES = Database.METADATA, Database.TIMESERIES
GREENHOUSE = "11111111-1111-4111-8111-111111111111"
COMPRESSED = f"""
    insert into iot.sensor_readings (time, greenhouse_id, value) values ('2025-11-17Z', '{GREENHOUSE}', 1);
    select compress_chunk(c) from show_chunks('iot.sensor_readings') as c
"""
OLD_ROLLUP = f"""
    insert into iot.greenhouse_daily_summary (bucket, greenhouse_id, tenant_id, readings, sensors)
    values ('2020-01-01Z', '{GREENHOUSE}', '{GREENHOUSE}', 1, 1)
"""
REFUSALS = [
    (METADATA, "14", "insert into metadata.tenants (name, mqtt_topic_prefix) values ('a', 'A')", "audit_log"),
    (METADATA, "12_1", "insert into metadata.unit_aliases values ('GR/M3', 10)", "aliases"),
    (
        TIMESERIES,
        "15",
        "insert into iot.ingest_sessions (client_id, pending) values ('a', 'abcdefgh')",
        "session",
    ),
    (TIMESERIES, "14", COMPRESSED, "columnstore chunks"),
    (TIMESERIES, "12", OLD_ROLLUP, "rollups of readings that are gone"),
    (
        TIMESERIES,
        "11_1",
        "insert into iot.sensor_readings (time, greenhouse_id, unit_id) values (now(), gen_random_uuid(), 1)",
        "readings with ids",
    ),
]


async def applied(dsn: str, database: Database, folder: Path | None = None) -> list[str]:
    states = await status(dsn, database, folder=folder)
    return [state.version for state in states if state.applied_at is not None]


@pytest.fixture
def dsn(request: pytest.FixtureRequest, database: Database) -> str:
    """A database with the schema in question; metadata has no need of TimescaleDB."""
    return str(request.getfixturevalue("metadata_dsn" if database is METADATA else "migrated_dsn"))


@pytest.mark.parametrize("database", list(Database))
async def test_undone_and_done_again_is_the_same(dsn: str, database: Database) -> None:
    before = await describe(dsn, database)
    versions = await applied(dsn, database)
    told: list[str] = []
    steps = await undo(dsn, database, "11", on_undone=lambda step, _: told.append(step.version))
    assert [step.version for step in steps] == told == versions[:0:-1]
    assert await applied(dsn, database) == ["11"]
    assert await undo(dsn, database, "11") == []
    assert len(await migrate(dsn, database)) == len(told)
    assert await describe(dsn, database) == before


@pytest.mark.parametrize("database", list(Database))
async def test_every_version_above_the_baseline_has_its_undo_file(database: Database) -> None:
    folder = schema_folder(database)
    up = {path.name[1:] for path in folder.glob("V*.sql")} - {"11__baseline.sql"}
    assert {path.name[1:] for path in folder.glob("U*.sql")} == up


@pytest.mark.parametrize("database", list(Database))
async def test_without_a_version_only_the_newest_is_undone(dsn: str, database: Database) -> None:
    versions = await applied(dsn, database)
    (step,) = await undo(dsn, database, None)
    assert step.version == versions[-1]
    assert await applied(dsn, database) == versions[:-1]


@pytest.mark.parametrize(
    ("database", "version", "change", "reason"), REFUSALS, ids=[f"{each[0]}-{each[1]}" for each in REFUSALS]
)
async def test_what_would_be_lost_is_refused_and_those_above_stay_undone(
    dsn: str, database: Database, version: str, change: str, reason: str
) -> None:
    if version in {"12_1", "11_1"}:  # what is inserted would have a newer version refuse first
        await undo(dsn, database, version)
    await execute(dsn, *change.split(";\n"))
    trials = await try_undo(dsn, database, "11")
    assert trials[-1].step.version == version
    assert [trial.refusal for trial in trials[:-1]] == [None] * (len(trials) - 1)
    with pytest.raises(MigrationError, match=rf"^U{version}__\w+\.sql, line \d+ .*{reason}") as caught:
        await undo(dsn, database, "11")
    assert str(caught.value).count("Hint:") <= 1
    assert (await applied(dsn, database))[-1] == version


async def test_a_trial_leaves_everything_as_it_was(migrated_dsn: str) -> None:
    for database in Database:
        before = (await describe(migrated_dsn, database), await status(migrated_dsn, database))
        trials = await try_undo(migrated_dsn, database, "11")
        assert [trial.refusal for trial in trials] == [None] * (len(before[1]) - 1)
        assert (await describe(migrated_dsn, database), await status(migrated_dsn, database)) == before


async def test_what_goes_is_named_hypertables_apart(migrated_dsn: str) -> None:
    steps = {step.version: step for step in await plan_undo(migrated_dsn, TIMESERIES, "11")}
    assert set(steps["15"].tables) == {
        "iot.ingest_late_buckets",
        "iot.ingest_counters",
        "iot.ingest_dead_letter_overflow",
        "iot.ingest_gateway_hours",
        "iot.ingest_written_hours",
        "iot.ingest_dead_letters",
        "iot.ingest_sessions",
    }
    assert steps["15"].chunked == ()
    assert len(steps["13"].chunked) == len(steps["12"].chunked) == 5
    assert steps["11_1"].chunked == ("iot.sensor_readings",)
    assert steps["17"].tables == ()
    metadata = {step.version: step for step in await plan_undo(migrated_dsn, METADATA, "11")}
    assert len(metadata["14"].tables) == 7
    assert metadata["13"].tables == ("metadata.alerts", "metadata.actuators", "metadata.sensors")


async def test_what_cannot_be_undone_is_said_before_anything_is(postgres_dsn: str, tmp_path: Path) -> None:
    for name, sql in {
        "V1__base": "create table metadata.a (id int);",
        "V2__more": "create table metadata.b (id int);",
        "U2__more": "drop table metadata.b;",
        "V3__again": "create table metadata.c (id int);",
        "U3__again": "drop table metadata.c;",
    }.items():
        (tmp_path / f"{name}.sql").write_text(sql)
    with pytest.raises(MigrationError, match="nothing is migrated"):
        await undo(postgres_dsn, METADATA, None, folder=tmp_path)
    await migrate(postgres_dsn, METADATA, folder=tmp_path)
    with pytest.raises(MigrationError, match=r"version 4 is not applied: name one of 1, 2, 3"):
        await undo(postgres_dsn, METADATA, "4", folder=tmp_path)
    (tmp_path / "V2__more.sql").write_text("create table metadata.other (id int);")
    with pytest.raises(MigrationError, match=r"version 2 \(more\) is not undone: V2__more.sql was edited"):
        await undo(postgres_dsn, METADATA, "1", folder=tmp_path)
    (tmp_path / "V2__more.sql").write_text("create table metadata.b (id int);")
    (tmp_path / "U2__more.sql").unlink()
    with pytest.raises(MigrationError, match=r"version 2 \(more\) has no undo file"):
        await undo(postgres_dsn, METADATA, "1", folder=tmp_path)
    assert await applied(postgres_dsn, METADATA, tmp_path) == ["1", "2", "3"]
    assert [step.version for step in await undo(postgres_dsn, METADATA, "2", folder=tmp_path)] == ["3"]


async def test_what_was_adopted_is_not_undone(postgres_dsn: str, tmp_path: Path) -> None:
    (tmp_path / "V1__base.sql").write_text("create table metadata.a (id int);")
    (tmp_path / "U1__base.sql").write_text("drop table metadata.a;")
    await execute(postgres_dsn, "create schema metadata", "create table metadata.a (id int)")
    await baseline(postgres_dsn, METADATA, "1", folder=tmp_path)
    with pytest.raises(MigrationError, match="was found done when this database was adopted"):
        await undo(postgres_dsn, METADATA, None, folder=tmp_path)


async def test_an_undo_without_a_transaction_is_run_and_not_tried(postgres_dsn: str, tmp_path: Path) -> None:
    for name, sql in {
        "V1__base": "create table metadata.a (id int);",
        "V2__index": "create index a_id on metadata.a (id);",
        "U2__index": "-- transaction: none\n\ndrop index concurrently if exists metadata.a_id;",
    }.items():
        (tmp_path / f"{name}.sql").write_text(sql)
    await migrate(postgres_dsn, METADATA, folder=tmp_path)
    (trial,) = await try_undo(postgres_dsn, METADATA, "1", folder=tmp_path)
    assert trial.refusal is not None
    assert trial.refusal.startswith("not tried")
    await undo(postgres_dsn, METADATA, "1", folder=tmp_path)
    assert await applied(postgres_dsn, METADATA, tmp_path) == ["1"]


@pytest.mark.parametrize(
    ("sql", "relations"),
    [
        ("-- why\ndrop table a.b;\ndrop table if exists a.c, a.d cascade;", ("a.b", "a.c", "a.d")),
        ("drop materialized view a.m; drop view a.v; drop index a.i;", ("a.m",)),
        ("alter table a.b\n    drop column c,\n    drop column d;", ("a.b",)),
        ("alter table a.b set (x = false); alter table a.b disable row level security;", ()),
        ("do $$ begin raise exception 'drop table a.b'; end; $$;", ()),
    ],
)
def test_the_relations_a_file_takes_rows_or_columns_from(sql: str, relations: tuple[str, ...]) -> None:
    assert losing(sql) == relations
