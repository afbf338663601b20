"""The recording's file: what is written is read, the same bytes each time, whatever else uses it."""

from __future__ import annotations

import errno
import gzip
import json
import os
import resource
import stat
import subprocess
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.errors import RecordingError
from ingest.load.fields import END_US
from ingest.load.members import compressed
from ingest.load.recording import (
    SUFFIX,
    Block,
    Damage,
    Recorded,
    Recording,
    files,
    line_of,
    messages_of,
    read,
)
from tests.fuzzing import examples

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

START_US = 1_764_147_600_000_000
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
properties = st.dictionaries(
    st.sampled_from(["content_type", "response_topic", "correlation_data_base64"]), texts, max_size=3
) | st.fixed_dictionaries({"user_properties": st.lists(st.tuples(texts, texts).map(list), min_size=1)})
recorded = st.builds(
    Recorded,
    received_us=st.integers(0, END_US - 1),
    topic=texts,
    payload=st.binary(max_size=60) | texts.map(str.encode),
    qos=st.integers(0, 2),
    retain=st.booleans(),
    client_id=st.none() | texts.filter(lambda text: "\0" not in text),
    properties=st.none() | properties.map(lambda each: each or None),
)


def messages(count: int, *, first: int = 0) -> list[Recorded]:
    """Give *count* readings, a second apart."""
    return [
        Recorded(START_US + i * 1_000_000, f"greenhouse/A{i % 3}/sensors/temperature", b'{"value": %d}' % i)
        for i in range(first, first + count)
    ]


def write(path: Path, written: Sequence[Recorded], **more: Any) -> None:  # noqa: ANN401 - as Recording
    with Recording(path, **more) as recording:
        for message in written:
            recording.write(message)


def read_all(path: Path, **more: int) -> tuple[list[Recorded], list[Damage]]:
    found = list(read(path, **more))
    blocks = [each for each in found if isinstance(each, Block)]
    return [each for block in blocks for each in block.messages], [
        each for each in found if isinstance(each, Damage)
    ]


@given(st.lists(recorded, max_size=8))
@settings(max_examples=examples(100))
def test_lines_are_read_as_they_were_written(written: list[Recorded]) -> None:
    lines = b"".join(line_of(message) for message in written)
    assert lines.count(b"\n") == len(written)
    assert messages_of(lines) == (written, [])


def test_a_file_is_read_as_it_was_written_and_is_the_same_each_time(tmp_path: Path) -> None:
    written = messages(2500)
    write(tmp_path / "one.jsonl.gz", written)
    write(tmp_path / "other.jsonl.gz", written)
    assert read_all(tmp_path / "one.jsonl.gz") == (written, [])
    assert (tmp_path / "one.jsonl.gz").read_bytes() == (tmp_path / "other.jsonl.gz").read_bytes()
    sizes = [len(each.messages) for each in read(tmp_path / "one.jsonl.gz") if isinstance(each, Block)]
    assert sizes == [0, 1000, 1000, 500]  # the header has a block of its own


def test_it_is_plain_gzip_and_json_lines_that_describe_themselves(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    rich = Recorded(
        START_US,
        "GREENHOUSE/SARA/01",
        b"\xff\x00",
        qos=0,
        retain=True,
        client_id="gateway-7",
        properties={"user_properties": [["site", "north"]]},
    )
    write(path, [*messages(1), rich], about={"topics": ["GREENHOUSE/#"]})
    header, first, second = map(json.loads, gzip.decompress(path.read_bytes()).splitlines())
    assert (header["recording"], header["version"]) == ("greenhouse-ingest", 1)
    assert header["topics"] == ["GREENHOUSE/#"]
    assert set(first) | set(second) <= set(header["fields"])
    assert first["payload"] == '{"value": 0}'
    assert second == {
        "received_us": START_US + 1,
        "topic": "GREENHOUSE/SARA/01",
        "qos": 0,
        "retain": True,
        "payload_base64": "/wA=",
        "client_id": "gateway-7",
        "properties": {"user_properties": [["site", "north"]]},
    }
    by_gzip = subprocess.run(["zcat", path], check=True, capture_output=True).stdout
    assert by_gzip == gzip.decompress(path.read_bytes())


def test_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    write(path, messages(1))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_arrival_times_increase_strictly_also_where_it_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    same = [Recorded(START_US, "t", b"%d" % i) for i in range(3)]
    with Recording(path) as recording:
        assert [recording.write(each).received_us for each in same] == [START_US + i for i in range(3)]
    write(path, same, append=True)
    assert [each.received_us for each in read_all(path)[0]] == [START_US + i for i in range(6)]


def test_going_on_keeps_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    write(path, messages(1500), append=True)
    before = path.read_bytes()
    with Recording(path, append=True) as recording:
        assert recording.size_bytes >= len(before)
        assert recording.cut is None
        for message in messages(10, first=1500):
            recording.write(message)
        assert (recording.written, recording.buffered) == (0, 10)
    assert recording.written == 10
    assert path.read_bytes().startswith(before)
    assert read_all(path) == (messages(1510), [])


def test_large_messages_end_a_block_early(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    large = [Recorded(START_US + i, "t", b"x" * 400_000) for i in range(6)]
    write(path, large)
    sizes = [len(each.messages) for each in read(path) if isinstance(each, Block)]
    assert sizes == [0, 3, 3]


def test_reading_goes_on_from_a_block(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    write(path, messages(30), block_messages=10)
    blocks = [each for each in read(path) if isinstance(each, Block)]
    assert [each.offset for each in blocks[1:]] == [each.offset + each.length for each in blocks[:-1]]
    assert read_all(path, from_block=blocks[2].offset) == (messages(20, first=10), [])
    assert read_all(path, from_block=path.stat().st_size) == ([], [])


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    with Recording(path), pytest.raises(RecordingError, match="written by another process"):
        Recording(path, append=True)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (
            b"time,value\n1,2\n",
            r"is no recording \(gzip'd JSON lines\): it begins with bytes that are no block",
        ),
        (compressed(b"time,value\n1,2\n"), "is no recording: its first line is no header of one"),
        (compressed(line_of(messages(1)[0])), "is no recording: its first line is no header of one"),
        (
            compressed(orjson.dumps({"recording": "greenhouse-ingest", "version": 2})),
            "is a recording of version 2; this release reads version 1",
        ),
    ],
)
def test_what_is_no_recording_is_neither_read_nor_touched(
    tmp_path: Path, content: bytes, complaint: str
) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(content)
    with pytest.raises(RecordingError, match=complaint):
        list(read(path))
    with pytest.raises(RecordingError, match=complaint):
        Recording(path, append=True)
    assert path.read_bytes() == content


def test_what_cannot_be_opened_is_told(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="cannot be read: No such file"):
        list(read(tmp_path / "none"))
    with pytest.raises(RecordingError, match="cannot be opened for writing: No such file"):
        Recording(tmp_path / "none" / "a.jsonl.gz")
    write(tmp_path / "a.jsonl.gz", messages(1))
    with pytest.raises(RecordingError, match="exists already"):
        Recording(tmp_path / "a.jsonl.gz")
    assert read_all(tmp_path / "a.jsonl.gz") == (messages(1), [])


def test_folders_stand_for_their_recordings(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write(tmp_path / f"{name}{SUFFIX}", messages(1))
    (tmp_path / "a.jsonl.gz.resume").touch()
    other = tmp_path / "other"
    assert files([other, tmp_path]) == [other, tmp_path / "a.jsonl.gz", tmp_path / "b.jsonl.gz"]
    other.mkdir()
    with pytest.raises(RecordingError, match="neither a file nor a folder of recordings"):
        files([other])


def test_a_file_is_one_recording_however_it_is_named(tmp_path: Path) -> None:
    path = tmp_path / f"a{SUFFIX}"
    write(path, messages(1))
    (tmp_path / "link").symlink_to(path)
    for twice in ([path, path], [tmp_path, path], [path, tmp_path / "link"]):
        with pytest.raises(RecordingError, match="is given twice"):
            files(twice)


def test_a_full_disk_takes_nothing_from_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    noise = [Recorded(START_US + i, "t", os.urandom(2000)) for i in range(30)]
    with Recording(path, block_messages=10) as recording:
        for each in noise[:-1]:
            if recording.written == 20:  # EFBIG comes where ENOSPC would: behind a part of the block
                resource.setrlimit(resource.RLIMIT_FSIZE, (recording.size_bytes + 5000, limits[1]))
            recording.write(each)
        try:
            with pytest.raises(RecordingError, match=os.strerror(errno.EFBIG)):
                recording.write(noise[-1])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert (recording.written, recording.buffered) == (20, 0)
        assert path.stat().st_size == recording.size_bytes
    assert read_all(path) == (noise[:20], [])
