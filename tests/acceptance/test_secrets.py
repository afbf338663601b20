"""Secrets planted wherever one can stand, and looked for in everything the program says or shows.

Each way to hand a secret over has a canary of its own, all with one beginning. Every command is run, with
--debug, against servers that answer and against none; a command added later has to be listed here.
"""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import asyncpg
import pytest

from ingest.cli import app
from ingest.load.recording import Recorded, Recording
from ingest.migrate import Database, migrate
from tests.acceptance.command_line import CommandLine
from tests.acceptance.forked import call
from tests.integration.plain_postgres import create_timeseries_schema
from tests.pages import page
from tests.servers import PostgresCluster, free_port
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    import typer

BEGINNING = "C4n4ry"
"""What every canary begins with; also as base64 and hex would show it."""
SHAPES = (
    BEGINNING,
    base64.b64encode(BEGINNING.encode()).decode().rstrip("="),
    BEGINNING.encode().hex(),
)
IN_URL, IN_VARIABLE, IN_FILE, IN_DSN, IN_QUERY, OF_KEY = (
    f"{BEGINNING}-{place}+p@ss/w:rd%" for place in ("url", "variable", "file", "dsn", "query", "key")
)
COMMANDS: dict[str, tuple[str, ...]] = {
    "run": (),  # it ends here with what it cannot do: see below for a worker that runs
    "check": (),
    "decode": ("--topic", "GREENHOUSE/SARA"),
    "config": (),
    "normalize": ("--dry-run",),
    "status": (),
    "maintain": ("daily", "--dry-run"),
    "catalog list": ("tenants",),
    "catalog add tenant": ("--name", "Sara", "--prefix", "SARA"),
    "catalog add greenhouse": ("--tenant", "SARA", "--code", "01"),
    "catalog add sensor": ("--tenant", "SARA", "--greenhouse", "01", "--type", "co2"),
    "catalog add unit": ("mS/cm", "millisiemens per centimetre"),
    "catalog add sensor-type": ("CONDUCTIVITY", "--unit", "mS/cm"),
    "catalog add alias": ("unit", "grads", "°C"),
    "catalog import": ("catalog.json",),
    "dead-letters list": (),
    "dead-letters show": ("1",),
    "dead-letters replay": ("--dry-run",),
    "dead-letters purge": ("--dry-run", "--all"),
    "reconcile": (),
    "schema migrate": (),
    "schema status": (),
    "schema verify": (),
    "schema plan": (),
    "schema apply": (),
    "schema undo": ("--dry-run",),
    "schema baseline": ("--database", "metadata", "--version", "11"),
    "record": ("--output", "recorded.jsonl.gz", "--duration", "1"),
    "replay": ("played.jsonl.gz", "--fast", "--deadline", "1"),
    "simulate": ("--gateways", "1", "--duration", "1", "--output", "simulated.jsonl.gz"),
    "import": ("history.csv", "--timezone", "UTC"),
    "export": ("--since", "1d", "--output", "exported.csv"),
}
WITHOUT_SETTINGS = {"demo"}
"""It makes its own servers and reads no setting."""


def found_in(text: str) -> list[str]:
    """Give the lines of *text* that hold a canary."""
    return [line for line in text.splitlines() if any(shape in line for shape in SHAPES)]


def commands(group: typer.Typer, path: str = "") -> Iterator[str]:
    """Give the name of every command, groups before their own."""
    for command in group.registered_commands:
        assert command.callback is not None
        yield f"{path}{command.name or command.callback.__name__}"
    for inner in group.registered_groups:
        assert inner.typer_instance is not None
        # A group without a name puts its commands beside the others.
        yield from commands(inner.typer_instance, f"{path}{inner.name} " if type(inner.name) is str else path)


def environment_of(directory: Path, server: str, broker_port: int) -> dict[str, str]:
    """Plant a canary in each variable and file that may hold a secret; *server* is host:port/database."""
    (directory / "dsn").write_text(f"postgresql://postgres:{quote(IN_FILE, safe='')}@{server}\n")
    return {
        "INGEST_BROKER_URL": f"mqtt://planter:{quote(IN_URL, safe='')}@127.0.0.1:{broker_port}",
        "INGEST_BROKER__PASSWORD": IN_VARIABLE,
        "INGEST_METADATA_DSN_FILE": "dsn",
        "INGEST_TIMESERIES_DSN": f"postgresql://postgres:{quote(IN_DSN, safe='')}@{server}"
        f"?application_name=x&sslpassword={quote(OF_KEY, safe='')}",
        "INGEST_OBSERVE__HTTP_PORT": "0",
        "INGEST_OBSERVE__LOG_LEVEL": "debug",
        "INGEST_BROKER__CONNECT_TIMEOUT_S": "1",
    }


@pytest.fixture
def ingest(tmp_path: Path) -> CommandLine:
    (tmp_path / "catalog.json").write_text("{}")
    (tmp_path / "history.csv").write_text("time,value,sensor_id\n2026-01-01 00:00:00,1,PROBE\n")
    with Recording(tmp_path / "played.jsonl.gz") as played:
        played.write(Recorded(1_767_225_600_000_000, "GREENHOUSE/SARA", b'{"CO2": 400}'))
    return CommandLine(tmp_path)


@pytest.fixture(scope="module")
def cluster() -> Iterator[PostgresCluster]:
    with PostgresCluster() as running:
        yield running


@pytest.fixture(scope="module")
def closed_cluster() -> Iterator[PostgresCluster]:
    """One that asks for passwords, and believes none of ours."""
    with PostgresCluster() as running:
        (running.data_directory / "pg_hba.conf").write_text("host all all 127.0.0.1/32 scram-sha-256\n")
        running.restart()
        yield running


def test_every_command_is_listed_here() -> None:
    assert set(commands(app)) == COMMANDS.keys() | WITHOUT_SETTINGS


@pytest.mark.parametrize("servers", ["answer", "refuse the password", "are away"])
def test_no_command_says_a_secret(
    ingest: CommandLine, cluster: PostgresCluster, closed_cluster: PostgresCluster, servers: str
) -> None:
    place = {
        "answer": cluster.dsn(cluster.create_database().rpartition("/")[2]),
        "refuse the password": closed_cluster.dsn(),
        "are away": f"//u@127.0.0.1:{free_port()}/x",
    }[servers]
    environment = ingest.environment | environment_of(ingest.directory, place.rpartition("@")[2], free_port())

    def output_of(command: str) -> str:
        return everything_said(ingest, environment, *command.split(), *COMMANDS[command])[1]

    called = [command for command in COMMANDS if command != "run"]
    with ThreadPoolExecutor(2) as pool:
        outputs = dict(zip(called, pool.map(output_of, called), strict=True))
    assert [command for command, output in outputs.items() if not output or "Usage: " in output] == []
    assert {command: found for command, output in outputs.items() if (found := found_in(output))} == {}


def everything_said(ingest: CommandLine, environment: dict[str, str], *arguments: str) -> tuple[int, str]:
    """Call the program with --debug, tracebacks and all; give its exit code and both streams."""
    output = ingest.directory / f"{uuid.uuid4().hex}.output"
    code = call(["--debug", *arguments], environment, ingest.directory, b"1", output)
    return code, output.read_text()


@pytest.mark.parametrize(
    ("file", "environment"),
    [
        (f'broker_url = "mqtt://u:{IN_URL}@h"', {}),
        (f'[broker]\npassword = "{IN_VARIABLE}"', {}),
        (f'metadata_dsn = "postgresql://u:{IN_DSN}@h/x"', {}),
        (f'metadata_dsn = "postgresql://h/x?password={BEGINNING}"', {}),
        (f'metadata_dsn = "mysql://u:{BEGINNING}@h/x"', {}),
        (f'metadata_dsn = ["{IN_DSN}"]', {}),
        (f'metadata_dsn = "postgresql://u:{IN_DSN}@h/x', {}),
        (f'[broker]\nusername = 1\npassword = ["{IN_VARIABLE}"]', {}),
        ("", {"INGEST_BROKER_URL": f"http://u:{IN_URL}@h"}),
        ("", {"INGEST_BROKER_URL": f"u:{IN_URL}@h:1883"}),
        ("", {"INGEST_BROKER_URL": f"mqtt://u:{IN_URL}@h:no"}),
        ("", {"INGEST_BROKER_URL": f"mqtt://u:p {IN_URL}@h/path?query"}),
        ("", {"INGEST_BROKER_PASSWORD": IN_VARIABLE}),
        ("", {"INGEST_METADATA_DSN": f"postgresql://u:{IN_DSN}@h/x"}),
        ("", {"INGEST_METADATA_DSN": f"postgresql://u:p {BEGINNING}@h/x"}),
        ("", {"INGEST_METADATA_DSN": f"postgresql://u:12/{BEGINNING}@h/x"}),
        ("", {"INGEST_METADATA_DSN": f"postgresql://h:{BEGINNING}/x"}),
        ("", {"INGEST_METADATA_DSN": f"host=h password={IN_DSN}"}),
        ("", {"INGEST_METADATA_DSN": f"postgresql://h/x?sslmode={BEGINNING}"}),
        ("", {"INGEST_METADATA_DSN_FILE": "secret", "INGEST_TIMESERIES_DSN_FILE": "two lines"}),
        ("", {"INGEST_BROKER__PASSWORD_FILE": "two lines"}),  # pragma: allowlist secret
    ],
)
def test_a_refused_configuration_is_refused_without_the_secret(
    ingest: CommandLine, file: str, environment: dict[str, str]
) -> None:
    (ingest.directory / "x.toml").write_text(file)
    (ingest.directory / "secret").write_text(IN_FILE)
    (ingest.directory / "two lines").write_text(f"{IN_FILE}\n{IN_FILE}\n")
    code, output = everything_said(ingest, ingest.environment | environment, "--config", "x.toml", "config")
    assert code == 2, output
    assert found_in(output) == []


async def test_a_running_worker_shows_no_secret(ingest: CommandLine, cluster: PostgresCluster) -> None:
    """Neither in its log at level debug, nor on its pages, nor in its arguments."""
    dsn = cluster.create_database()
    await migrate(dsn, Database.METADATA)
    log = ingest.directory / "log"
    broker_port = free_port()
    planted = environment_of(ingest.directory, dsn.rpartition("@")[2], broker_port)
    process = start_worker(ingest, planted, log)
    try:
        await until(lambda: "database_fault" in log.read_text(), "the missing tables are complained of")
        connection = await asyncpg.connect(dsn)
        await create_timeseries_schema(connection)
        await connection.close()
        await until(lambda: "broker_unavailable" in log.read_text(), "the missing broker is")
        events = [json.loads(line) for line in log.read_text().splitlines()]
        (port,) = [event["port"] for event in events if event["event"] == "http_listening"]
        names = ("metrics", "healthz", "readyz")
        pages = [(await asyncio.to_thread(page, port, name))[1] for name in names]
    finally:
        process.terminate()
        assert process.wait(30) == 0
    assert "ingest_messages_total" in pages[0]
    assert f"127.0.0.1:{broker_port}" in pages[2]
    assert found_in("\n".join((log.read_text(), *pages))) == []


def start_worker(ingest: CommandLine, environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start `ingest --debug run`, and see that what its arguments show to everybody is no secret."""
    with log.open("wb") as stream:
        process = subprocess.Popen(
            ingest.command("--debug", "run"),
            env=ingest.environment | environment,
            cwd=ingest.directory,
            stdout=stream,
            stderr=stream,
        )
    assert found_in(Path(f"/proc/{process.pid}/cmdline").read_text()) == []
    return process
