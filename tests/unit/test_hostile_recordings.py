"""A recording that somebody made to hurt whoever reads it: it costs what its size warrants, and no more."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from ingest.errors import RecordingError
from ingest.load import members, recording
from ingest.load.members import compressed
from ingest.load.recording import Damage, Recorded, Recording, messages_of, read
from tests.unit.test_recording import messages, read_all, write

MIB = 1 << 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give a file of ten messages."""
    path = tmp_path / "a.jsonl.gz"
    write(path, messages(10))
    return path


def add(path: Path, *data: bytes) -> int:
    """Put *data* behind what is in the file; give where it begins."""
    offset = path.stat().st_size
    with path.open("ab") as file:
        file.write(b"".join(data))
    return offset


def raw_bomb(size_bytes: int) -> bytes:
    """Give so many blanks as a stream without header, and without end."""
    bomb = zlib.compressobj(wbits=-15)
    return bomb.compress(b" " * size_bytes) + bomb.flush(zlib.Z_FULL_FLUSH)


def lookalikes(count: int, bomb: bytes) -> bytes:
    """Give *count* places that begin as a block does, each of which leads into the same *bomb*."""
    header = compressed(b"")[:10]
    made = b""
    for number in range(count):
        rest = (count - 1 - number) * (len(header) + 5)  # a stored block over all that follow
        made += header + b"\0" + struct.pack("<HH", rest, rest ^ 0xFFFF)
    return made + bomb


def test_thousands_of_places_that_lead_into_one_bomb_are_given_up(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members, "_MOST_IN_VAIN_BYTES", 8 * MIB)
    offset = add(path, lookalikes(4_000, raw_bomb(MIB)))
    add(path, compressed(b'{"received_us": 1, "topic": "a", "payload": "behind"}\n'))
    found, (damage,) = read_all(path)
    assert found == messages(10)
    assert (damage.offset, damage.length) == (offset, path.stat().st_size - offset)
    assert damage.reason.endswith("; the rest of the file is given up, 8 MiB were read in vain")


def test_a_few_of_them_cost_nothing_behind_them(path: Path) -> None:
    offset = add(path, lookalikes(20, raw_bomb(MIB)))
    end = add(path, compressed(b'{"received_us": 1, "topic": "a", "payload": "behind"}\n'))
    found, damages = read_all(path)
    assert found == [*messages(10), Recorded(1, "a", b"behind")]
    assert [(each.offset, each.length) for each in damages] == [(offset, end - offset)]


def test_what_is_behind_a_block_that_is_too_large_is_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members, "_MOST_BLOCK_BYTES", 2 * MIB)
    large = compressed(b" " * (3 * MIB))
    first = add(path, large)
    second = add(path, large)
    add(path, compressed(b'{"received_us": 1, "topic": "a", "payload": "behind"}\n'))
    found, damages = read_all(path)
    assert found == [*messages(10), Recorded(1, "a", b"behind")]
    reason = "a block of more than 2 MiB of lines"
    assert damages == [Damage(path, each, len(large), reason) for each in (first, second)]


@pytest.mark.parametrize("separator", [b"", b"\n"])
def test_a_block_of_more_objects_than_memory_is_to_hold_is_refused(path: Path, separator: bytes) -> None:
    """By a process that may have no more than half of the memory that they would take."""
    add(path, compressed(b"[],%s" % separator * (40 * MIB // (3 + len(separator)))))
    limited = "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
    script = "import pathlib; from ingest.load.recording import read; print(*read(pathlib.Path(sys.argv[1])))"
    ran = subprocess.run(
        [sys.executable, "-c", limited + script, str(path)], capture_output=True, text=True, check=False
    )
    assert ran.stderr == ""
    assert "a block of more than 16 MiB of lines without the texts in them" in ran.stdout


def test_a_large_text_is_no_object_but_one(path: Path) -> None:
    payload = b'{"a": [[], "\\"], ' * MIB
    block = compressed(recording.line_of(Recorded(1, "a", payload)))
    add(path, block)
    assert read_all(path) == ([*messages(10), Recorded(1, "a", payload)], [])


def test_a_text_ends_with_its_line() -> None:
    lines = b'x"\n{"a": %s}\n' % (b"[]," * 6 * MIB)
    assert members._is_overfull(lines)  # noqa: SLF001 - one quote more, and all of it would be a text
    assert messages_of(b'{"received_us":1,"topic":"a","payload":"x\n","qos":1,"retain":false}\n')[0] == []


def test_many_lines_are_read_as_few_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "_AT_ONCE_BYTES", 500)
    written = messages(50)
    lines = b"".join(map(recording.line_of, written))
    long = recording.line_of(Recorded(7, "a", b"x" * 2_000))
    found, faults = messages_of(lines + b"no line\n" + long + b"none either")
    assert found == [*written, Recorded(7, "a", b"x" * 2_000)]
    assert [str(each).partition(":")[0] for each in faults] == ["line 51 is no JSON", "line 53 is no JSON"]


def test_what_is_no_regular_file_is_neither_read_nor_written(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.jsonl.gz"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero")):
        with pytest.raises(RecordingError, match=f"{path} is no regular file"):
            list(read(path))
        with pytest.raises(RecordingError, match=f"{path} is no regular file"):
            Recording(path, append=True)


@pytest.mark.parametrize("end", ["too large", "damaged", "other bytes"])
def test_nothing_is_cut_off_that_no_killed_writer_leaves(
    path: Path, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members, "_MOST_BLOCK_BYTES", 2 * MIB)
    block = compressed(b" " * (3 * MIB))
    add(path, {"too large": block, "damaged": block[:-8] + bytes(8), "other bytes": b"notes"}[end])
    content = path.read_bytes()
    with pytest.raises(RecordingError, match="nothing is written behind damage: "):
        Recording(path, append=True)
    assert path.read_bytes() == content


def test_a_header_alone_at_the_end_does_not_turn_time_back(path: Path) -> None:
    last_us = messages(10)[-1].received_us
    for _ in range(2):
        with Recording(path, append=True) as file:
            assert file.last_us == last_us


@pytest.mark.parametrize("first", [True, False])
def test_messages_with_and_without_names_are_not_mixed(tmp_path: Path, *, first: bool) -> None:
    path = tmp_path / "a.jsonl.gz"
    write(path, messages(3), about={"anonymised": first})
    merged = tmp_path / "merged.jsonl.gz"
    write(merged, [], about={"anonymised": not first})
    lines = b"".join(piece.lines for piece in recording.members(path) if not isinstance(piece, Damage))
    add(merged, compressed(messages_line() + lines))
    for place, about in ((path, not first), (merged, not first), (merged, first)):
        content = place.read_bytes()
        with pytest.raises(RecordingError, match=f"{place} holds .*: take another file"):
            Recording(place, append=True, about={"anonymised": about})
        assert place.read_bytes() == content
    write(path, messages(1, first=5), append=True, about={"anonymised": first})
    assert len(read_all(path)[0]) == 4


def messages_line() -> bytes:
    return recording.line_of(messages(1)[0])
