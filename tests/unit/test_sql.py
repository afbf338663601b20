"""What every SQL file and every query in the package keeps to."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import ingest
from ingest.migrate import Database, schema_folder
from ingest.migration_files import load_migrations, split_statements

PACKAGE = Path(ingest.__file__).parent
SCHEMA = schema_folder(Database.METADATA).parent
MIGRATIONS = [file.path for database in Database for file in load_migrations(schema_folder(database))]
ALL_FILES = sorted(SCHEMA.rglob("*.sql"))
SQL_START = re.compile(
    r"\s*(select\s|insert\s+into|update\s+\S+\s+set|delete\s+from|create\s+(or|table|index|unique|schema|temp)"
    r"|alter\s+(table|index)|drop\s+\w+\s|copy\s|truncate\s|call\s|with\s+\w+\s+as\s*(materialized\s*)?\()",
    re.IGNORECASE,
)
ROW = re.compile(r"^    \((\d+), '([^']*)'", re.MULTILINE)
# Gone, or on their way out, in TimescaleDB 2.20 and later.
DEPRECATED = (
    "add_compression_policy",
    "remove_compression_policy",
    "timescaledb.compress",
    "compressed_chunk_stats",
    "chunks.total_bytes",
    "set_integer_now",
    "add_dimension(",
    "transaction_per_chunk",
)


def bare(sql: str) -> str:
    """Return *sql* without comments and without what is quoted."""
    return re.sub(r"--[^\n]*|'(?:[^']|'')*'|\$(\w*)\$.*?\$\1\$", " ", sql, flags=re.DOTALL)


@pytest.mark.parametrize("path", MIGRATIONS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_the_header_says_what_an_operator_asks(path: Path) -> None:
    header = path.read_text(encoding="utf-8").split("\n\n", 1)[0].splitlines()
    assert all(line.startswith("--") for line in header)
    text = "\n".join(header)
    for heading in ("-- Purpose:", "-- Locks:", "-- Time:", "-- Undo:"):
        assert heading in text, f"{path.name} has no '{heading}'"


@pytest.mark.parametrize("path", ALL_FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_sql_is_lower_case_and_narrow(path: Path) -> None:
    sql = path.read_text(encoding="utf-8")
    assert "\t" not in sql
    assert "\r" not in sql
    assert sql.endswith((";\n", "-- timescaledb: end\n"))
    assert max(len(line) for line in sql.splitlines()) <= 130
    assert not re.findall(
        r"\b(SELECT|CREATE|INSERT|UPDATE|DELETE|ALTER|FROM|WHERE|TABLE|NOT NULL)\b", bare(sql)
    )


@pytest.mark.parametrize("path", MIGRATIONS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_constraint_has_a_name(path: Path) -> None:
    for statement in split_statements(path.read_text(encoding="utf-8")):
        if "create table" not in statement.text:
            continue
        for line in bare(statement.text).splitlines():
            if re.search(r"\b(primary key|unique|references|check|foreign key)\b", line):
                assert re.search(r"\bconstraint \w+\b", line) or line.startswith("        references"), line


@pytest.mark.parametrize("path", ALL_FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_nothing_timescaledb_dropped_is_used(path: Path) -> None:
    sql = path.read_text(encoding="utf-8")
    assert [name for name in DEPRECATED if name in sql] == []


@pytest.mark.parametrize("path", MIGRATIONS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_database_never_refers_to_the_other(path: Path) -> None:
    other = "iot" if path.parent.name == Database.METADATA else "metadata"
    references = re.findall(rf"\b(?:from|join|into|on|update|references|table|view)\s+{other}\.\w+", bare(
        path.read_text(encoding="utf-8")
    ))  # fmt: skip
    assert references == []


@pytest.mark.parametrize("path", MIGRATIONS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_timescaledb_statements_are_marked(path: Path) -> None:
    sql = path.read_text(encoding="utf-8")
    marks = re.findall(r"^-- timescaledb: (\w+)$", sql, re.MULTILINE)
    assert marks == ["begin", "end"] * (len(marks) // 2)
    outside = re.sub(
        r"^-- timescaledb: begin$.*?^-- timescaledb: end$", "", sql, flags=re.MULTILINE | re.DOTALL
    )
    assert not re.findall(
        r"create_hypertable|add_\w+_policy|remove_\w+_policy|timescaledb\.|add_job|extension", bare(outside)
    )


def rows(database: Database, version: str, table: str) -> list[tuple[int, str]]:
    (path,) = schema_folder(database).glob(f"V{version}__*.sql")
    sql = path.read_text(encoding="utf-8")
    (values,) = re.findall(rf"insert into {re.escape(table)} \([^)]*\) values\n(.*?);\n", sql, re.DOTALL)
    return [(int(row_id), name) for row_id, name in ROW.findall(values)]


@pytest.mark.parametrize(("table", "count"), [("units", 11), ("sensor_types", 11)])
def test_both_databases_hold_the_same_catalogs(table: str, count: int) -> None:
    source = rows(Database.METADATA, "12", f"metadata.{table}")
    assert source == rows(Database.TIMESERIES, "11_1", f"iot.{table}")
    assert [row_id for row_id, _ in source] == list(range(1, count + 1))


def test_the_catalogs_hold_62_rows() -> None:
    counts = {
        table: len(rows(Database.METADATA, "12", f"metadata.{table}"))
        for table in (
            "units",
            "sensor_types",
            "actuator_types",
            "actuator_states",
            "alert_severities",
            "alert_types",
        )
    }
    assert list(counts.values()) == [11, 11, 14, 9, 4, 13]
    assert sum(counts.values()) == 62


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_no_query_is_put_together_from_strings(path: Path) -> None:
    """No f-string, %, + or .format() begins like a statement."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.JoinedStr(values=[ast.Constant(value=str(start)), _, *_]):
                text = start
            case ast.BinOp(left=ast.Constant(value=str(start)), op=ast.Mod() | ast.Add()):
                text = start
            case ast.Call(func=ast.Attribute(value=ast.Constant(value=str(start)), attr="format")):
                text = start
            case _:
                continue
        if SQL_START.match(text):
            found.append(f"{path.name}:{node.lineno}: {text[:60]!r}")
    assert found == []
