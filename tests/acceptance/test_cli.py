"""The command line as an operator meets it: real processes, their output, their exit codes."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from ingest.operate.dead_letters import list_dead_letters
from tests.integration.plain_postgres import create_timeseries_schema
from tests.servers import PostgresCluster, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "s3cr3t-Zx"  # noqa: S105 (a value to look for in texts)


class CommandLine:
    """Starts `ingest` in an empty directory with the environment given and nothing else of ours."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        kept = {name: text for name, text in os.environ.items() if not name.upper().startswith("INGEST_")}
        root = str(Path(__file__).parents[2])
        self.environment = {**kept, "PYTHONPATH": root, "COLUMNS": "120"}

    def __call__(
        self, *arguments: str, stdin: bytes = b"", environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(*arguments),
            input=stdin,
            capture_output=True,
            cwd=self.directory,
            env={**self.environment, **(environment or {})},
            timeout=60,
            check=False,
        )
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:  # noqa: ANN401 (Popen's own)
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.directory,
            env=self.environment,
            stderr=subprocess.PIPE,
            **options,
        )

    @staticmethod
    def command(*arguments: str) -> list[str]:
        return [sys.executable, "-m", "ingest", *arguments]


@pytest.fixture
def ingest(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


@pytest.fixture(scope="module")
def cluster() -> Iterator[PostgresCluster]:
    with PostgresCluster() as running:
        yield running


def report(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return the one JSON object a `--json` report is."""
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    assert isinstance(found, dict)
    return found


def test_help_names_the_commands_and_answers_quickly(ingest: CommandLine) -> None:
    began = time.monotonic()
    done = ingest("--help")
    assert done.returncode == 0
    for command in ("run", "check", "decode", "config", "catalog", "dead-letters", "schema", "demo"):
        assert f"  {command} " in done.stdout
    assert time.monotonic() - began < 5  # a quarter of a second on an idle machine
    listed = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "ingest", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env=ingest.environment,
        cwd=ingest.directory,
    )
    imported = {line.rpartition("|")[2].strip() for line in listed.stderr.splitlines()}
    assert not imported & {"asyncpg", "paho.mqtt", "pydantic", "structlog", "rich"}


def test_version(ingest: CommandLine) -> None:
    assert ingest("--version").stdout.startswith("greenhouse-ingest ")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("nothing",),
        ("decode",),
        ("decode", "--topic", "a", "--nothing"),
        ("schema",),
        ("dead-letters", "show", "x"),
    ],
)
def test_wrong_usage_is_exit_2_with_nothing_on_stdout_but_help(
    ingest: CommandLine, arguments: tuple[str, ...]
) -> None:
    done = ingest(*arguments)
    assert done.returncode == 2
    assert "Usage: ingest" in done.stdout + done.stderr


def test_config_shows_values_sources_and_no_secret(ingest: CommandLine) -> None:
    (ingest.directory / "x.toml").write_text("[broker]\nkeepalive_s = 60\n")
    environment = {
        "INGEST_BROKER_URL": f"mqtts://u:{SECRET}@h",
        "INGEST_TIMESERIES_DSN": f"postgresql://u:{SECRET}@h/x",
    }
    done = ingest("--config", "x.toml", "config", "--json", environment=environment)
    assert (done.returncode, done.stderr) == (0, "")
    shown = report(done)
    assert shown["config_file"] == "x.toml"
    assert shown["options"]["broker.keepalive_s"] == {"value": 60, "source": "x.toml"}
    assert shown["options"]["broker_url"] == {"value": "mqtts://h", "source": "INGEST_BROKER_URL"}
    assert shown["options"]["timeseries_dsn"]["value"] == "postgresql://u:***@h/x"
    table = ingest("--config", "x.toml", "config", environment=environment)
    assert table.returncode == 0
    assert SECRET not in done.stdout + table.stdout
    assert any(line.split() == ["broker.keepalive_s", "60", "x.toml"] for line in table.stdout.splitlines())


def test_every_fault_of_the_configuration_is_a_line_and_exit_2(ingest: CommandLine) -> None:
    (ingest.directory / "x.toml").write_text("nope = 1\n[broker]\nkeepalive_s = 1\n")
    done = ingest("--config", "x.toml", "run", environment={"INGEST_METADATA_DSN": f"mysql://u:{SECRET}@h"})
    assert (done.returncode, done.stdout) == (2, "")
    first, *faults = done.stderr.splitlines()
    assert first == "ingest: 4 faults:"
    assert [fault.strip().partition(":")[0] for fault in faults] == [
        "metadata_dsn",
        "timeseries_dsn",
        "broker.keepalive_s",
        "nope",
    ]
    assert SECRET not in done.stderr


def test_a_missing_configuration_file_is_exit_2(ingest: CommandLine) -> None:
    done = ingest("--config", "none.toml", "config")
    assert (done.returncode, done.stderr) == (
        2,
        "ingest: none.toml: cannot be read: No such file or directory\n",
    )


TOPIC = "greenhouse/01/sensors/temperature"


def test_decode_prints_readings_and_exits_0(ingest: CommandLine) -> None:
    done = ingest(
        "decode",
        "--topic",
        TOPIC,
        "--json",
        "--no-catalog",
        stdin=b'{"value": "24,5", "unit": "\xc2\xb0C"}\n',
    )
    assert done.returncode == 0
    found = report(done)
    (reading,) = found["readings"]
    assert (reading["value"], reading["unit"], reading["sensor_type"]) == (24.5, "°C", "temperature")
    assert found["rejections"] == []
    (ingest.directory / "payload").write_bytes(b"24.5")
    table = ingest("decode", "--topic", TOPIC, "payload")
    assert table.returncode == 0
    assert table.stdout.endswith("1 readings, 0 rejected, 0 null\n")
    assert "metadata_dsn" in table.stderr


def test_decode_exits_1_when_anything_is_rejected(ingest: CommandLine) -> None:
    done = ingest(
        "decode", "--topic", TOPIC, "--json", stdin=b'[{"value": 1}, {"value": "x"}, {"value": null}]'
    )
    assert done.returncode == 1
    found = report(done)
    assert (len(found["readings"]), found["nulls"]) == (1, 1)
    assert [(each["field"], each["reason"]) for each in found["rejections"]] == [("[1]", "bad_value")]
    assert ingest("decode", "--topic", "nobodys/topic", stdin=b"1").returncode == 1


def test_decode_exits_0_for_what_is_ignored_by_rule(ingest: CommandLine) -> None:
    assert report(ingest("decode", "--topic", TOPIC, "--json")) == {"topic": TOPIC, "ignored": True}
    assert ingest("decode", "--topic", "GREENHOUSE/RESPONSE/1", stdin=b"1").returncode == 0


def test_decode_lets_no_escape_sequence_through(ingest: CommandLine) -> None:
    payload = json.dumps({"TEMP\x1b[2J": 1, "HUM\n\u202e": "\x07bell"}).encode()
    for arguments in ((), ("--json",)):
        done = ingest("decode", "--topic", "GREENHOUSE/SARA", *arguments, stdin=payload)
        assert done.stdout.replace("\n", "").isprintable()


def test_decode_of_an_unreadable_file_is_one_line(ingest: CommandLine) -> None:
    done = ingest("decode", "--topic", TOPIC, "none")
    assert (done.returncode, done.stderr) == (1, "ingest: none cannot be read: No such file or directory\n")


def test_an_unreachable_database_is_one_line_and_exit_1(ingest: CommandLine) -> None:
    dsn = f"postgresql://u:{SECRET}@127.0.0.1:{free_port()}/x"
    environment = {"INGEST_TIMESERIES_DSN": dsn, "INGEST_METADATA_DSN": dsn}
    for arguments in (("dead-letters", "list"), ("schema", "status"), ("catalog", "list", "tenants")):
        done = ingest(*arguments, environment=environment)
        assert (done.returncode, done.stdout) == (1, ""), arguments
        (line,) = done.stderr.splitlines()
        assert line.startswith("ingest: ")
        assert SECRET not in line
    # The dry run goes on without the catalog.
    done = ingest("decode", "--topic", TOPIC, stdin=b"1", environment=environment)
    assert done.returncode == 0
    assert "catalog cannot be read" in done.stderr


def test_check_says_what_is_missing_and_exits_1(ingest: CommandLine) -> None:
    nobody = free_port()
    environment = {
        "INGEST_BROKER_URL": f"mqtt://127.0.0.1:{nobody}",
        "INGEST_METADATA_DSN": f"postgresql://u:{SECRET}@127.0.0.1:{nobody}/x",
        "INGEST_TIMESERIES_DSN": f"postgresql://u:{SECRET}@127.0.0.1:{nobody}/x",
    }
    done = ingest("check", "--json", environment=environment)
    assert (done.returncode, done.stderr) == (1, "")
    found = report(done)
    assert found["ok"] is False
    assert {each["name"]: each["ok"] for each in found["checks"]}["broker"] is False
    table = ingest("check", environment=environment)
    assert table.returncode == 1
    assert "FAILED" in table.stdout
    assert SECRET not in done.stdout + table.stdout


def test_debug_adds_the_traceback(ingest: CommandLine) -> None:
    dsn = f"postgresql://127.0.0.1:{free_port()}/x"
    done = subprocess.run(
        ingest.command("--debug", "dead-letters", "list"),
        env={**ingest.environment, "INGEST_TIMESERIES_DSN": dsn},
        cwd=ingest.directory,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_ctrl_c_is_quiet_and_exit_130(ingest: CommandLine) -> None:
    process = ingest.start("decode", "--topic", TOPIC, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    wait_until_reading(process.pid)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=20)
    assert (process.returncode, stdout, stderr) == (130, b"", b"")


def wait_until_reading(pid: int) -> None:
    """Wait until the process sleeps in a read of its stdin."""
    deadline = time.monotonic() + 20
    while not Path(f"/proc/{pid}/wchan").read_text().endswith("pipe_read"):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_reader_that_leaves_is_quiet(ingest: CommandLine) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = ingest.start("config", stdout=writing)
    os.close(writing)
    _, stderr = process.communicate(timeout=20)
    assert (process.returncode, stderr) == (141, b"")


def test_schema_migrates_reports_and_verifies(ingest: CommandLine, cluster: PostgresCluster) -> None:
    environment = {"INGEST_METADATA_DSN": cluster.create_database()}
    only = ("--database", "metadata")
    pending = ingest("schema", "status", *only, "--json", environment=environment)
    assert pending.returncode == 1
    assert {each["state"] for each in report(pending)["migrations"]} == {"pending"}
    assert ingest("schema", "verify", *only, environment=environment).returncode == 1
    applied = ingest("schema", "migrate", *only, "--json", environment=environment)
    assert applied.returncode == 0
    versions = [each["version"] for each in report(applied)["applied"]]
    assert versions[0] == "11"
    again = ingest("schema", "migrate", *only, environment=environment)
    assert (again.returncode, again.stdout) == (0, "nothing to apply: the schema is up to date\n")
    done = ingest("schema", "status", *only, "--json", environment=environment)
    assert done.returncode == 0
    assert [each["version"] for each in report(done)["migrations"]] == versions
    verified = ingest("schema", "verify", *only, "--json", environment=environment)
    assert (verified.returncode, report(verified)["problems"]) == (0, {"metadata": []})
    refused = ingest("schema", "baseline", *only, "--version", "11", environment=environment)
    assert refused.returncode == 1


def test_decode_resolves_with_the_catalog(ingest: CommandLine, cluster: PostgresCluster) -> None:
    environment = {"INGEST_METADATA_DSN": cluster.create_database()}
    assert ingest("schema", "migrate", "--database", "metadata", environment=environment).returncode == 0
    for arguments in (
        ("tenant", "--name", "Sara", "--prefix", "SARA"),
        ("greenhouse", "--tenant", "SARA", "--code", "01", "--name", "One"),
    ):
        added = ingest("catalog", "add", *arguments, environment=environment)
        assert added.returncode == 0, added.stderr
    payload = json.dumps({"SARA_TEMP01_valor": 24.5, "SARA_HUM01_valor": 6481, "XYZ": 1}).encode()
    done = ingest("decode", "--topic", "GREENHOUSE/SARA/01", "--json", stdin=payload, environment=environment)
    assert done.returncode == 1
    found = report(done)
    (row,) = found["rows"]
    assert (row["greenhouse"], row["sensor_type"], row["unit"], row["value"]) == (
        "01",
        "TEMPERATURE",
        "°C",
        24.5,
    )
    assert [each["reason"] for each in found["rejections"]] == ["out_of_range", "unknown_sensor_type"]
    assert found["catalog"]["greenhouses"] == 1
    table = ingest("decode", "--topic", "GREENHOUSE/SARA/01", stdin=payload, environment=environment)
    assert (table.returncode, table.stderr) == (1, "")
    assert "1 rows, 2 rejected, 0 null" in table.stdout


RECEIVED = datetime(2026, 3, 1, 12, tzinfo=UTC)

INSERT = """
    insert into iot.ingest_dead_letters
        (received_at, client_id, topic, payload, payload_bytes, payload_sha256, rejected, reasons,
         rejected_count)
    values ($1, 'c', $2, $3, $4, $5, $6, $7, $8)
"""


async def fill(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await create_timeseries_schema(connection)
        letters: list[tuple[str, bytes, int, list[tuple[str, str]]]] = [
            ("GREENHOUSE/SARA", b'{"x\x1b[2J": 1}', 13, [("x\x1b[2J", "unknown_sensor_type")]),
            ("GREENHOUSE/SARA/01", b"\xff\xfe\x00", 3, [("", "bad_payload")]),
            ("a.b/c", b"y" * 10, 300_000, [("", "too_large"), ("a", "bad_value")]),
        ]
        for number, (topic, payload, size, rejected) in enumerate(letters):
            await connection.execute(
                INSERT,
                RECEIVED + timedelta(hours=number),
                topic,
                payload,
                size,
                hashlib.sha256(payload).digest() if size > len(payload) else None,
                json.dumps(
                    [{"field": field, "reason": why, "detail": "because \x1b"} for field, why in rejected]
                ),
                [why for _, why in rejected],
                len(rejected),
            )
    finally:
        await connection.close()


async def filters_narrow(dsn: str) -> None:
    async def topics(**conditions: Any) -> list[str]:  # noqa: ANN401 (the function's own arguments)
        return [each.topic for each in await list_dead_letters(dsn, limit=10, **conditions)]

    assert await topics(reason="bad_payload") == ["GREENHOUSE/SARA/01"]
    assert await topics(topic="GREENHOUSE/SARA") == ["GREENHOUSE/SARA"]
    assert await topics(topic="GREENHOUSE/SARA/#") == ["GREENHOUSE/SARA/01", "GREENHOUSE/SARA"]
    assert await topics(topic="GREENHOUSE/+") == ["GREENHOUSE/SARA"]
    assert await topics(topic="a.b/+") == ["a.b/c"]
    assert await topics(topic="a+b/#") == []
    assert await topics(topic="#") == await topics() == ["a.b/c", "GREENHOUSE/SARA/01", "GREENHOUSE/SARA"]
    assert await topics(since=RECEIVED + timedelta(hours=1)) == ["a.b/c", "GREENHOUSE/SARA/01"]
    assert await topics(until=RECEIVED + timedelta(hours=1)) == ["GREENHOUSE/SARA"]


def test_dead_letters_are_listed_filtered_and_shown(ingest: CommandLine, cluster: PostgresCluster) -> None:
    dsn = cluster.create_database()
    environment = {"INGEST_TIMESERIES_DSN": dsn}
    missing = ingest("dead-letters", "list", environment=environment)
    assert missing.returncode == 1
    assert "ingest schema migrate" in missing.stderr
    asyncio.run(fill(dsn))

    listed = report(ingest("dead-letters", "list", "--json", environment=environment))
    topics = [each["topic"] for each in listed["dead_letters"]]
    assert topics == ["a.b/c", "GREENHOUSE/SARA/01", "GREENHOUSE/SARA"]
    one = ingest(
        "dead-letters", "list", "--json", "--reason", "bad_payload", "--topic", "GREENHOUSE/#", "--until",
        "2026-03-01T13:00:01", "--since", "2026-03-01T13:00:00Z", environment=environment,
    )  # fmt: skip
    assert [each["topic"] for each in report(one)["dead_letters"]] == ["GREENHOUSE/SARA/01"]
    asyncio.run(filters_narrow(dsn))
    limited = ingest("dead-letters", "list", "--limit", "2", "--json", environment=environment)
    assert (len(report(limited)["dead_letters"]), report(limited)["more"]) == (2, True)
    table = ingest("dead-letters", "list", environment=environment)
    assert table.returncode == 0
    assert len(table.stdout.splitlines()) == 4
    assert ingest("dead-letters", "list", "--reason", "x", environment=environment).returncode == 2
    assert ingest("dead-letters", "list", "--since", "yesterday", environment=environment).returncode == 2

    text = report(ingest("dead-letters", "show", "1", "--json", environment=environment))
    assert text["payload"] == '{"x\x1b[2J": 1}'
    assert text["rejected"] == [
        {"field": "x\x1b[2J", "reason": "unknown_sensor_type", "detail": "because \x1b"}
    ]
    shown = ingest("dead-letters", "show", "1", environment=environment)
    assert shown.stdout.replace("\n", "").isprintable()
    assert r"x\x1b[2J" in shown.stdout
    assert "ff fe 00" in ingest("dead-letters", "show", "2", environment=environment).stdout
    assert (
        report(ingest("dead-letters", "show", "2", "--json", environment=environment))["payload_encoding"]
        == "hex"
    )
    cut = ingest("dead-letters", "show", "3", environment=environment).stdout
    assert "300000 bytes, SHA-256" in cut
    assert "its first 10 bytes" in cut
    none = ingest("dead-letters", "show", "99", environment=environment)
    assert none.returncode == 1
    assert none.stderr == "ingest: dead letter 99 does not exist: see `ingest dead-letters list`\n"
