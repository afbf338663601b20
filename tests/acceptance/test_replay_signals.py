"""`ingest replay` hears a signal while it reads its recordings."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ingest.load.members import compressed
from ingest.load.recording import Recorded, Recording, line_of
from tests.acceptance.command_line import CommandLine
from tests.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

SECOND_US = 1_000_000
NOW_US = 1_764_147_600 * SECOND_US


async def test_a_signal_ends_the_reading_of_a_long_recording(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl.gz"
    Recording(path).close()
    block = compressed(line_of(Recorded(NOW_US, "GREENHOUSE/T1", b"")) * 1_000)
    with path.open("ab") as file:
        file.write(block * 100_000)  # minutes to read, and 50 MB
    reading = CommandLine(tmp_path).start("replay", str(path), stdout=-1)
    descriptors = tmp_path.joinpath(f"/proc/{reading.pid}/fd")

    def has_opened() -> bool:
        return any(each.exists() and each.samefile(path) for each in descriptors.iterdir())

    await until(has_opened, "the recording is being read")
    reading.terminate()
    out, err = await asyncio.wait_for(asyncio.to_thread(reading.communicate), 30)
    assert (reading.returncode, out) == (130, b"")
    assert "stopped while it read the recordings: nothing was published" in err.decode()
