"""docs/recording.md: its filters tried on a recording, its table of fields equal to the header's."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jq
import pytest

from ingest.load.recording import Recorded, Recording, read
from tests.unit.test_recording import START_US, messages, read_all

if TYPE_CHECKING:
    from collections.abc import Sequence

PAGE = (Path(__file__).parents[2] / "docs" / "recording.md").read_text("utf-8")
COMMANDS = dict(re.findall(r"(?m)^(.+)\n\n```sh\nzcat night\.jsonl\.gz \| jq (-\w+ '.+')", PAGE))
SARA = "GREENHOUSE/SARA/01"
NIGHT = [
    *messages(3),
    Recorded(START_US + 3_000_000, SARA, b'{"SENSOR_01": 2.31}'),
    Recorded(START_US + 4_000_000, SARA, b"{"),
    Recorded(START_US + 5_000_000, SARA, b"\xff"),
]


@pytest.fixture
def night(tmp_path: Path) -> Path:
    path = tmp_path / "night.jsonl.gz"
    with Recording(path) as recording:
        for message in NIGHT:
            recording.write(message)
    return path


def answer_to(asked: str, path: Path) -> Sequence[Any]:
    (command,) = [command for question, command in COMMANDS.items() if asked in question]
    options, program = re.fullmatch(r"-(\w+) '(.+)'", command).groups()  # type: ignore[union-attr]
    lines = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    compiled = jq.compile(program)
    return [
        each for given in ([lines] if "s" in options else lines) for each in compiled.input_value(given).all()
    ]


def test_the_questions_are_answered(night: Path) -> None:
    assert len(COMMANDS) == 4
    assert answer_to("How many", night) == [
        "3\tGREENHOUSE/SARA/01",
        "1\tgreenhouse/A0/sensors/temperature",
        "1\tgreenhouse/A1/sensors/temperature",
        "1\tgreenhouse/A2/sensors/temperature",
    ]
    assert answer_to("one greenhouse", night) == [
        ["2025-11-26T09:00:03Z", {"SENSOR_01": 2.31}],
        ["2025-11-26T09:00:04Z"],
        ["2025-11-26T09:00:05Z"],
    ]
    assert answer_to("no JSON", night) == [
        {"received_us": START_US + 4_000_000, "topic": SARA, "qos": 1, "retain": False, "payload": "{"},
        {
            "received_us": START_US + 5_000_000,
            "topic": SARA,
            "qos": 1,
            "retain": False,
            "payload_base64": "/w==",
        },
    ]
    header, *part = answer_to("A part of it", night)
    assert header["recording"] == "greenhouse-ingest"
    assert [each["received_us"] for each in part] == [each.received_us for each in NIGHT[3:]]


def test_a_part_cut_out_by_hand_is_a_recording(night: Path, tmp_path: Path) -> None:
    assert "split -l 1000 --filter 'gzip -n >> sara.jsonl.gz'" in PAGE
    assert shutil.which("split")
    subprocess.run(
        ["sh", "-c", "zcat night.jsonl.gz | split -l 2 --filter 'gzip -n >> sara.jsonl.gz'"],
        cwd=tmp_path,
        check=True,
    )
    assert read_all(tmp_path / "sara.jsonl.gz") == (NIGHT, [])
    assert len([*read(tmp_path / "sara.jsonl.gz")]) == 4
    assert night.exists()


def test_every_field_has_its_line(night: Path) -> None:
    header = json.loads(gzip.decompress(night.read_bytes()).splitlines()[0])
    table = PAGE.partition("| field | |\n")[2].partition("\n\n")[0]
    assert set(header["fields"]) <= set(re.findall(r"`(\w+)`", table))
