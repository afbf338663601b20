"""The two DSNs exchanged: `migrate` refuses, `run` ends, what fails says so. One database for both is fine.

Real processes, against plain PostgreSQL: schema iot without what is TimescaleDB's.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg
import pytest

from ingest.migrate import Database, migrate
from tests.acceptance.command_line import CommandLine, report
from tests.acceptance.workers import WorkerProcess
from tests.integration.plain_postgres import create_timeseries_schema
from tests.servers import PostgresCluster, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EXCHANGED = (
    "metadata_dsn names a database that holds schema iot and not metadata, and timeseries_dsn one that holds "
    "schema metadata and not iot: the two are exchanged. "
    "Exchange INGEST_METADATA_DSN and INGEST_TIMESERIES_DSN"
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[PostgresCluster]:
    with PostgresCluster() as running:
        yield running


@pytest.fixture(scope="module")
def metadata(cluster: PostgresCluster) -> str:
    dsn = cluster.create_database()
    asyncio.run(migrate(dsn, Database.METADATA))
    return dsn


@pytest.fixture(scope="module")
def timeseries(cluster: PostgresCluster) -> str:
    dsn = cluster.create_database()

    async def create() -> None:
        connection = await asyncpg.connect(dsn)
        await create_timeseries_schema(connection)
        await connection.close()

    asyncio.run(create())
    return dsn


def environment(metadata: str, timeseries: str) -> dict[str, str]:
    return {
        "INGEST_METADATA_DSN": metadata,
        "INGEST_TIMESERIES_DSN": timeseries,
        "INGEST_BROKER_URL": f"mqtt://127.0.0.1:{free_port()}",
    }


async def schemas(dsn: str) -> list[str]:
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(
            "select nspname from pg_namespace where nspname in ('metadata', 'iot') order by 1"
        )
        return [row[0] for row in rows]
    finally:
        await connection.close()


@pytest.mark.parametrize("only", [(), ("--database", "metadata"), ("--database", "timeseries")])
async def test_migrate_refuses(
    ingest: CommandLine, metadata: str, timeseries: str, only: tuple[str, ...]
) -> None:
    done = ingest("schema", "migrate", *only, environment=environment(timeseries, metadata))
    assert done.returncode == 2
    told = done.stderr.removeprefix("ingest: ").removesuffix("; nothing was changed\n")
    if only[-1:] == ("timeseries",):
        assert told.startswith("timeseries_dsn names a database that holds schema metadata and not iot, and")
    else:
        assert told == EXCHANGED
    assert (await schemas(metadata), await schemas(timeseries)) == (["metadata"], ["iot"])


def test_check_says_so_and_asks_for_nothing_else(ingest: CommandLine, metadata: str, timeseries: str) -> None:
    done = ingest("check", "--json", environment=environment(timeseries, metadata))
    assert done.returncode == 1
    details = {each["name"]: each["detail"] for each in report(done)["checks"] if not each["ok"]}
    del details["broker"]
    assert len(details) == 5
    assert set(details.values()) == {EXCHANGED}
    assert "schema migrate" not in done.stdout


@pytest.mark.parametrize("command", [("status",), ("catalog", "list", "tenants"), ("schema", "status")])
def test_a_report_that_fails_for_it_says_so(
    ingest: CommandLine, metadata: str, timeseries: str, command: tuple[str, ...]
) -> None:
    done = ingest(*command, environment=environment(timeseries, metadata))
    assert done.returncode == 1
    assert done.stderr.endswith(f"ingest: {EXCHANGED}\n")


async def test_run_ends_as_with_any_wrong_configuration(
    cluster: PostgresCluster, metadata: str, timeseries: str, tmp_path: Path
) -> None:
    worker = WorkerProcess(
        tmp_path,
        broker_url=f"mqtt://127.0.0.1:{free_port()}",
        dsn=metadata,
        metadata_dsn=timeseries,
        filters=["GREENHOUSE/#"],
    )
    with worker:
        assert await worker.exit_code() == 2
        assert worker.log_text.endswith(f"ingest: {EXCHANGED}\n")
        worker.never_traced_back()
        cluster.stop()
        try:
            worker.start()
            await worker.logged("catalog_refresh_failed")
        finally:
            cluster.start()
        assert await worker.exit_code() == 2
        assert worker.log_text.endswith(f"ingest: {EXCHANGED}\n")


async def test_a_database_of_the_others_beside_an_empty_one_is_refused(
    ingest: CommandLine, cluster: PostgresCluster, timeseries: str
) -> None:
    empty = cluster.create_database()
    done = ingest("schema", "migrate", environment=environment(timeseries, empty))
    assert done.returncode == 2
    assert "holds schema iot and not metadata: it is no metadata database" in done.stderr
    assert (await schemas(timeseries), await schemas(empty)) == (["iot"], [])


def test_what_cannot_be_told_without_the_other_is_refused(ingest: CommandLine, timeseries: str) -> None:
    away = f"postgresql://postgres@127.0.0.1:{free_port()}/away"
    only = ("--database", "metadata")
    done = ingest("schema", "migrate", *only, environment=environment(timeseries, away))
    assert done.returncode == 1
    assert "is it exchanged with timeseries_dsn? cannot connect to the timeseries database" in done.stderr


async def test_one_database_for_both_is_no_exchange_whichever_schema_it_got_first(
    ingest: CommandLine, cluster: PostgresCluster
) -> None:
    for first, then in (("metadata", "timeseries"), ("timeseries", "metadata")):
        dsn = cluster.create_database()
        both = environment(dsn, f"{dsn}?application_name=another")
        if first == "metadata":
            assert ingest("schema", "migrate", "--database", first, environment=both).returncode == 0
        else:
            connection = await asyncpg.connect(dsn)
            await create_timeseries_schema(connection)
            await connection.close()
        done = ingest("schema", "migrate", "--database", then, environment=both)
        if then == "timeseries":  # past the exchange, to what this server lacks
            assert (done.returncode, "extension" in done.stderr) == (1, True)
        else:
            assert (done.returncode, done.stderr) == (0, "")


def test_new_databases_are_migrated(ingest: CommandLine, cluster: PostgresCluster) -> None:
    new = environment(cluster.create_database(), cluster.create_database())
    assert ingest("schema", "migrate", "--database", "metadata", environment=new).returncode == 0


async def test_a_schema_of_that_name_that_is_somebody_elses_is_no_exchange(
    ingest: CommandLine, cluster: PostgresCluster
) -> None:
    dsn = cluster.create_database()
    connection = await asyncpg.connect(dsn)
    await connection.execute("create schema metadata; create table metadata.assets (id integer)")
    await connection.close()
    done = ingest("schema", "migrate", "--database", "timeseries", environment=environment(
        cluster.create_database(), dsn))  # fmt: skip
    assert "extension" in done.stderr
