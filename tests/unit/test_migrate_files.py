"""Migration files as values: names, order, checksums, statements, and a history compared with them."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import MigrationError
from ingest.migrate import Database, schema_folder
from ingest.migration_files import (
    Statement,
    examine,
    load_migrations,
    split_statements,
    version_key,
)

if TYPE_CHECKING:
    from pathlib import Path

APPLIED_AT = datetime(2025, 11, 17, 10, 15, tzinfo=UTC)


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.sql").write_text(text)
    return folder


def texts(sql: str) -> list[str]:
    return [statement.text for statement in split_statements(sql)]


def test_files_are_ordered_by_number(tmp_path: Path) -> None:
    write(tmp_path, V12__b="", V11_1__a_1="", V9__z="", V11__a="", V100__last="", U12__b="drop")
    migrations = load_migrations(tmp_path)
    assert [m.version for m in migrations] == ["9", "11", "11_1", "12", "100"]
    assert migrations[2].description == "a 1"


def test_checksum_is_of_the_bytes(tmp_path: Path) -> None:
    content = b"select 1;\r\n"
    (tmp_path / "V1__a.sql").write_bytes(content)
    assert load_migrations(tmp_path)[0].checksum == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("name", ["V1_a", "v1__a", "R__views", "V__a", "V1.x__a", "V1__a b"])
def test_other_names_are_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path, **{name: ""})
    with pytest.raises(MigrationError, match="is not named V<version>__<description>"):
        load_migrations(tmp_path)


def test_a_version_twice_is_refused(tmp_path: Path) -> None:
    write(tmp_path, **{"V11_1__a": "", "V11.1__b": ""})
    with pytest.raises(MigrationError, match="have the same version"):
        load_migrations(tmp_path)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MigrationError, match="the installation is incomplete"):
        load_migrations(tmp_path / "nowhere")


def test_the_header_says_when_there_is_no_transaction(tmp_path: Path) -> None:
    write(
        tmp_path,
        V1__inside="-- Purpose: a\n\nselect '\n-- transaction: none\n';",
        V2__outside="-- Purpose: b\n-- transaction: none\n\nselect 1;",
    )
    assert [m.transactional for m in load_migrations(tmp_path)] == [True, False]


def test_version_keys() -> None:
    assert version_key("11") < version_key("11_1") == version_key("11.1") < version_key("12")


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("", []),
        (" ;; -- nothing\n /* ; */ ;", []),
        ("select 1; select 2", ["select 1", "select 2"]),
        ("select ';'; select ''';'", ["select ';'", "select ''';'"]),
        (r"select '\'; select 2", [r"select '\'", "select 2"]),
        (r"select E'\';'; select e'a''\\'; select 3", [r"select E'\';'", r"select e'a''\\'", "select 3"]),
        ('select 1 as "a;""b"; select 2', ['select 1 as "a;""b"', "select 2"]),
        ("select $$a;$b$;$$; select 2", ["select $$a;$b$;$$", "select 2"]),
        ("do $x$ begin; $$;$$ end; $x$; select 2", ["do $x$ begin; $$;$$ end; $x$", "select 2"]),
        ("select a$b$ from t; select $1; select 1", ["select a$b$ from t", "select $1", "select 1"]),
        ("select /* a; /* b; */ c; */ 1; select 2", ["select /* a; /* b; */ c; */ 1", "select 2"]),
        ("select 1 -- it's;\n; select 2", ["select 1 -- it's;", "select 2"]),
        ("create rule r as on insert to t do (select 1; select 2); select 3",
         ["create rule r as on insert to t do (select 1; select 2)", "select 3"]),
        ("create or replace function f() returns t begin atomic select case when a then 1 end; end; select 2",
         ["create or replace function f() returns t begin atomic select case when a then 1 end; end",
          "select 2"]),
        ("create procedure p() begin atomic; insert into t select 1; end; select 2",
         ["create procedure p() begin atomic; insert into t select 1; end", "select 2"]),
        ("begin; select case when true then 1 end; end; select 2",
         ["begin", "select case when true then 1 end", "end", "select 2"]),
    ],
)  # fmt: skip
def test_statements(sql: str, expected: list[str]) -> None:
    assert texts(sql) == expected


def test_a_statement_knows_its_line() -> None:
    assert split_statements("-- header\n\nselect 1;\n\n-- why\nselect\n2;") == [
        Statement("-- header\n\nselect 1", 3),
        Statement("-- why\nselect\n2", 6),
    ]


@pytest.mark.parametrize("sql", ["select 'a", "select\n E'\\'", 'select "a', "do $$ begin", "do $a$ $b$"])
def test_an_open_quote_is_refused(sql: str) -> None:
    with pytest.raises(MigrationError, match=r"opened in line \d+ is never closed"):
        split_statements("\n" + sql)


def test_an_open_comment_is_refused() -> None:
    with pytest.raises(MigrationError, match="the comment opened in line 1 is never closed"):
        split_statements("select 1 /* /* */ ;")


_NOISE = st.text(alphabet="ab1 ;'\"$\\()-/*\n\té", max_size=12)
_PART = st.one_of(
    st.sampled_from(["select", "1", "a.b", "x$1", "+", "(1, 2)", "::text", "$1", "é"]),
    _NOISE.map(lambda text: "'" + text.replace("'", "''") + "'"),
    _NOISE.map(lambda text: "E'" + text.replace("\\", "\\\\").replace("'", r"\'") + "'"),
    _NOISE.map(lambda text: '"' + text.replace('"', '""') + '"'),
    _NOISE.map(lambda text: "$$" + text.replace("$", "") + "$$"),
    _NOISE.map(lambda text: "$tag$" + text.replace("$", "$$") + " $tag$"),
    _NOISE.map(lambda text: "--" + text.replace("\n", "") + "\n"),
    _NOISE.map(lambda text: "/*" + text.replace("*", "").replace("/", "") + "*/"),
)
_STATEMENT = st.lists(_PART, max_size=6).map(lambda parts: " ".join(["select", *parts]))


@given(st.lists(_STATEMENT, min_size=1, max_size=5))
def test_statements_joined_are_cut_where_they_were_joined(statements: list[str]) -> None:
    assert texts(";".join(statements)) == [statement.strip() for statement in statements]


@given(st.text(alphabet="abe;'\"$\\()-/*\n ", max_size=60))
def test_any_text_is_cut_without_loss_or_refused(sql: str) -> None:
    try:
        found = texts(sql)
    except MigrationError:
        return
    rest = sql
    for text in found:
        assert text.strip() == text != ""
        _, cut, rest = rest.partition(text)
        assert cut == text


@pytest.mark.parametrize("database", list(Database))
def test_every_shipped_file_is_cut_into_statements(database: Database) -> None:
    for migration in load_migrations(schema_folder(database)):
        sql = migration.path.read_text(encoding="utf-8")
        statements = split_statements(sql)
        assert len(statements) > 2, migration.path.name
        assert sum(statement.text.count(";") for statement in statements) + len(statements) == sql.count(";")


def history(**checksums: str) -> dict[str, tuple[str, str, datetime]]:
    return {version[1:]: ("told", checksum, APPLIED_AT) for version, checksum in checksums.items()}


def test_a_history_compared_with_the_files(tmp_path: Path) -> None:
    files = load_migrations(write(tmp_path, V1__a="a", V2__b="b", V2_1__c="c", V4__d="d", V5__e="e"))
    checksum = {file.version: file.checksum for file in files}
    states = examine(files, history(v1=checksum["1"], v2="0" * 64, v3="1" * 64, v4=checksum["4"]))
    assert [(state.version, state.state) for state in states] == [
        ("1", "applied"),
        ("2", "edited"),
        ("2_1", "out_of_order"),
        ("3", "missing"),
        ("4", "applied"),
        ("5", "pending"),
    ]
    assert [state.applied_at is None for state in states] == [False, False, True, False, False, True]
    edited = states[1].detail
    assert "V2__b.sql" in edited
    assert "0" * 64 in edited
    assert checksum["2"] in edited
    assert "restore the file" in edited


def test_a_new_database_has_all_pending(tmp_path: Path) -> None:
    files = load_migrations(write(tmp_path, V1__a="a", V2__b="b"))
    assert [state.state for state in examine(files, {})] == ["pending", "pending"]
