"""Databases over TLS: what a DSN asks for is honoured by every command, and what it leaves open is said."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.acceptance.command_line import CommandLine, report
from tests.acceptance.workers import WorkerProcess
from tests.tls_proxy import TlsProxy

if TYPE_CHECKING:
    from pathlib import Path

    from tests.certificates import Authority
    from tests.servers import PostgresCluster

SECRET = "s3cr3t-Zx"  # noqa: S105 (a value to look for in texts)
NOWHERE = f"postgresql://u:{SECRET}@db.invalid/x"
"""A name that is never registered (RFC 6761, 6.4): looking it up reaches nobody."""


async def server_check(
    ingest: CommandLine, proxy: TlsProxy, options: str, host: str = "127.0.0.1"
) -> tuple[bool, str]:
    """Give what `ingest check` says of the metadata server behind *proxy*."""
    dsn = f"postgresql://postgres:{SECRET}@{host}:{proxy.port}/postgres?{options}"
    environment = {
        "INGEST_METADATA_DSN": dsn,
        "INGEST_TIMESERIES_DSN": dsn,
        "INGEST_BROKER_URL": "mqtt://127.0.0.1:1",
    }
    done = await asyncio.to_thread(ingest, "check", "--json", environment=environment)
    assert SECRET not in done.stdout + done.stderr
    checks = {each["name"]: each for each in report(done)["checks"]}
    assert report(done)["warnings"] == []  # the loopback needs no TLS
    return checks["metadata server"]["ok"], checks["metadata server"]["detail"]


async def test_verification_is_honoured(
    ingest: CommandLine, postgres_cluster: PostgresCluster, authority: Authority, stranger: Authority
) -> None:
    verified = f"sslmode=verify-full&sslrootcert={authority.certificate}"
    async with TlsProxy(postgres_cluster.port, *authority.issue("db")) as good:
        ok, detail = await server_check(ingest, good, verified)
        assert (ok, detail[:10]) == (True, "PostgreSQL")
        assert good.encrypted >= 4  # every check connects so
        ok, detail = await server_check(ingest, good, verified, host="localhost")
        assert not ok
        assert "Hostname mismatch, certificate is not valid for 'localhost'" in detail
        ok, detail = await server_check(
            ingest, good, f"sslmode=verify-full&sslrootcert={stranger.certificate}"
        )
        assert not ok
        assert "unable to get local issuer certificate" in detail
    async with TlsProxy(postgres_cluster.port, *authority.issue("db-expired", days=-1)) as expired:
        ok, detail = await server_check(ingest, expired, verified)
        assert not ok
        assert "certificate has expired" in detail
        assert expired.encrypted == 0


async def test_a_server_without_tls_is_refused(
    ingest: CommandLine, postgres_cluster: PostgresCluster, authority: Authority
) -> None:
    dsn = f"{postgres_cluster.dsn()}?sslmode=verify-full&sslrootcert={authority.certificate}"
    done = await asyncio.to_thread(ingest, "schema", "status", environment={
        "INGEST_METADATA_DSN": dsn, "INGEST_TIMESERIES_DSN": dsn,
    })  # fmt: skip
    assert done.returncode == 1
    assert "rejected SSL upgrade" in done.stderr


def test_a_missing_authority_file_is_a_fault_of_the_configuration(ingest: CommandLine) -> None:
    dsn = f"postgresql://u:{SECRET}@127.0.0.1/x?sslmode=verify-full&sslrootcert=missing.pem"
    done = ingest("config", environment={"INGEST_TIMESERIES_DSN": dsn})
    assert done.returncode == 2
    assert done.stderr == (
        "ingest: timeseries_dsn: sslrootcert missing.pem cannot be read: No such file or directory "
        "(INGEST_TIMESERIES_DSN)\n"
    )


def test_check_warns_of_what_is_not_protected(ingest: CommandLine) -> None:
    environment = {
        "INGEST_METADATA_DSN": f"{NOWHERE}?sslmode=require",
        "INGEST_TIMESERIES_DSN": NOWHERE,
        "INGEST_BROKER_URL": f"mqtt://u:{SECRET}@broker.invalid",
    }
    done = ingest("check", "--json", environment=environment)
    assert [line.partition(" ")[0] for line in report(done)["warnings"]] == [
        "broker_url:",
        "metadata_dsn:",
        "timeseries_dsn:",
    ]
    table = ingest("check", environment=environment)
    assert table.stdout.count("\nwarning: ") == 3
    assert SECRET not in done.stdout + table.stdout


async def test_the_worker_warns_once_for_each(tmp_path: Path) -> None:
    with WorkerProcess(tmp_path, broker_url="mqtt://broker.invalid", dsn=NOWHERE, filters=["a/#"]) as worker:
        await worker.logged("catalog_refresh_failed")
        await worker.stop()
        told = [line["detail"].partition(":")[0] for line in worker.events("connection_unprotected")]
        assert told == ["broker_url", "metadata_dsn", "timeseries_dsn"]
        assert all(line["level"] == "warning" for line in worker.events("connection_unprotected"))
        assert SECRET not in worker.log_text
