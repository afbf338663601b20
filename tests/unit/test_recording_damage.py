"""A damaged recording: what is whole is read, the rest is named by its offset."""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.errors import RecordingError
from ingest.load import members
from ingest.load.recording import Block, Damage, Recorded, Recording, read
from tests.fuzzing import examples
from tests.unit.test_recording import messages, read_all, write

if TYPE_CHECKING:
    from pathlib import Path

BLOCKS = 6


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give a file of six blocks of ten messages behind its header."""
    path = tmp_path / "a.jsonl.gz"
    write(path, messages(10 * BLOCKS), block_messages=10)
    return path


def blocks_of(path: Path) -> list[Block]:
    return [each for each in read(path) if isinstance(each, Block)]


def spoil(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def without(*blocks: int) -> list[Recorded]:
    """Give the messages of the file but for those of *blocks*, which count from 1."""
    return [each for i, each in enumerate(messages(10 * BLOCKS)) if i // 10 + 1 not in blocks]


@pytest.mark.parametrize("place", ["beginning", "middle", "checksum", "length"])
def test_a_damaged_block_costs_itself(path: Path, place: str) -> None:
    block = blocks_of(path)[3]
    at = {
        "beginning": 0,
        "middle": block.length // 2,
        "checksum": block.length - 8,
        "length": block.length - 1,
    }
    spoil(path, block.offset + at[place], b"\x55\xaa\x55"[: 3 if place == "middle" else 1])
    read_messages, damages = read_all(path)
    assert read_messages == without(3)
    assert [(each.path, each.offset, each.length) for each in damages] == [(path, block.offset, block.length)]
    assert f"{path}: {block.length} bytes at offset {block.offset}: " in str(damages[0])


def test_neighbours_are_one_damage(path: Path) -> None:
    two, three = blocks_of(path)[2:4]
    for block in (two, three):
        spoil(path, block.offset + block.length // 2, b"\0\0\0\0")
    assert read_all(path)[0] == without(2, 3)
    assert [each[1:3] for each in read_all(path)[1]] == [(two.offset, two.length + three.length)]


def test_bytes_that_came_in_between_are_named(path: Path) -> None:
    block = blocks_of(path)[2]
    content = path.read_bytes()
    between = b"\x1f\x8b\x08 and no more of a block" + b"\0" * 300_000  # more than is read at a time
    path.write_bytes(content[: block.offset] + between + content[block.offset :])
    assert read_all(path)[0] == messages(10 * BLOCKS)
    assert [each[1:3] for each in read_all(path)[1]] == [(block.offset, len(between))]


def test_a_damaged_header_costs_itself(path: Path) -> None:
    spoil(path, 30, b"\0\0\0")
    read_messages, damages = read_all(path)
    assert read_messages == messages(10 * BLOCKS)
    assert damages[0].offset == 0
    content = path.read_bytes()
    with pytest.raises(RecordingError, match="is no recording"):  # who knows what it is: not written to
        Recording(path, append=True)
    assert path.read_bytes() == content


def test_a_torn_last_block_is_named_and_cut_off_when_it_is_gone_on_with(path: Path) -> None:
    last = blocks_of(path)[-1]
    with path.open("r+b") as file:
        file.truncate(last.offset + last.length - 3)
    torn = Damage(path, last.offset, last.length - 3, "a block without its end", torn=True)
    assert read_all(path) == (without(BLOCKS), [torn])
    with Recording(path, append=True) as recording:
        assert recording.cut == torn
        for message in messages(5, first=70):
            recording.write(message)
    assert read_all(path) == (without(BLOCKS) + messages(5, first=70), [])


def test_damage_before_the_end_stays_where_it_is_when_it_is_gone_on_with(path: Path) -> None:
    block = blocks_of(path)[3]
    spoil(path, block.offset + block.length // 2, b"\0\0\0\0")
    with Recording(path, append=True, block_messages=1) as recording:
        assert recording.cut is None
        recording.write(messages(1, first=70)[0])
    assert read_all(path)[0] == without(3) + messages(1, first=70)
    assert [each.offset for each in read_all(path)[1]] == [block.offset]


def test_an_empty_file_is_damage_and_a_beginning(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.touch()
    assert list(read(path)) == [Damage(path, 0, 0, "the file is empty")]
    write(path, messages(1), append=True)
    assert read_all(path) == (messages(1), [])


def test_lines_that_are_no_messages_cost_themselves(path: Path) -> None:
    lines = [
        b'{"received_us": 1, "topic": "a", "payload": "fine"}',
        b"",
        b'{"received_us": 2, "topic": "a", "payload": {"value": 3}}',
        b'{"received_us": "3", "topic": "a", "payload": "x"}',
        b'{"received_us": 4, "topic": "a", "payload": "x", "qos": 3}',
        b'{"received_us": 5, "payload": "x"}',
        b'{"received_us": 6, "topic": "a", "payload_base64": "!"}',
        b'{"received_us": 7, "topic": "a", "payload": "x", "retain": 1}',
        b'{"received_us": 8, "topic": "a", "payload": "x"',
        b"[1, 2]",
        b"null",
        b'{"received_us": 9, "topic": "a", "payload": "fine", "more": "of a later version"}',
    ]
    offset = path.stat().st_size
    with path.open("ab") as file:
        file.write(gzip.compress(b"\n".join(lines)))
    found, damages = read_all(path)
    assert found[-2:] == [Recorded(1, "a", b"fine"), Recorded(9, "a", b"fine")]
    assert [(each.offset, each.reason) for each in damages] == [
        (offset, "line 3 is no message (and 8 more)"),
    ]


def test_a_block_larger_than_memory_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "_MOST_BLOCK_BYTES", 2 << 20)
    offset = path.stat().st_size
    bomb = zlib.compressobj(wbits=31)
    with path.open("ab") as file:
        file.write(bomb.compress(b" " * (9 << 20)) + bomb.flush())
    found, damages = read_all(path)
    assert found == messages(10 * BLOCKS)
    assert [(each.offset, each.reason) for each in damages] == [
        (offset, "a block of more than 2 MiB of lines")
    ]


@given(data=st.data())
@settings(max_examples=examples(60))
def test_whatever_is_damaged_the_other_blocks_are_read(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("damage") / "a.jsonl.gz"
    write(path, messages(10 * BLOCKS), block_messages=10)
    header, *blocks = blocks_of(path)
    content = bytearray(path.read_bytes())
    offset = data.draw(st.integers(header.length, len(content) - 1))
    noise = data.draw(st.binary(min_size=1, max_size=300))
    how = data.draw(st.sampled_from(["change", "insert", "remove", "cut"]))
    end = {
        "change": offset + len(noise),
        "remove": offset + len(noise),
        "insert": offset,
        "cut": len(content),
    }
    content[offset : end[how]] = b"" if how in ("cut", "remove") else noise
    path.write_bytes(content)
    found, damages = read_all(path)
    touched = {
        number
        for number, block in enumerate(blocks, 1)
        if block.offset < max(end[how], offset + 1) and block.offset + block.length > offset
    }
    assert [each for each in without(*touched) if each not in found] == []
    assert [each for each in found if each not in messages(10 * BLOCKS)] == []
    assert sum(each.length for each in damages) + sum(each.length for each in blocks_of(path)) == len(content)
