"""SECURITY.md names a test for each of its claims: each of them exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "SECURITY.md").read_text()
NAMED = re.compile(r"`((?:tests/[\w/]+\.py)?)(?:::(\w+))?`")


def claims() -> list[tuple[str, str]]:
    """Give (file, test) as named; a test without a file belongs to the file named before it."""
    found: list[tuple[str, str]] = []
    file = ""
    for match in NAMED.finditer(TEXT):
        named_file, test = match.groups(default="")
        if not named_file and not test:
            continue
        file = named_file or file
        found.append((file, test))
    return found


def functions(file: Path) -> set[str]:
    return {
        node.name
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }


def test_every_test_named_exists() -> None:
    assert len(claims()) > 20
    missing = [
        f"{file}::{test}"
        for file, test in claims()
        if not (ROOT / file).is_file() or (test and test not in functions(ROOT / file))
    ]
    assert missing == []


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)]+)\)", TEXT)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_readme_leads_here() -> None:
    assert "](SECURITY.md)" in (ROOT / "README.md").read_text()
