"""ARCHITECTURE.md's failure table names the test of each row: every one of them has to be there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEST = re.compile(r"`(test_\w+\.py)::(test_\w+)`")


def table() -> list[list[str]]:
    """Give the rows under "Failures", without heading and rule, as lists of cells."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").partition("\n## Failures\n")[2]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def named_in(module: str) -> set[str]:
    """Give the test functions of a module, wherever below tests/ it lies."""
    (path,) = (ROOT / "tests").glob(f"*/{module}")
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, functions)}


def test_every_row_names_tests_that_exist() -> None:
    heading, _, *rows = table()
    assert heading == [
        "what fails",
        "what the worker does",
        "what the operator sees",
        "lost",
        "tried by",
    ]
    assert len(rows) > 10
    for row in rows:
        assert len(row) == len(heading), row
        named = TEST.findall(row[-1])
        assert named, f"{row[0]}: no test"
        assert TEST.sub("", row[-1]).replace(",", "").strip() == "", f"{row[0]}: {row[-1]}"
        for module, test in named:
            assert test in named_in(module), f"{row[0]}: {module} has no {test}"


def test_what_the_operator_sees_is_said_somewhere_in_the_code() -> None:
    """A log event, metric or view that was renamed is renamed in the table, too."""
    sources = "".join(
        path.read_text(encoding="utf-8")
        for folder, pattern in (("ingest", "*.py"), ("schema", "*.sql"))
        for path in (ROOT / folder).rglob(pattern)
        if "node_modules" not in path.parts
    )
    _, _, *rows = table()
    for row in rows:
        for name in re.findall(r"`([^`]+)`", row[2]):
            bare = re.sub(r"\{.*\}| \d+", "", name)
            assert bare in sources, f"{row[0]}: {name}"
