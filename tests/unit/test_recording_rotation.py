"""A folder of recordings: when the next file begins, what it is called, and that nothing is empty."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ingest.errors import RecordingError
from ingest.load.recording import Recorded
from ingest.load.rotation import Output
from tests.unit.test_recording import START_US, messages, read_all

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def fill(output: Output, written: Sequence[Recorded]) -> None:
    for each in written:
        output.write(each)


def held(folder: Path) -> dict[str, int]:
    """Give the files by name, and how many messages each has."""
    return {each.name: len(read_all(each)[0]) for each in sorted(folder.iterdir())}


def test_by_time_of_arrival(tmp_path: Path) -> None:
    output = Output(tmp_path / "days", folder=True, about={}, rotate_s=10)
    assert held(tmp_path / "days") == {}
    fill(output, messages(25))  # a second apart
    output.flush(START_US + 29_000_000)
    assert output.messages == 25
    output.flush(START_US + 30_000_000)  # nothing came: the file is over all the same
    output.flush(START_US + 90_000_000)
    assert held(tmp_path / "days") == {
        "20251126T090000.000000Z.jsonl.gz": 10,
        "20251126T090010.000000Z.jsonl.gz": 10,
        "20251126T090020.000000Z.jsonl.gz": 5,
    }
    output.close()
    output.close()
    assert [each.name for each in output.files] == [*held(tmp_path / "days")]
    assert (tmp_path / "days").stat().st_mode & 0o077 == 0


def test_by_size(tmp_path: Path) -> None:
    output = Output(tmp_path, folder=True, about={}, rotate_bytes=4_000)
    fill(output, messages(2_500))
    output.close()
    assert [*held(tmp_path).values()] == [1_000, 1_000, 500]
    assert output.size_bytes == sum(each.stat().st_size for each in tmp_path.iterdir())


def test_arrival_times_increase_over_the_files(tmp_path: Path) -> None:
    output = Output(tmp_path, folder=True, about={}, rotate_s=1)
    same = [Recorded(START_US + second * 1_000_000, "t", b"1") for second in (0, 0, 0, 1, 0, 0)]
    fill(output, same)
    output.close()
    found = [each.received_us - START_US for path in output.files for each in read_all(path)[0]]
    assert found == [0, 1, 2, 1_000_000, 1_000_001, 1_000_002]
    assert len(output.files) == 2


def test_a_file_is_gone_on_with(tmp_path: Path) -> None:
    for part in range(2):
        output = Output(tmp_path / "a.jsonl.gz", folder=False, about={"topics": ["#"]})
        fill(output, messages(5, first=part * 5))
        output.close()
        assert output.messages == 5
    assert read_all(tmp_path / "a.jsonl.gz") == (messages(10), [])


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RecordingError, match="cannot be made a folder: Not a directory"):
        Output(tmp_path / "file" / "days", folder=True, about={})
