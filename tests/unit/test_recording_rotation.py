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


def test_a_clock_that_goes_back_leaves_names_in_order(tmp_path: Path) -> None:
    output = Output(tmp_path, folder=True, about={}, rotate_s=10)
    fill(output, messages(12))
    output.flush(START_US + 40_000_000)  # the file is over, and then the clock is put back
    fill(output, messages(3))
    output.close()
    assert held(tmp_path) == {
        "20251126T090000.000000Z.jsonl.gz": 10,
        "20251126T090010.000000Z.jsonl.gz": 2,
        "20251126T090011.000001Z.jsonl.gz": 3,
    }
    times = [each.received_us for path in sorted(tmp_path.iterdir()) for each in read_all(path)[0]]
    assert times == sorted(set(times))


@pytest.mark.parametrize("torn", [False, True])
def test_a_run_goes_on_where_the_one_before_ended(tmp_path: Path, *, torn: bool) -> None:
    (tmp_path / "zzz.jsonl.gz").touch()  # nothing of ours
    output = Output(tmp_path, folder=True, about={}, rotate_s=10)
    fill(output, messages(25))
    output.close()
    newest = output.files[-1]
    whole = newest.stat().st_size
    with newest.open("ab") as file:
        file.write(newest.read_bytes()[:10] if torn else b"")
    again = Output(tmp_path, folder=True, about={}, rotate_s=10)
    assert again.files == [newest]
    assert newest.read_bytes()[:whole].startswith(b"\x1f\x8b\x08")
    fill(again, messages(2))  # by a clock that was put back
    fill(again, messages(1, first=40))
    again.close()
    assert [each.name for each in again.files] == [newest.name, "20251126T090040.000000Z.jsonl.gz"]
    found = [read_all(path) for path in (*output.files, again.files[-1])]
    assert not [damage for _, damages in found for damage in damages]
    times = [each.received_us for recorded, _ in found for each in recorded]
    assert times == sorted(set(times))
    assert len(times) == 28


def test_a_newest_file_without_messages_is_none_to_go_back_behind(tmp_path: Path) -> None:
    empty = tmp_path / "20251126T090100.000000Z.jsonl.gz"
    empty.touch()
    output = Output(tmp_path, folder=True, about={})
    fill(output, messages(1))
    output.close()
    assert [each.received_us for each in read_all(empty)[0]] == [START_US + 60_000_000]


def test_a_folder_holds_messages_with_names_or_without(tmp_path: Path) -> None:
    output = Output(tmp_path, folder=True, about={"anonymised": True})
    fill(output, messages(1))
    output.close()
    with pytest.raises(RecordingError, match="holds anonymised messages, and what is to come is not: take"):
        Output(tmp_path, folder=True, about={"anonymised": False})


def test_folders_that_it_makes_are_nobody_elses_to_read(tmp_path: Path) -> None:
    Output(tmp_path / "recordings" / "of" / "days", folder=True, about={})
    made = [tmp_path / "recordings", *sorted((tmp_path / "recordings").rglob("*"))]
    assert [each.stat().st_mode & 0o777 for each in made] == [0o700] * 3
