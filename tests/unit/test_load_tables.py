"""Files of records: CSV in its dialects, JSON Lines, gzip, and bytes that are neither."""

from __future__ import annotations

import gzip
import os
from typing import TYPE_CHECKING, Any

import pytest

from ingest.errors import CheckFailed, ConfigurationError
from ingest.load.tables import MAX_LINE_BYTES, Record, Rejects, Table
from ingest.model import Rejection

if TYPE_CHECKING:
    from pathlib import Path


def table(path: Path, content: bytes, **options: Any) -> Table:  # noqa: ANN401 (Table's own)
    path.write_bytes(content)
    return Table(path, **{"file_format": None, "delimiter": None, "max_depth": 16, **options})


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "A.TXT", "a.tsv"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_in_its_dialects(tmp_path: Path, name: str, delimiter: str) -> None:
    text = '\ufeffa,"b ""x"""\r\n1,"two\nlines"\r\n\r\n3,4'.replace(",", delimiter).encode()
    found = table(tmp_path / name, gzip.compress(text) if name.endswith("gz") else text)
    assert (found.format, found.delimiter, found.header) == ("csv", delimiter, ["a", 'b "x"'])
    for _ in range(2):  # each pass from the beginning
        assert list(found.records()) == [
            Record(2, ["1", "two\nlines"], None, 15),
            Record(5, ["3", "4"], None, 3),
        ]
    assert found.bytes_read == found.bytes


def test_what_is_no_row(tmp_path: Path) -> None:
    long = b"x" * 600_000 + b"\n"
    found = table(tmp_path / "a.csv", b'a,b\n1\n1,2,3\n\xff,2\n"' + 2 * long + b",1\n5,6\n")
    assert [(record.line, record.fault) for record in found.records()] == [
        (2, "1 cells under a header of 2"),
        (3, "3 cells under a header of 2"),
        (4, "not UTF-8"),
        (5, "no CSV: field larger than field limit (1048576)"),
        (6, "1 cells under a header of 2"),
        (7, None),
        (8, None),
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_stray_quote_costs_its_own_line_only(tmp_path: Path, end: str) -> None:
    text = ["a,b,c", 't1,1,"abc', "t2,2,x", 't3,3,"def"', 't4,"4', '",y', 't5,5,"z', "t6,6,", ""]
    first = table(tmp_path / "a.csv", end.join(text).encode())
    records = list(first.records())
    assert [(record.line, record.content) for record in records] == [
        (2, ['t1,1,"abc']),
        (3, ["t2", "2", "x"]),
        (4, ["t3", "3", "def"]),
        (5, ["t4", f"4{end}", "y"]),
        (7, ['t5,5,"z']),
        (8, ["t6", "6", ""]),
    ]
    assert [record.line for record in records if record.fault is not None] == [2, 7]
    path = tmp_path / "r.csv"
    with Rejects(path, [first]) as rejects:
        rejects.write(first, records[0], Rejection("", "bad_payload", "why"))
    (again,) = table(path, path.read_bytes()).records()
    assert again.content[-1] == 't1,1,"abc', "what is no CSV is kept as it was read"


def test_many_stray_quotes_are_read_in_one_go(tmp_path: Path) -> None:
    found = table(tmp_path / "a.csv", b"a,b\n" + b'1,"x\n2,y\n' * 5_000)
    records = list(found.records())
    assert [record.line for record in records] == list(range(2, 10_002))
    assert [record.fault is None for record in records] == [False, True] * 5_000


def test_json_lines(tmp_path: Path) -> None:
    long = b'{"a": "' + b"x" * MAX_LINE_BYTES * 2 + b'"}\n'
    found = table(tmp_path / "a.json", b'{"a": 1}\n\n[]\n{"a": NaN}\n' + long + b'\xff\n{"a": 2}')
    records = list(found.records())
    assert [(record.line, record.fault is None) for record in records] == [
        (1, True), (3, False), (4, True), (5, False), (6, False), (7, True),
    ]  # fmt: skip
    assert records[-1].content == {"a": 2}
    assert long.startswith(records[3].content)
    assert 0 < len(records[3].content) < 10_000, "enough to be rejected again, not to fill a disk"
    assert "not UTF-8" in (records[4].fault or "")


def test_formats_told_by_name_or_by_word(tmp_path: Path) -> None:
    assert table(tmp_path / "a.jsonl.gz", b"").format == "jsonl"
    assert table(tmp_path / "a.dat", b'{"a": 1}', file_format="jsonl").format == "jsonl"
    assert table(tmp_path / "b.csv", b"a:b\n", delimiter=":").header == ["a", "b"]
    for content in (b"", b"\n1,2\n", b"\xff,b\n", b'a,"b\n1,2\n', b"a\rb\n"):
        with pytest.raises(ConfigurationError, match="its first line is"):
            table(tmp_path / "c.csv", content)
    with pytest.raises(ConfigurationError, match="does not tell the format"):
        table(tmp_path / "d", b"")


def test_damage_is_told_by_line(tmp_path: Path) -> None:
    text = b"a,b\n" + b"".join(b"%d,%d\n" % (number, number * 7919) for number in range(20_000))
    whole = gzip.compress(text, mtime=0)
    found = table(tmp_path / "a.csv.gz", whole[:-2_000])
    with pytest.raises(CheckFailed, match=r"a.csv.gz: cannot be read after line \d{3,}"):
        list(found.records())
    with pytest.raises(CheckFailed, match="damaged"):
        table(tmp_path / "b.csv.gz", whole[:10])


@pytest.mark.parametrize("cell", ["ümläut", "a;b", 'q"q', "two\nlines", "\udcff"])
def test_a_rejected_row_goes_out_as_it_came(tmp_path: Path, cell: str) -> None:
    quoted = '"' + cell.replace('"', '""') + '"'
    text = f"a;b\n{quoted};2\n".encode("utf-8", "surrogateescape")
    first = table(tmp_path / "a.csv", text)
    path = tmp_path / "r.csv"
    with Rejects(path, [first]) as rejects:
        for record in first.records():
            rejects.write(first, record, Rejection("", "bad_value", "why; so"))
    again = table(path, path.read_bytes())
    (record,) = again.records()
    assert record.content == [cell, "2", str(first.path), "2", "bad_value", "why; so", ""]


def test_the_files_that_excel_makes(tmp_path: Path) -> None:
    text = "sep=;\r\nZeit;Höhe\r\n1;2,5\r\n"
    found = table(tmp_path / "a.csv", f"\ufeff{text}".encode())
    assert (found.delimiter, found.header) == (";", ["Zeit", "Höhe"])
    assert [each[:2] for each in found.records()] == [(3, ["1", "2,5"])]
    for encoding, name in (("cp1252", "WINDOWS-1252"), ("utf-16", "UTF-16")):
        with pytest.raises(ConfigurationError, match=f"is not UTF-8: `iconv -f {name} -t UTF-8` makes it so"):
            table(tmp_path / "a.csv", text.partition("\n")[2].encode(encoding))


def test_what_cannot_be_read_twice_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(ConfigurationError, match="an import reads each twice: write it into one first"):
        Table(tmp_path / "a.csv", file_format=None, delimiter=None, max_depth=16)
    found = table(tmp_path / "b.csv", b"a,b\n1,2\n")
    (tmp_path / "b.csv").write_bytes(b"")
    assert list(found.records()) == [], "cut off since it was looked at"
