"""The recording of messages that a backfill rejected, or a part of them, for another run.

As they were recorded, to the microsecond: readings without a time then have the key they would have had.
"""

from __future__ import annotations

import os
from typing import IO, TYPE_CHECKING

from ingest.errors import RecordingError
from ingest.load.members import compressed
from ingest.load.recording import Recording, line_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ingest.load.recording import Recorded


class Rejects:
    """One file, appended to; what is beyond a resume point is cut off."""

    def __init__(self, path: Path, *, kept_bytes: int = 0) -> None:
        """Begin it, or go on after *kept_bytes*. Raises RecordingError: exists already, cannot be written."""
        self._path = path
        self._file: IO[bytes]
        try:
            if kept_bytes:
                if path.stat().st_size < kept_bytes:
                    raise RecordingError(f"{path} is shorter than it was left; begin anew without --resume")
                self._file = path.open("rb+")
                self._file.truncate(kept_bytes)
                self._file.seek(kept_bytes)
            else:
                Recording(path, about={"holds": "messages of which something was rejected"}).close()
                self._file = path.open("ab")
        except OSError as error:
            raise RecordingError(f"{path} cannot be written: {error.strerror}") from error

    def write(self, messages: Sequence[Recorded]) -> int:
        """Append *messages*; give the size of the file. Raises RecordingError."""
        try:
            if messages:
                self._file.write(compressed(b"".join(map(line_of, messages))))
                self._file.flush()
                os.fsync(self._file.fileno())
            return self._file.tell()
        except OSError as error:
            raise RecordingError(f"{self._path} cannot be written: {error.strerror}") from error

    def close(self) -> None:
        """Close it."""
        self._file.close()
