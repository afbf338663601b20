"""What leaves this machine unprotected is said for each connection, and for no other."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from ingest.addresses import check_dsn, dsn_hosts
from ingest.exposures import exposures
from ingest.settings import Settings

SECRET = "s3cr3t-Zx"  # noqa: S105 (a value to look for in texts)


def found(
    *, broker_url: str = "mqtt://127.0.0.1", dsn: str | None = None, environment: dict[str, str] | None = None
) -> list[str]:
    settings = Settings(broker_url=broker_url, timeseries_dsn=None if dsn is None else SecretStr(dsn))
    return exposures(settings, environment or {})


@pytest.mark.parametrize(
    ("url", "exposed"),
    [
        ("mqtt://broker.example", "mqtts"),
        ("ws://10.0.0.7/mqtt", "wss"),
        (f"mqtt://u:{SECRET}@broker.example", "mqtts"),
        ("mqtt://127.0.0.1", None),
        ("mqtt://127.1.2.3", None),
        ("mqtt://localhost", None),
        ("ws://[::1]:9001", None),
        ("mqtts://broker.example", None),
        ("wss://broker.example", None),
        ("mqtt://localhost.example", "mqtts"),
    ],
)
def test_a_broker_in_clear(url: str, exposed: str | None) -> None:
    lines = found(broker_url=url)
    assert len(lines) == (exposed is not None)
    for line in lines:
        assert line.startswith("broker_url: messages and login go to ")
        assert f"use {exposed}:// for " in line
        assert SECRET not in line


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://u@127.0.0.1/x",
        "postgresql://u@localhost:6432,[::1]/x",
        "postgresql://u@%2Frun%2Fpostgresql/x",
        "postgresql:///x",
        "postgresql:///x?host=/run/postgresql",
        "postgresql://u@db.example/x?sslmode=verify-full&sslrootcert=/ca.pem",
        "postgresql://u@db.example/x?sslmode=verify-ca",
        "postgresql://u@db.example/x?sslmode=require&sslrootcert=/ca.pem",
    ],
)
def test_a_database_here_or_verified(dsn: str) -> None:
    assert found(dsn=dsn) == []


@pytest.mark.parametrize(
    ("dsn", "text"),
    [
        ("postgresql://u:{0}@db.example/x", "with sslmode=prefer the connection to db.example may"),
        ("postgresql://u:{0}@db.example/x?sslmode=disable", "sslmode=disable"),
        ("postgresql://u@127.0.0.1,db.example:6432,[2001:db8::1]/x", "to db.example, [2001:db8::1] may be"),
        ("postgresql:///x?host=db.example:6432&password={0}", "db.example may be in clear"),
        (
            "postgresql://u:{0}@db.example/x?sslmode=require",
            "encrypts, and believes whoever answers for db.example",
        ),
    ],
)
def test_a_database_in_clear_or_unverified(dsn: str, text: str) -> None:
    (line,) = found(dsn=dsn.format(SECRET))
    assert line.startswith("timeseries_dsn: ")
    assert text in line
    assert line.endswith("; use sslmode=verify-full with sslrootcert=FILE")
    assert SECRET not in line


def test_what_a_dsn_leaves_open_comes_from_the_drivers_variables() -> None:
    dsn = "postgresql://u@db.example/x"
    assert found(dsn=dsn, environment={"PGSSLMODE": "verify-full"}) == []
    assert found(dsn=dsn, environment={"PGSSLMODE": "require"}) != []
    assert found(dsn=dsn, environment={"PGSSLMODE": "require", "PGSSLROOTCERT": "/ca.pem"}) == []
    assert found(dsn="postgresql:///x", environment={"PGHOST": "db.example"}) != []
    assert found(dsn=f"{dsn}?sslmode=disable", environment={"PGSSLMODE": "verify-full"}) != []


@pytest.mark.parametrize(
    ("dsn", "text"),
    [
        (f"postgresql://u:p@{SECRET}@h/x", "%40"),
        (f"postgresql://u:12/{SECRET}@h/x", "%40"),
        (f"postgresql://u:12?{SECRET}@h/x", "%40"),
        (f"postgresql://u:p {SECRET}@h/x", "%20"),
        (f"postgresql://u:p\x1b{SECRET}@h/x", "%20"),
        (f"postgresql://u:{SECRET}/x@h", "%40"),
        (f"postgresql://u:{SECRET}@h/x?sslmode=verify_full", "sslmode that is none of disable, allow"),
        (f"postgresql://u:{SECRET}@h/x?sslmode=no", "verify-full"),
    ],
)
def test_a_dsn_that_would_be_read_otherwise_is_refused_without_a_word_of_it(dsn: str, text: str) -> None:
    """The driver ends credentials at the first @: a piece of the password would be looked up as a host."""
    with pytest.raises(ValueError, match=text) as caught:
        check_dsn(dsn)
    assert SECRET not in str(caught.value)


def test_hosts_of_a_dsn() -> None:
    assert dsn_hosts("postgresql://u:p@a:1,[::1]:2,b/x?sslmode=require") == ["a", "[::1]", "b"]
    assert dsn_hosts("postgresql:///x?host=a:1,/run/postgresql") == ["a", "/run/postgresql"]
    assert dsn_hosts("postgresql:///x") == []
