"""What the image is built with and runs, done outside a container: the wheel, the health check, the set-up.

Needs no network: what the builder takes from a package index is already in the environment the tests run in.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from ingest.migrate import Database
from ingest.migration_files import load_migrations
from ingest.observe.http import Health, HttpServer
from ingest.observe.metrics import Metrics
from tests.dockerfile import instructions
from tests.servers import free_port

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The environment the Dockerfile's second RUN makes, from no more than what its COPYs give it."""
    scratch = tmp_path_factory.mktemp("image")
    source, environment = scratch / "src", scratch / "ingest"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    for name, arguments in instructions():
        if name == "COPY" and not arguments.startswith("--from"):
            *sources, target = arguments.split()
            for each in sources:
                destination = source / target / (Path(each).name if target.endswith("/") else "")
                destination.parent.mkdir(parents=True, exist_ok=True)
                if (ROOT / each).is_dir():
                    shutil.copytree(ROOT / each, destination, symlinks=True,
                                    ignore=shutil.ignore_patterns("__pycache__"))  # fmt: skip
                else:
                    shutil.copyfile(ROOT / each, destination)
        if name == "RUN" and "pip wheel" in arguments:
            command = (
                arguments.replace("/wheels", str(scratch / "wheels"))
                .replace("/opt/ingest", str(environment))
                .replace("python -m pip", f"{sys.executable} -m pip")
            )
            subprocess.run(["sh", "-c", command], check=True, cwd=source, stdout=subprocess.DEVNULL)
            break
    return environment


def run_in(image: Path, *command: str) -> str:
    """Run a program of the image, with the dependencies of the environment the tests run in."""
    environment = {"PYTHONPATH": sysconfig.get_path("purelib"), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [image / "bin" / command[0], *command[1:]],
        check=True, capture_output=True, text=True, env=environment, cwd=image,
    )  # fmt: skip
    return done.stdout


def test_the_installed_command_answers(image: Path) -> None:
    assert "schema" in run_in(image, "ingest", "--help")
    assert "worker" in run_in(image, "ingest", "run", "--help").lower()


def test_the_installed_package_brings_its_migrations(image: Path) -> None:
    found = run_in(
        image,
        "python",
        "-c",
        "import ingest.migrate as m\n"
        "from ingest.migration_files import load_migrations as load\n"
        "for database in m.Database:\n"
        "    print(database, m.__file__, *(f.checksum for f in load(m.schema_folder(database))))",
    )
    for line, database in zip(found.splitlines(), Database, strict=True):
        name, module, *checksums = line.split()
        assert name == database
        assert Path(module).is_relative_to(image)
        assert checksums == [file.checksum for file in load_migrations(ROOT / "schema" / database)]
        assert checksums


async def health_check(port: int) -> int:
    """Run the image's HEALTHCHECK against *port* and return its exit code."""
    [arguments] = [arguments for name, arguments in instructions() if name == "HEALTHCHECK"]
    _, *command = json.loads(arguments.partition("CMD ")[2])
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        env={"INGEST_OBSERVE__HTTP_PORT": str(port)},
        stderr=asyncio.subprocess.DEVNULL,
    )
    async with asyncio.timeout(20):
        return await process.wait()


@pytest.mark.parametrize(("health", "exit_code"), [
    (Health(), 0),
    (Health(reasons=["database unreachable"]), 0),
    (Health(live=False), 1),
])  # fmt: skip
async def test_the_health_check_tells_whether_the_process_lives(health: Health, exit_code: int) -> None:
    server = HttpServer("127.0.0.1", 0, Metrics().registry, lambda: health)
    await server.start()
    try:
        assert await health_check(server.port) == exit_code
    finally:
        await server.stop()


async def test_the_health_check_fails_when_nobody_answers() -> None:
    assert await health_check(free_port()) == 1


def test_an_environment_whose_set_up_failed_is_made_anew(tmp_path: Path) -> None:
    for each in ("requirements", "pyproject.toml"):
        copy = shutil.copytree if (ROOT / each).is_dir() else shutil.copyfile
        copy(ROOT / each, tmp_path / each)
    left_behind = tmp_path / ".venv" / "bin"
    left_behind.mkdir(parents=True)
    (left_behind / "python").symlink_to(sys.executable)
    (left_behind.parent / ".incomplete").touch()
    done = subprocess.run(
        ["sh", "requirements/set-up.sh", "dev"],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHON": sys.executable, "PIP_NO_INDEX": "1"},
    )
    assert done.returncode == 1
    assert "making .venv" in done.stdout
    assert done.stderr.splitlines()[-1].startswith("installing requirements/dev.txt failed")
    assert (tmp_path / ".venv" / ".incomplete").exists()
    assert not list((tmp_path / ".venv").glob(".ready-*"))
