"""A file that is whole or not there: what it replaces, what it is written straight into, and a full disk."""

from __future__ import annotations

import contextlib
import gzip
import os
import resource
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ingest.commands.load_reports import ReportFile
from ingest.errors import CheckFailed, ConfigurationError
from ingest.load.tables import Record, Rejects, Table
from ingest.load.whole_file import WholeFile
from ingest.model import Rejection
from tests.histories import lines, names_in
from tests.unit.measured_example import measured

if TYPE_CHECKING:
    from collections.abc import Iterator

TOO_MUCH = os.urandom(300_000)


@contextlib.contextmanager
def disk_of(size_bytes: int) -> Iterator[None]:
    """Let no file of this process grow beyond that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
@pytest.mark.parametrize("size", [1_000, len(TOO_MUCH)])
def test_a_disk_that_is_full_leaves_what_was_there(tmp_path: Path, name: str, size: int) -> None:
    path = lines(tmp_path / name, "of before")
    file = WholeFile(path)
    with disk_of(500), pytest.raises(CheckFailed, match=rf"{name}: cannot be written: File too large"):  # noqa: PT012 (at the latest when it is closed)
        with file.written():
            file.stream.write(TOO_MUCH[:size])
        file.close()
    assert not file.is_open
    file.discard()
    assert (names_in(tmp_path), path.read_text()) == ([name], "of before\n")


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_rejected_records_that_the_disk_does_not_take(tmp_path: Path, suffix: str) -> None:
    lines(tmp_path / f"a.{suffix}", "time,value" if suffix == "csv" else "{}")
    table = Table(tmp_path / f"a.{suffix}", file_format=None, delimiter=None, max_depth=9)
    long = "x" * 30_000
    record = Record(2, ["1", long] if suffix == "csv" else {"value": long})
    rejects = Rejects(tmp_path / f"r.{suffix}", [table])
    with disk_of(20_000), pytest.raises(CheckFailed, match=r"File too large"), rejects:
        rejects.write(table, record, Rejection("", "bad_value", "long"))
    assert names_in(tmp_path) == [f"a.{suffix}"]


def test_a_device_stays_one(tmp_path: Path) -> None:
    node = tmp_path / "null"
    node.symlink_to("/dev/null")
    for path in (Path("/dev/null"), node):
        file = WholeFile(path)
        file.stream.write(b"x")
        file.close()
        assert stat.S_ISCHR(path.stat().st_mode)
        assert not file.replaces
    file = WholeFile(Path("/dev/full"))
    with pytest.raises(CheckFailed, match="/dev/full: cannot be written: No space left on device"):  # noqa: PT012 (as above)
        with file.written():
            file.stream.write(b"x")
        file.close()


@pytest.mark.parametrize("name", ["pipe", "pipe.gz"])
@pytest.mark.parametrize("whole", [True, False])
def test_a_pipe_is_written_into(tmp_path: Path, name: str, *, whole: bool) -> None:
    path = tmp_path / name
    os.mkfifo(path)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(path.read_bytes()))
    reader.start()
    with WholeFile(path) as file:
        file.stream.write(TOO_MUCH)
        if whole:
            file.close()
    reader.join(10)
    assert stat.S_ISFIFO(path.stat().st_mode)
    if name == "pipe":
        assert read == [TOO_MUCH]
    elif whole:
        assert gzip.decompress(read[0]) == TOO_MUCH
    else:
        with pytest.raises(EOFError):
            gzip.decompress(read[0])
    assert names_in(tmp_path) == [name]


def test_a_reader_that_goes_away_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: path.open("rb").close())
    reader.start()
    file = WholeFile(path)
    reader.join(10)
    with pytest.raises(CheckFailed, match="Broken pipe"), file.written():
        file.stream.write(TOO_MUCH)


def test_what_a_link_leads_to_is_replaced(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    lines(there / "a.csv", "of before").chmod(0o640)
    link = tmp_path / "latest.csv"
    link.symlink_to("there/a.csv")
    with WholeFile(link) as file:
        file.stream.write(b"new")
        assert (there / "a.csv").read_text() == "of before\n"
        file.close()
    assert (link.is_symlink(), (there / "a.csv").read_text(), names_in(there)) == (True, "new", ["a.csv"])
    assert stat.S_IMODE(link.stat().st_mode) == 0o640, "for those who could read it before"
    with pytest.raises(ConfigurationError, match="Is a directory"):
        WholeFile(there)


def test_a_report_too_is_written_straight_into_a_device(tmp_path: Path) -> None:
    node = tmp_path / "null"
    node.symlink_to("/dev/full")
    report = ReportFile(node)
    with pytest.raises(CheckFailed, match="cannot be written: No space left on device"):
        report.write(measured())
    assert stat.S_ISCHR(node.stat().st_mode)
    assert node.is_symlink()
    ReportFile(tmp_path / "a.html").write(measured())
    assert names_in(tmp_path) == ["a.html", "null"]


def test_a_new_one_is_for_its_owner_alone(tmp_path: Path) -> None:
    table = Table(lines(tmp_path / "a.csv", "time,value"), file_format=None, delimiter=None, max_depth=9)
    made = [tmp_path / name for name in ("a.parquet", "r.csv", "a.html")]
    with WholeFile(made[0]) as file:
        unfinished = tmp_path / f".a.parquet.{os.getpid()}"
        assert stat.S_IMODE(unfinished.stat().st_mode) == 0o600, "from its first byte on"
        file.close()
    with Rejects(made[1], [table]):
        pass
    ReportFile(made[2]).write(measured())
    assert [stat.S_IMODE(path.stat().st_mode) for path in made] == [0o600] * 3
