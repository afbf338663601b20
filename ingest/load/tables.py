"""CSV and JSON Lines files, gzip'd or not: their records one by one, and those rejected written down again.

A record keeps what it was read from, so that a rejected one goes into a file of the same format, with its
reason, to be mended and imported again. Knows no field; memory is bounded by the longest line allowed.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import stat
import zlib
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections import deque
from typing import IO, TYPE_CHECKING, Any, Final, Literal, NamedTuple, Self, TypeAlias, cast

from ingest.decode.payload import parse_payload
from ingest.decode.values import Fault
from ingest.errors import CheckFailed, ConfigurationError
from ingest.load.json_values import dumped
from ingest.load.whole_file import WholeFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ingest.model import Rejection

FileFormat: TypeAlias = Literal["csv", "jsonl"]

MAX_LINE_BYTES: Final = 1_048_576
"""A longer one is no record, and only its beginning is kept."""
csv.field_size_limit(MAX_LINE_BYTES)
"""Of a cell; 128 KB else, and the metadata that `ingest export` writes may have more."""
_BEGINNING: Final = 1_000
REJECTED: Final = ("rejected_file", "rejected_line", "rejected_reason", "rejected_detail", "rejected_text")
"""What a file of rejected records has beside their own columns; no field of a reading is read from it."""

_SUFFIXES: Final[dict[str, FileFormat]] = {
    "csv": "csv",
    "tsv": "csv",
    "txt": "csv",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "json": "jsonl",
}
_DELIMITERS: Final = ",;\t|"
_PIPE: Final = "no file on disk, and an import reads each twice: write it into one first"
_NO_UTF_8: Final = "its first line is not UTF-8: `iconv -f {} -t UTF-8` makes it so"
_SEPARATOR = re.compile(r"sep=(.)\r?\n?", re.IGNORECASE)
"""The line that Excel takes the delimiter from, and writes no column into."""
_SURROGATE = re.compile("[\udc80-\udcff]")
"""What a byte that is no UTF-8 is read as."""


class Record(NamedTuple):
    """One record as it was read: the cells of a CSV row, a JSON object, or, with a *fault*, neither."""

    line: int
    """Where it begins, from 1."""
    content: Any
    fault: str | None = None
    size: int = 0
    """Of what was read, in bytes or characters: what it takes up while it is kept."""


class Table:
    """A file of records; each `records` reads it from its beginning."""

    def __init__(
        self, path: Path, *, file_format: FileFormat | None, delimiter: str | None, max_depth: int
    ) -> None:
        """Look at the format, and at the header of a CSV file. Raises ConfigurationError or CheckFailed."""
        self.path = path
        self.format = file_format or _format_of(path)
        self.header: list[str] = []
        """Of a CSV file."""
        self._header_line = 1
        self.delimiter = delimiter or ","
        self._max_depth = max_depth
        self._position: IO[bytes] | None = None
        self.bytes = 0
        """Of the file, as it is on disk."""
        try:
            found = path.stat()
            if not stat.S_ISREG(found.st_mode):
                raise ConfigurationError([f"{path}: {_PIPE}"])
            self.bytes = found.st_size
            if self.format == "csv":
                with self._opened() as stream:
                    self._read_header(_text_lines(stream), delimiter)
        except OSError as error:
            raise ConfigurationError([f"{path}: {error.strerror or error}"]) from error
        except (EOFError, zlib.error) as error:
            raise CheckFailed(f"{path}: damaged: {error}") from error
        self._text_at = self.header.index(REJECTED[4]) if REJECTED[4] in self.header else None

    def records(self) -> Iterator[Record]:
        """Read it. Raises CheckFailed where it cannot be read to its end."""
        line = 0
        try:
            with self._opened() as stream:
                for record in self._csv(stream) if self.format == "csv" else self._json(stream):
                    line = record.line
                    yield record
        except (OSError, EOFError, zlib.error) as error:  # gzip's BadGzipFile is an OSError
            raise CheckFailed(f"{self.path}: cannot be read after line {line}: {error}") from error

    def rejected_text(self, record: Record) -> object:
        """Give the text that a *record* without fault has from an earlier run, if this is a file of such."""
        if self.format == "jsonl":
            return record.content.get(REJECTED[4])
        return None if self._text_at is None else record.content[self._text_at]

    @property
    def bytes_read(self) -> int:
        """Give how far the file is read, as it is on disk."""
        return self.bytes if self._position is None or self._position.closed else self._position.tell()

    def _opened(self) -> IO[bytes]:
        raw = self.path.open("rb")
        self._position = raw
        if raw.peek(2)[:2] == b"\x1f\x8b":
            return cast("IO[bytes]", _Gzip(raw))
        return raw

    def _read_header(self, lines: Iterator[str], delimiter: str | None) -> None:
        first = next(lines, "")
        if separator := _SEPARATOR.fullmatch(first):
            self._header_line, delimiter = 2, delimiter or separator[1]
            first = next(lines, "")
        if not first.strip():
            raise ConfigurationError(
                [f"{self.path}: its first line is empty, where the columns' names belong"]
            )
        if _SURROGATE.search(first):
            is_utf_16 = first.encode("utf-8", "surrogateescape")[:2] in {BOM_UTF16_LE, BOM_UTF16_BE}
            said = _NO_UTF_8.format("UTF-16" if is_utf_16 else "WINDOWS-1252")
            raise ConfigurationError([f"{self.path}: {said}"])
        self.delimiter = delimiter or max(_DELIMITERS, key=first.count)
        try:
            self.header = next(csv.reader([first], delimiter=self.delimiter, strict=True))
        except csv.Error as error:
            raise ConfigurationError([f"{self.path}: its first line is no CSV: {error}"]) from error

    def _csv(self, stream: IO[bytes]) -> Iterator[Record]:
        lines = _Lines(stream)
        for _ in zip(range(self._header_line), lines, strict=False):
            pass
        lines.settle()
        rows = csv.reader(lines, delimiter=self.delimiter, strict=True)
        width = len(self.header)
        while True:
            line = lines.settled + 1
            try:
                cells = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                # Of a stray quote's lines only the first is in doubt: those it swallowed are read anew.
                text = lines.back_to_second()
                yield Record(line, [text], f"no CSV: {error}", len(text))
                rows = csv.reader(lines, delimiter=self.delimiter, strict=True)
                continue
            size = lines.settle()
            if len(cells) != width:
                if cells:  # an empty line is none
                    fault = f"{len(cells)} cells under a header of {width}"
                    yield Record(line, cells, fault, size)
            elif any(map(_SURROGATE.search, cells)):
                yield Record(line, cells, "not UTF-8", size)
            else:
                yield Record(line, cells, None, size)

    def _json(self, stream: IO[bytes]) -> Iterator[Record]:
        line = 0
        while text := stream.readline(MAX_LINE_BYTES):
            line += 1
            if len(text) == MAX_LINE_BYTES and not text.endswith(b"\n"):
                while (rest := stream.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                    pass
                fault = f"a line of {MAX_LINE_BYTES} bytes and more"
                yield Record(line, text[:_BEGINNING], fault, _BEGINNING)
            elif text.strip():
                record = parse_payload(text, self._max_depth)
                if isinstance(record, dict):
                    yield Record(line, record, None, len(text))
                else:
                    fault = str(record) if isinstance(record, Fault) else "no JSON object"
                    yield Record(line, text, fault, len(text))


class Rejects:
    """The file of rejected records, of one format; there under its name once all of it is written."""

    def __init__(self, path: Path, tables: Sequence[Table]) -> None:
        """Begin it; its columns are those of all *tables*. Raises ConfigurationError."""
        formats = {table.format for table in tables}
        if len(formats) > 1:
            raise ConfigurationError(["--rejected: CSV and JSON Lines go into two files; import them apart"])
        if any(path.exists() and path.samefile(table.path) for table in tables):
            raise ConfigurationError([f"--rejected: {path} is to be imported; give it another name"])
        self._format = formats.pop()
        self._columns = list(
            dict.fromkeys(name for table in tables for name in table.header if name not in REJECTED)
        )
        self._file = WholeFile(path)
        self._text = io.TextIOWrapper(
            self._file.stream, "utf-8", "surrogateescape", newline="", write_through=True
        )
        self._csv = csv.writer(self._text, delimiter=tables[0].delimiter)
        if self._format == "csv":
            with self._file.written():
                self._csv.writerow([*self._columns, *REJECTED])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Put it under its name; what there is of it also where somebody stopped or the database is away.

        Raises CheckFailed where the file system does not take it.
        """
        if self._file.is_open:
            with self._file.written():
                self._text.detach()
            self._file.close()

    def write(self, table: Table, record: Record, rejection: Rejection) -> None:
        """Write *record* down with its reason. Raises CheckFailed: it then has nothing of it."""
        with self._file.written():
            self._write(table, record, rejection)

    def _write(self, table: Table, record: Record, rejection: Rejection) -> None:
        told: tuple[str, int, str, str] = (
            str(table.path),
            record.line,
            rejection.reason,
            rejection.detail,
        )
        if self._format == "jsonl":
            content = record.content
            kept = content if isinstance(content, dict) else {REJECTED[4]: content.decode("utf-8", "replace")}
            kept = {name: cell for name, cell in kept.items() if name not in REJECTED[:4]}
            self._file.stream.write(dumped({**kept, **dict(zip(REJECTED, told, strict=False))}) + b"\n")
        elif len(record.content) != len(table.header):
            text = table.delimiter.join(record.content)
            self._csv.writerow([*("" for _ in self._columns), *told, text])
        else:
            cells = dict(zip(table.header, record.content, strict=True))
            text = cells.get(REJECTED[4], "")
            self._csv.writerow([*(cells.get(name, "") for name in self._columns), *told, text])


class _Lines:
    """The lines of a CSV file, of which those since the last record can be read again."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.settled = 0
        """How many belong to what came before."""
        self._fresh = _text_lines(stream)
        self._again: deque[str] = deque()
        self._since: list[str] = []

    def __iter__(self) -> Iterator[str]:
        while line := self._again.popleft() if self._again else next(self._fresh, ""):
            self._since.append(line)
            yield line

    def settle(self) -> int:
        """Give how many characters the lines of the record had."""
        self.settled += len(self._since)
        size = sum(map(len, self._since))
        self._since.clear()
        return size

    def back_to_second(self) -> str:
        """Give the first line since the last record, without its end; the second is the next to be read."""
        first, *others = self._since
        self._again.extendleft(reversed(others))
        self._since.clear()
        self.settled += 1
        return first.rstrip("\r\n")


class _Gzip(gzip.GzipFile):
    """Closes the file below it, too."""

    def __init__(self, raw: IO[bytes]) -> None:
        super().__init__(fileobj=raw, mode="rb")
        self._raw_file = raw

    def close(self) -> None:
        super().close()
        self._raw_file.close()


def _format_of(path: Path) -> FileFormat:
    suffixes = [suffix.lower().removeprefix(".") for suffix in path.suffixes]
    if suffixes and suffixes[-1] in {"gz", "gzip"}:
        suffixes.pop()
    found = _SUFFIXES.get(suffixes[-1]) if suffixes else None
    if found is None:
        raise ConfigurationError(
            [f"{path}: its name does not tell the format (.csv, .jsonl, each with or without .gz): --format"]
        )
    return found


def _text_lines(stream: IO[bytes]) -> Iterator[str]:
    """Give the lines with their ends; what is no UTF-8 as surrogates, which go back as they were."""
    number = 0
    while line := stream.readline(MAX_LINE_BYTES):
        number += 1
        if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
            raise CheckFailed(f"line {number} has {MAX_LINE_BYTES} bytes and more: this is no CSV file")
        text = line.decode("utf-8", "surrogateescape")
        yield text.removeprefix("\ufeff") if number == 1 else text
