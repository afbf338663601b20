"""The file of messages that a backfill rejected: it holds what the point says, and nobody else's bytes go."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from ingest.errors import RecordingError
from ingest.load.backfill import Account
from ingest.load.direct_point import DirectPoint
from ingest.load.direct_rejects import Rejects, rejects_from
from ingest.load.recording import Block, Recorded, read
from tests.recordings import START_US, messages_in, numbered, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "r.jsonl.gz"


def point(path: Path | None, kept_bytes: int, incomplete: int = 1) -> DirectPoint:
    return DirectPoint(
        account=Account(incomplete=incomplete),
        rejected=None if path is None else str(path),
        rejected_bytes=kept_bytes,
    )


def test_rejects_are_cut_off_behind_the_point(path: Path) -> None:
    messages = numbered(4)
    rejects = Rejects(path)
    kept = rejects.write(messages[:2], behind_bytes=rejects.size_bytes)
    assert rejects.write([], behind_bytes=kept) == kept
    rejects.write(messages[2:], behind_bytes=kept)
    assert messages_in(path) == messages
    rejects.write(messages[2:], behind_bytes=kept)
    assert messages_in(path) == messages, "the point stood still: once more, not twice"
    rejects.close()
    rejects = Rejects(path, kept_bytes=kept)
    assert messages_in(path) == messages[:2]
    rejects.write(messages[3:], behind_bytes=kept)
    rejects.close()
    assert messages_in(path) == [*messages[:2], messages[3]]
    with pytest.raises(RecordingError, match="exists already"):
        Rejects(path)
    with pytest.raises(RecordingError, match="is shorter"):
        Rejects(path, kept_bytes=100_000)
    with pytest.raises(RecordingError, match="cannot be written"):
        Rejects(path.with_name("gone.jsonl.gz"), kept_bytes=1)


def test_a_file_without_a_message_is_begun_again(path: Path) -> None:
    path.touch()
    Rejects(path).close()
    begun = path.read_bytes()
    assert begun
    rejects = Rejects(path)
    with pytest.raises(RecordingError, match="is being written by another process"):
        Rejects(path)
    rejects.close()
    assert path.read_bytes() == begun


@pytest.mark.parametrize("kept_bytes", [0, 10])
def test_a_file_of_somebody_else_stays_as_it_is(path: Path, kept_bytes: int) -> None:
    for content in (b"a letter to a friend", write(path, []).read_bytes()):
        path.write_bytes(content)
        with pytest.raises(RecordingError, match=r"exists already|is no file of rejected messages"):
            Rejects(path, kept_bytes=kept_bytes)
        assert path.read_bytes() == content


def test_a_point_goes_on_in_its_own_file_alone(path: Path) -> None:
    rejects, begun = rejects_from(path, DirectPoint())
    assert rejects is not None
    kept = rejects.write(numbered(2), behind_bytes=begun.rejected_bytes)
    rejects.close()
    other = Path(write(path.with_name("other.jsonl.gz"), numbered(900)))
    content = other.read_bytes()
    for named in (other, None):
        with pytest.raises(RecordingError, match=f"go on with --rejected {path}"):
            rejects_from(named, point(path, kept))
    with pytest.raises(RecordingError, match="go on without --rejected"):
        rejects_from(path, point(None, 0))
    with pytest.raises(RecordingError, match="exists already"):
        rejects_from(other, point(path, kept, incomplete=0))
    assert other.read_bytes() == content
    rejects, again = rejects_from(path, point(path, kept))
    assert rejects is not None
    rejects.close()
    assert (again.rejected, again.rejected_bytes) == (str(path), kept)
    assert rejects_from(None, point(None, 0)) == (None, point(None, 0))
    gone = path.with_name("gone.jsonl.gz")
    with pytest.raises(RecordingError, match="No such file"):
        rejects_from(gone, point(gone, kept))
    rejects, anew = rejects_from(gone, point(gone, begun.rejected_bytes, incomplete=0))
    assert rejects is not None
    rejects.close()
    assert (anew.rejected_bytes, messages_in(gone)) == (begun.rejected_bytes, [])
    assert messages_in(path) == numbered(2)


def test_a_full_disk_leaves_what_was_there(path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    rejects = Rejects(path)
    kept = rejects.write(numbered(3), behind_bytes=rejects.size_bytes)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (kept + 100, limits[1]))
        with pytest.raises(RecordingError, match="cannot be written"):
            rejects.write(numbered(5_000), behind_bytes=kept)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (path.stat().st_size, rejects.size_bytes) == (kept, kept)
    assert rejects.write(numbered(5), behind_bytes=kept) > kept
    rejects.close()
    assert messages_in(path) == [*numbered(3), *numbered(5)]


def test_its_blocks_are_as_a_recorder_makes_them(path: Path) -> None:
    rejects = Rejects(path)
    large = [Recorded(START_US, "t", b"x" * 600_000)] * 3
    rejects.write([*numbered(2_500), *large], behind_bytes=rejects.size_bytes)
    rejects.close()
    sizes = [len(block.messages) for block in read(path) if isinstance(block, Block)]
    assert sizes == [0, 1000, 1000, 502, 1]
