"""Migration files as values: order, checksums, statements, and how a history differs from them.

Pure but for reading the files: no database, no clock; migrate.py runs them. Owns the rules of Flyway's file
names and PostgreSQL's rules of where a statement ends; knows nothing of what the statements do.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from ingest.errors import MigrationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

State: TypeAlias = Literal["applied", "pending", "edited", "missing", "out_of_order"]


@dataclass(frozen=True, slots=True)
class Migration:
    """One file ``V<version>__<description>.sql``; ``checksum`` is the SHA-256 of its bytes, in hex."""

    version: str
    description: str
    path: Path
    checksum: str
    transactional: bool


@dataclass(frozen=True, slots=True)
class MigrationState:
    """Where one version stands. ``path`` is None when the history knows it and the files do not."""

    version: str
    description: str
    state: State
    applied_at: datetime | None
    path: Path | None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Statement:
    """One SQL statement without its semicolon, and the line of the file on which it begins."""

    text: str
    line: int


_FILE_NAME = re.compile(r"(?P<kind>[VU])(?P<version>\d+(?:[._]\d+)*)__(?P<description>\w+)\.sql", re.ASCII)
_NOT_TRANSACTIONAL = re.compile(r"^-- transaction: none[ \t]*\r?$", re.MULTILINE)


def version_key(version: str) -> tuple[int, ...]:
    """Return what versions are ordered by: 11 < 11_1 (also written 11.1) < 12.

    Raises MigrationError for what is no version.
    """
    if re.fullmatch(r"\d+([._]\d+)*", version, re.ASCII) is None:
        raise MigrationError(f"'{version}' is no version: give a number as in the files' names, 11 or 11_1")
    return tuple(int(part) for part in re.split(r"[._]", version))


def load_migrations(folder: Path, *, undo: bool = False) -> list[Migration]:
    """Return the migrations in *folder* by version, or with *undo* the files ``U...`` that take them back.

    Raises MigrationError for a folder without migrations, a name that is none, or a version given twice.
    """
    found: dict[tuple[int, ...], Migration] = {}
    for path in sorted(folder.glob("*.sql")):
        name = _FILE_NAME.fullmatch(path.name)
        if name is None:
            raise MigrationError(
                f"{path} is not named V<version>__<description>.sql: rename it or take it out"
            )
        if name["kind"] != ("U" if undo else "V"):
            continue
        content = path.read_bytes()
        header = content.decode().split("\n\n", 1)[0]
        key = version_key(name["version"])
        if key in found:
            raise MigrationError(f"{path.name} and {found[key].path.name} in {folder} have the same version")
        found[key] = Migration(
            version=name["version"],
            description=name["description"].replace("_", " "),
            path=path,
            checksum=hashlib.sha256(content).hexdigest(),
            transactional=_NOT_TRANSACTIONAL.search(header) is None,
        )
    if not found and not undo:
        raise MigrationError(f"{folder} holds no migrations: the installation is incomplete")
    return [found[key] for key in sorted(found)]


# PostgreSQL's lexer as far as it decides where a statement ends: scan.l, psqlscan.l for BEGIN ATOMIC.
_TOKEN = re.compile(
    r"""
    (?P<space> \s+ | --[^\n]* )
  | (?P<comment> /\* )
  | (?P<literal> [eE]'(?:[^'\\]|\\.|'')*+' | '(?:[^']|'')*+' | "(?:[^"]|"")*+" )
  | (?P<open> [eE]?' | " )
  | (?P<dollar> \$(?:[^\W\d]\w*)?\$ )
  | (?P<word> [^\W\d][\w$]*+ )
  | (?P<number> \d[\w$.]*+ )
  | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_ROUTINE = re.compile(r"create (or replace )?(function|procedure)\b")


def split_statements(sql: str) -> list[Statement]:
    """Cut *sql* at the semicolons that end statements; comments alone make none.

    Knows quotes, dollar quotes, nested comments, parentheses and ``begin atomic`` bodies. Raises
    MigrationError for a quote or comment that is never closed.
    """
    statements: list[Statement] = []
    start, first, nesting = 0, -1, 0
    words: list[str] = []
    for kind, text, begin in (*_tokens(sql), ("end", ";", len(sql))):
        if kind == "end" or (text == ";" and nesting <= 0):
            if first >= 0:
                statements.append(Statement(sql[start:begin].strip(), _line(sql, first)))
            start, first, nesting, words = begin + 1, -1, 0, []
            continue
        first = begin if first < 0 else first
        if kind == "word":
            words.append(text.lower())
            nesting += _nesting_by(words, nesting)
        elif kind == "other":
            nesting += (text == "(") - (text == ")")
    return statements


def _tokens(sql: str) -> Iterator[tuple[str, str, int]]:
    """Yield kind, text and position of what is neither space nor comment; of a dollar quote, its opening."""
    position = 0
    while token := _TOKEN.match(sql, position):
        kind, text, begin, position = str(token.lastgroup), token.group(), position, token.end()
        if kind == "comment":
            position = _end_of_comment(sql, begin)
        elif kind == "dollar":
            position = sql.find(text, position) + len(text)
        if kind == "open" or position < begin + len(text):
            raise MigrationError(f"the quote {text} opened in line {_line(sql, begin)} is never closed")
        if kind not in {"space", "comment"}:
            yield kind, text, begin


def _nesting_by(words: list[str], nesting: int) -> int:
    """Return how the latest of *words* changes the depth: only the body of a routine nests by words."""
    if _ROUTINE.match(" ".join(words[:4])) is None:
        return 0
    match words[-1]:
        case "atomic" if words[-2] == "begin":
            return 1
        case "case" if nesting:
            return 1
        case "end" if nesting:
            return -1
    return 0


def _end_of_comment(sql: str, begin: int) -> int:
    depth = 0
    for edge in _COMMENT_EDGE.finditer(sql, begin):
        depth += 1 if edge.group() == "/*" else -1
        if depth == 0:
            return edge.end()
    raise MigrationError(f"the comment opened in line {_line(sql, begin)} is never closed")


def _line(sql: str, position: int) -> int:
    return sql.count("\n", 0, position) + 1


def examine(files: list[Migration], history: dict[str, tuple[str, str, datetime]]) -> list[MigrationState]:
    """Compare *files* with *history* (version -> description, checksum, applied_at), by version."""
    states: list[MigrationState] = []
    latest = max((version_key(version) for version in history), default=())
    for file in files:
        state: State = "pending"
        applied_at, detail = None, ""
        if file.version in history:
            _, checksum, applied_at = history[file.version]
            state = "applied" if checksum == file.checksum else "edited"
            if state == "edited":
                detail = (
                    f"{file.path.name} was edited after it was applied (SHA-256 now {file.checksum}, "
                    f"applied {checksum}): restore the file and put the change into a new one"
                )
        elif version_key(file.version) < latest:
            state = "out_of_order"
            detail = (
                f"{file.path.name} comes before versions already applied and was not applied with them: "
                "give it a version after the last one"
            )
        states.append(MigrationState(file.version, file.description, state, applied_at, file.path, detail))
    known = {file.version for file in files}
    states += [
        MigrationState(
            version,
            description,
            "missing",
            applied_at,
            None,
            f"version {version} ({description}) was applied and its file is gone: "
            "install the release that has it, a newer one perhaps",
        )
        for version, (description, _, applied_at) in history.items()
        if version not in known
    ]
    return sorted(states, key=lambda state: version_key(state.version))
