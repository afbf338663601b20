"""The lock files: complete for pyproject.toml, every file hashed, agreeing, and free of addresses."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUNTIME = PROJECT["project"]["dependencies"]
EMBEDDED = [*RUNTIME, *PROJECT["project"]["optional-dependencies"]["embedded"]]
WANTED = {
    "build": PROJECT["build-system"]["requires"],
    "runtime": RUNTIME,
    "embedded": EMBEDDED,
    "dev": [*EMBEDDED, *PROJECT["dependency-groups"]["dev"]],
    "bench": PROJECT["dependency-groups"]["bench"],
}


def locked(name: str) -> dict[str, Version]:
    """Return package -> version of requirements/<name>.txt, having seen that each has its hashes."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    entries = re.sub(r"\\\n\s*", "", text).splitlines()
    found: dict[str, Version] = {}
    for entry in entries:
        if entry.startswith("#"):
            continue
        requirement, *hashes = entry.split("--hash=")
        assert hashes, entry
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64} ?", each) for each in hashes), entry
        pinned = Requirement(requirement)
        [specifier] = pinned.specifier
        assert specifier.operator == "==", entry
        found[canonicalize_name(pinned.name)] = Version(specifier.version)
    return found


every_lock = pytest.mark.parametrize("name", WANTED)


@every_lock
def test_what_pyproject_asks_for_is_locked_at_a_version_it_allows(name: str) -> None:
    versions = locked(name)
    for text in WANTED[name]:
        wanted = Requirement(text)
        assert wanted.specifier.contains(versions[canonicalize_name(wanted.name)]), f"{text}: run `make lock`"


@every_lock
def test_no_address_or_path_is_in_a_lock(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    assert not re.search(
        r"://|--find-links|--index|--extra-index|^-|/", text.partition("\n")[2], re.MULTILINE
    )


def test_the_locks_agree_so_that_one_environment_takes_them_all() -> None:
    everything = locked("dev")
    assert locked("runtime").items() <= locked("embedded").items() <= everything.items()
    assert not locked("build").keys() & everything.keys()
    bench = locked("bench")
    assert {name: everything[name] for name in bench.keys() & everything.keys()}.items() <= bench.items()
