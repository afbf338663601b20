"""The pure parts of a replay: its pace, its resume point, its place in the files."""

from __future__ import annotations

from multiprocessing import get_context
from typing import TYPE_CHECKING

import pytest

from ingest.errors import RecordingError
from ingest.load import resume
from ingest.load.pace import Pace
from ingest.load.recording import Recorded, Recording
from ingest.load.resume import Position, ResumePoint
from ingest.load.survey import messages_from, survey

if TYPE_CHECKING:
    from pathlib import Path

SECOND_US = 1_000_000


def test_at_its_own_times_what_is_late_is_caught_up_with() -> None:
    pace = Pace(speed=2)
    assert pace.wait_s(100 * SECOND_US, now_s=50) == 0
    assert pace.wait_s(103 * SECOND_US, now_s=50) == 1.5
    assert pace.wait_s(104 * SECOND_US, now_s=55) == -3
    assert pace.wait_s(112 * SECOND_US, now_s=55) == 1
    assert pace.late_s == 3
    pace.begin_again()
    assert pace.wait_s(100 * SECOND_US, now_s=80) == 0


def test_at_a_rate_it_is_not() -> None:
    pace = Pace(rate=10)
    assert pace.wait_s(0, now_s=50) <= 0
    assert pace.wait_s(0, now_s=50) == pytest.approx(0.1)
    assert pace.wait_s(0, now_s=60) < 0
    assert pace.wait_s(0, now_s=60) == pytest.approx(0.1)


def test_without_either_nothing_waits() -> None:
    assert Pace().wait_s(0, now_s=0) == Pace().wait_s(10**15, now_s=0) == 0


def _keep_often(path: Path) -> None:
    for number in range(300):
        resume.replace(path, {"number": number}, to_disk=False)


def test_two_that_keep_a_point_leave_one_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz.resume"
    processes = [get_context("fork").Process(target=_keep_often, args=(path,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert path.read_bytes() == b'{"number":299}\n'
    assert list(tmp_path.iterdir()) == [path]


def test_a_resume_point_is_of_its_files_and_its_broker(tmp_path: Path) -> None:
    files = [tmp_path / "a.jsonl.gz", tmp_path / "b.jsonl.gz"]
    path = resume.resume_file(files)
    assert path == tmp_path / "a.jsonl.gz.resume"
    assert resume.read(path, files, "broker:1883") == ResumePoint()
    point = ResumePoint(Position(1, 4_711, 12), round=3, shift_us=-5 * SECOND_US, began_us=(5, 0))
    resume.write(path, point, files, "broker:1883", to_disk=True)
    assert resume.read(path, files, "broker:1883") == point
    assert [point.is_of(each) for each in ([5, 0], [5, 9], [6, 0], [0, 0])] == [True, True, False, False]
    assert sorted(tmp_path.iterdir()) == [path]
    for others, target in ((files[:1], "broker:1883"), (files, "other:1883")):
        with pytest.raises(RecordingError, match="is of another replay"):
            resume.read(path, others, target)
    for text in ("", "[]", "{", '{"file": "x"}', '{"file": null}'):
        path.write_text(text)
        with pytest.raises(RecordingError, match="is no resume point"):
            resume.read(path, files, "broker:1883")
    with pytest.raises(RecordingError, match="cannot be kept"):
        resume.write(tmp_path / "nowhere" / "x", point, files, "broker:1883", to_disk=False)


def test_any_place_in_several_files_is_found_again(tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.jsonl.gz" for name in "ab"]
    for number, path in enumerate(files):
        with Recording(path, block_messages=3) as recording:
            for each in range(7):
                topic = f"{number}/{each}"
                named = f"gateway-{each % 2}" if each < 5 else None
                recording.write(Recorded(100 + 10 * each, topic, b"", retain=each == 6, client_id=named))
    places = list(messages_from(files, Position()))
    topics = [message.topic for _, message in places]
    assert topics == [f"{number}/{each}" for number in range(2) for each in range(7)]
    for done, (position, _) in enumerate(places):
        rest = [message.topic for _, message in messages_from(files, position)]
        assert rest == topics[done:]
        assert survey(files, position).before == done
        after = position._replace(done=position.done + 1)
        assert [message.topic for _, message in messages_from(files, after)] == topics[done + 1 :]
        assert survey(files, after).before == done + 1
    found = survey(files, Position())
    assert (found.messages, found.first_us, found.last_us, found.retained) == (14, 100, 160, 2)
    assert (found.client_ids, found.nameless) == (["gateway-0", "gateway-1"], 4)
