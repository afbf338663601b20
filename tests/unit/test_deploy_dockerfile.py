"""The Dockerfile without an engine: its instructions, read as the builder reads them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from ingest.settings import Settings
from tests.dockerfile import instructions

ROOT = Path(__file__).parents[2]


def of(name: str) -> list[str]:
    return [arguments for instruction, arguments in instructions() if instruction == name]


def final_stage() -> list[tuple[str, str]]:
    everything = instructions()
    last = max(index for index, (name, _) in enumerate(everything) if name == "FROM")
    return everything[last:]


def ignored(path: str) -> bool:
    """Tell whether .dockerignore keeps *path* from the builder (its lines are few and plain)."""
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert patterns[0] == "*"
    kept = [pattern.removeprefix("!") for pattern in patterns if pattern.startswith("!")]
    return not any(Path(path).match(pattern) or path.startswith(f"{pattern}/") for pattern in kept)


def test_bases_are_pinned_to_a_python_and_a_debian() -> None:
    assert len(of("FROM")) == 2
    for base in of("FROM"):
        assert re.fullmatch(r"python:3\.\d+-slim-[a-z]+( AS build)?", base)
    assert len({base.removesuffix(" AS build") for base in of("FROM")}) == 1


def test_what_is_copied_exists_and_reaches_the_builder() -> None:
    for arguments in of("COPY"):
        *sources, _ = arguments.split()
        if sources[0].startswith("--from="):
            assert sources[0] == "--from=build"
            continue
        for source in sources:
            assert (ROOT / source).exists(), source
            assert not ignored(source), source


def test_nothing_else_reaches_the_builder() -> None:
    for secret in ("secrets/broker_password", ".env", ".git/config", ".venv/pyvenv.cfg", "tests/servers.py"):
        assert ignored(secret), secret


def test_the_final_stage_installs_nothing_and_is_not_root() -> None:
    names = [name for name, _ in final_stage()]
    assert "RUN" not in names
    assert [arguments for name, arguments in final_stage() if name == "USER"] == ["10001:10001"]


def test_every_package_is_installed_from_a_hash_or_from_what_was_built() -> None:
    for command in " && ".join(of("RUN")).split("&&"):
        words = shlex.split(command)
        if "pip" in words and "install" in words:
            assert "--require-hashes" in words or {"--no-index", "--no-deps"} <= set(words)


def test_it_starts_the_worker_and_stops_it_as_it_wants_to_be_stopped() -> None:
    assert of("ENTRYPOINT") == ['["ingest"]']
    assert of("CMD") == ['["run"]']
    assert of("STOPSIGNAL") == ["SIGTERM"]


def test_the_port_exposed_is_the_default() -> None:
    assert of("EXPOSE") == [str(Settings().observe.http_port)]
