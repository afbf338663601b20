"""Recordings cut into pieces, and the point that a backfill leaves."""

from __future__ import annotations

import gzip
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from ingest.errors import RecordingError
from ingest.load import direct_point
from ingest.load.backfill import Account
from ingest.load.direct import pieces_of
from ingest.load.direct_point import DirectPoint
from ingest.load.recording import Damage, Recording, line_of, messages_of
from ingest.load.resume import Position
from tests.recordings import START_US, numbered, recorded, write

if TYPE_CHECKING:
    from pathlib import Path

    from ingest.model import Reason


def test_pieces_are_whole_blocks_of_one_file(tmp_path: Path) -> None:
    messages = numbered(1_000)
    first = write(tmp_path / "a.jsonl.gz", messages[:500], block=100)
    second = write(tmp_path / "b.jsonl.gz", messages[500:], block=100)
    with Recording(first, append=True) as recording:  # another header, in the middle of nothing
        recording.write(recorded({"SENSOR_01": 1}, 2_000))
    pieces = list(pieces_of([first, second], Position(), 200))
    assert [len(piece.blocks) for piece in pieces] == [2, 2, 2, 2, 2, 1]
    assert [piece.number for piece in pieces] == list(range(6))
    assert [piece.end.file for piece in pieces] == [0, 0, 0, 1, 1, 1]
    found = [message for piece in pieces for block in piece.blocks for message in messages_of(block.lines)[0]]
    assert found == [*messages[:500], recorded({"SENSOR_01": 1}, 2_000), *messages[500:]]
    assert pieces[-1].end_bytes == first.stat().st_size + second.stat().st_size
    for number, piece in enumerate(pieces[:-1]):
        rest = list(pieces_of([first, second], piece.end, 200))
        assert [each.blocks for each in rest] == [each.blocks for each in pieces[number + 1 :]]
        assert rest[-1].end_bytes == pieces[-1].end_bytes
    assert list(pieces_of([first, second], pieces[-1].end, 200)) == []


def test_a_point_is_kept_and_read_again(tmp_path: Path) -> None:
    files = [tmp_path / "a.jsonl.gz", tmp_path / "b.jsonl.gz"]
    path = direct_point.point_file(files)
    target = direct_point.target_of("postgresql://ingest:secret@db:5432/greenhouse?sslmode=require")
    assert (path.name, target) == ("a.jsonl.gz.direct", "db:5432/greenhouse")
    assert direct_point.read(path, files, target, (0, 0)) == DirectPoint(began_us=(0, 0))
    for file in files:
        file.write_bytes(bytes(100))
    account = Account(9, 1, 2, 8, 3, 2, 1, Counter({"bad_value": 2}), {"bad_value": "why"}, 4)
    point = DirectPoint(Position(1, 77), account, "/r.jsonl.gz", 123, 2, began_us=(0, 0))
    direct_point.write(path, point, files, target)
    assert "secret" not in path.read_text()
    assert direct_point.read(path, files, target, (0, 0)) == point
    for others, elsewhere in ((files[:1], target), (files, "db:5432/other")):
        with pytest.raises(RecordingError, match="is of another backfill"):
            direct_point.read(path, others, elsewhere, (0, 0))
    for text in ("", "[]", "{}", '{"position": [0]}'):
        path.write_text(text)
        with pytest.raises(RecordingError, match="is no resume point"):
            direct_point.read(path, files, target, (0, 0))


def test_a_point_is_of_what_the_files_hold(tmp_path: Path) -> None:
    files = [write(tmp_path / "a.jsonl.gz", numbered(20), block=5)]
    path = direct_point.point_file(files)

    def read() -> DirectPoint:
        return direct_point.read(path, files, "db", direct_point.began_of(files))

    point = DirectPoint(
        Position(0, files[0].stat().st_size), finished=True, began_us=direct_point.began_of(files)
    )
    assert point.began_us == (START_US,)
    direct_point.write(path, point, files, "db")
    assert read() == point
    with Recording(files[0], append=True) as recording:
        recording.write(recorded({"SENSOR_01": 1}, 2_000))
    assert read() == point._replace(finished=False), "a file that grew is the same, and not done"
    files[0].unlink()
    write(files[0], numbered(20)[:1])
    with pytest.raises(RecordingError, match="is shorter"):
        read()
    files[0].unlink()
    write(files[0], [recorded({"SENSOR_01": number}, 50 + number) for number in range(900)], block=5)
    with pytest.raises(RecordingError, match="other recordings of the same names"):
        read()


def test_a_file_begins_with_its_first_message(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl.gz", [])
    assert direct_point.began_of([path, tmp_path / "missing.jsonl.gz"]) == (0, 0)
    with path.open("ab") as file:
        file.write(gzip.compress(b"{}\nno message\n" + line_of(recorded(1, 7)) + line_of(recorded(1, 8))))
    assert direct_point.began_of([path]) == (START_US + 7,)


def test_a_torn_block_is_looked_at_again(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl.gz", numbered(20), block=10)
    last = list(pieces_of([path], Position(), 10))[-1].blocks[0]
    path.write_bytes(path.read_bytes()[:-5])
    assert list(pieces_of([path], Position(), 10))[-1].end == Position(0, last.offset)


def test_lines_are_of_the_block_they_stand_in(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl.gz", [])
    lines = [line_of(message) for message in numbered(4)]
    blocks = [
        gzip.compress(lines[0] + lines[1].rstrip()),  # of a hand, without its last line feed
        gzip.compress(b"{}\n" + lines[2] + b"nothing"),
        gzip.compress(b"\n" + lines[3] + b"[]\n"),
    ]
    offsets = [path.stat().st_size, path.stat().st_size + len(blocks[0])]
    path.write_bytes(path.read_bytes() + b"".join(blocks))
    (piece,) = pieces_of([path], Position(), 100)
    messages, faults = messages_of(piece.lines)
    assert messages == numbered(4)
    assert list(piece.damages_of(faults)) == [
        Damage(path, offsets[1], len(blocks[1]), "line 1 has no received_us (and 1 more)"),
        Damage(path, offsets[1] + len(blocks[1]), len(blocks[2]), "line 3 is no message"),
    ]
    assert list(piece.damages_of([])) == []


def test_an_account_adds_up_and_stays_as_it_was_copied() -> None:
    one: Counter[Reason] = Counter({"bad_value": 1})
    account = Account(2, decoded=2, written=1, rejected=one.copy(), examples={"bad_value": "first"})
    before = account.copied()
    account.add(Account(1, decoded=1, rejected=one, examples={"bad_value": "second"}))
    assert (account.messages, account.rejected, account.examples) == (
        3,
        {"bad_value": 2},
        {"bad_value": "first"},
    )
    assert (before.messages, before.rejected.total()) == (2, 1)
