"""The recording of messages that a backfill rejected, or a part of them, for another run.

As they were recorded, to the microsecond: readings without a time then have the key they would have had.
What it holds is what its resume point says, to the byte: the point follows once it is on disk.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

import orjson

from ingest.errors import RecordingError
from ingest.load.header import HEADER
from ingest.load.members import Member, compressed, pieces
from ingest.load.opening import append_whole, opened_to_write
from ingest.load.recording import BLOCK_BYTES, BLOCK_MESSAGES, is_header, line_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ingest.load.direct_point import DirectPoint
    from ingest.load.members import Piece
    from ingest.load.recording import Recorded

_HOLDS: Final = "messages of which something was rejected"


class Rejects:
    """One file, appended to by one process; what is beyond a resume point is cut off."""

    def __init__(self, path: Path, *, kept_bytes: int = 0) -> None:
        """Begin it, or go on after *kept_bytes*.

        One without a message is begun again. Raises RecordingError: exists already, is not what was left,
        is written by another process, cannot be written.
        """
        self._path = path
        self.size_bytes = 0
        """What stands in it."""
        try:
            if kept_bytes:
                path.stat()
            self._file = opened_to_write(path, append=True)
        except OSError as error:
            raise RecordingError(f"{path} cannot be written: {error.strerror}") from error
        try:
            self._go_on(kept_bytes)
        except BaseException:
            self.close()
            raise

    def write(self, messages: Sequence[Recorded], *, behind_bytes: int) -> int:
        """Have *messages* on disk behind *behind_bytes*, and nothing else there; give the size of the file.

        Raises RecordingError, with none of them in it.
        """
        if messages or behind_bytes != self.size_bytes:
            self._append(b"".join(map(compressed, _blocks(messages))), behind_bytes)
        return self.size_bytes

    def close(self) -> None:
        """Close it; all of it is on disk."""
        with contextlib.suppress(OSError):
            self._file.close()

    def _go_on(self, kept_bytes: int) -> None:
        first = next(pieces(self._file, 0), None)
        size = self._file.seek(0, os.SEEK_END)
        if kept_bytes:
            if not _is_ours(first):
                raise RecordingError(
                    f"{self._path} is no file of rejected messages; begin anew without --resume"
                )
            if size < kept_bytes:
                raise RecordingError(f"{self._path} is shorter than it was left; begin anew without --resume")
            self._append(b"", kept_bytes)
        elif first is None:
            header = orjson.dumps({**HEADER, "holds": _HOLDS}, option=orjson.OPT_APPEND_NEWLINE)
            self._append(compressed(header), 0)
        elif _is_ours(first) and first.length == size:
            self.size_bytes = size
        else:
            raise RecordingError(f"{self._path} exists already")

    def _append(self, blocks: bytes, behind_bytes: int) -> None:
        try:
            self.size_bytes = append_whole(self._file, blocks, behind_bytes, to_disk=True)
        except OSError as error:
            raise RecordingError(f"{self._path} cannot be written: {error.strerror}") from error


def rejects_from(path: Path | None, point: DirectPoint) -> tuple[Rejects | None, DirectPoint]:
    """Open *path* for what is rejected behind *point*; give the point that has it.

    Raises RecordingError: as `Rejects`, or what was rejected before the point is not in *path*.
    """
    name = None if path is None else str(path.resolve())
    if point.account.incomplete and name != point.rejected:
        where = "nowhere" if point.rejected is None else f"in {point.rejected}"
        go_on = "without --rejected" if point.rejected is None else f"with --rejected {point.rejected}"
        raise RecordingError(
            f"what was rejected so far is kept {where}: go on {go_on}, or begin anew without --resume"
        )
    if path is None:
        return None, point._replace(rejected=None, rejected_bytes=0)
    again = name == point.rejected and (point.account.incomplete or path.exists())
    rejects = Rejects(path, kept_bytes=point.rejected_bytes if again else 0)
    return rejects, point._replace(rejected=name, rejected_bytes=rejects.size_bytes)


def _is_ours(first: Piece | None) -> bool:
    """Tell whether a file's *first* piece is the header of such a file."""
    return isinstance(first, Member) and is_header(first) and orjson.loads(first.lines).get("holds") == _HOLDS


def _blocks(messages: Sequence[Recorded]) -> Iterator[bytes]:
    """Give the lines of *messages* in blocks as a recorder makes them, which everybody can read."""
    lines: list[bytes] = []
    lines_bytes = 0
    for message in messages:
        lines.append(line_of(message))
        lines_bytes += len(lines[-1])
        if len(lines) == BLOCK_MESSAGES or lines_bytes >= BLOCK_BYTES:
            yield b"".join(lines)
            lines, lines_bytes = [], 0
    if lines:
        yield b"".join(lines)
