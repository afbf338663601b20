"""The command line as an operator meets it: real processes, their output, their exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.acceptance.command_line import CommandLine, report
from tests.servers import PostgresCluster, free_port

SECRET = "s3cr3t-Zx"  # noqa: S105 (a value to look for in texts)


def test_help_names_the_commands_and_answers_quickly(ingest: CommandLine) -> None:
    """Quickly: a tenth of a second of processor time, as long as it imports none of what takes more."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "ingest", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env=ingest.environment,
        cwd=ingest.directory,
    )
    for command in ("run", "check", "decode", "config", "catalog", "dead-letters", "schema", "demo"):
        assert f"  {command} " in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
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


def test_decode_judges_times_by_the_receipt_it_is_given(ingest: CommandLine) -> None:
    command = ("decode", "--topic", "greenhouse/A/sensors/co2", "--no-catalog", "--json")
    payload = b'{"value": 400, "timestamp": "2025-11-17T10:15:00Z"}'
    now = ingest(*command, stdin=payload)
    assert now.returncode == 1
    assert json.loads(now.stdout)["rejections"][0]["reason"] == "bad_timestamp"
    then = ingest(*command, "--received-at", "2025-11-17T10:16:00Z", stdin=payload)
    assert then.returncode == 0
    assert json.loads(then.stdout)["readings"][0]["time"] == "2025-11-17T10:15:00Z"
    wrong = ingest(*command, "--received-at", "yesterday", stdin=payload)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "--received-at" in wrong.stderr


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
    # Shown by name, but what the catalog would refuse was not looked for: no check that passed.
    done = ingest("decode", "--topic", TOPIC, stdin=b"1", environment=environment)
    assert (done.returncode, "1 readings, 0 rejected" in done.stdout) == (1, True)
    assert "catalog cannot be read" in done.stderr
    assert "what the catalog would refuse was not looked for; --no-catalog" in done.stderr
    done = ingest("decode", "--topic", TOPIC, "--no-catalog", stdin=b"1", environment=environment)
    assert (done.returncode, done.stderr) == (0, "")


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


def test_schema_migrates_reports_and_verifies(ingest: CommandLine, postgres_cluster: PostgresCluster) -> None:
    environment = {"INGEST_METADATA_DSN": postgres_cluster.create_database()}
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


def test_decode_resolves_with_the_catalog(ingest: CommandLine, postgres_cluster: PostgresCluster) -> None:
    environment = {"INGEST_METADATA_DSN": postgres_cluster.create_database()}
    assert ingest("schema", "migrate", "--database", "metadata", environment=environment).returncode == 0
    for arguments in (
        ("tenant", "--name", "Sara", "--prefix", "SARA"),
        ("greenhouse", "--tenant", "SARA", "--code", "01", "--name", "One"),
    ):
        added = ingest("catalog", "add", *arguments, environment=environment)
        assert added.returncode == 0, added.stderr
    echoes = ("tenant", "--name", "Echo", "--prefix", "RESPONSE")
    told = ingest("catalog", "add", *echoes, environment=environment)
    assert "messages to GREENHOUSE/RESPONSE are ignored (decode.ignore)" in told.stderr
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
    (ingest.directory / "faulty.json").write_text('{"tenants": [{"name": "a"}]}')
    faulty = ingest("catalog", "import", "faulty.json", environment=environment)
    said = "tenants[0].prefix: Field required\n1 fault: nothing was written\n"
    assert (faulty.returncode, faulty.stdout) == (1, said)
    table = ingest("decode", "--topic", "GREENHOUSE/SARA/01", stdin=payload, environment=environment)
    assert (table.returncode, table.stderr) == (1, "")
    assert "1 rows, 2 rejected, 0 null" in table.stdout
