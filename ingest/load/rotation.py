"""Where a recording goes: one file, or a folder of files of which each begins when the one before is full.

Owns the files' names and when the next begins. Its clock is the messages' time of arrival, which never goes
back: neither within a run nor from one run to the next, whatever the machine's clock does.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import structlog

from ingest.errors import RecordingError
from ingest.load.recording import SUFFIX, Recording

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ingest.load.recording import Recorded

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAME = f"%Y%m%dT%H%M%S.%fZ{SUFFIX}"
"""Of a file in a folder: when its first message came."""

log = structlog.get_logger()


class Output:
    """Takes messages in their order of arrival; in a folder no file is without one."""

    def __init__(
        self,
        place: Path,
        *,
        folder: bool,
        about: Mapping[str, Any],
        rotate_bytes: int | None = None,
        rotate_s: float | None = None,
    ) -> None:
        """Open the file *place*, or the newest one of the *folder*, going on with it; make what is not there.

        *about* goes into each header. Raises RecordingError where nothing can be written.
        """
        self._place = place
        self._folder = folder
        self._about = about
        self._rotate_bytes = rotate_bytes
        self._rotate_us = None if rotate_s is None else round(rotate_s * 1_000_000)
        self._file: Recording | None = None
        self._began_us = 0
        self._last_us = 0
        self._closed_bytes = 0
        self._closed_messages = 0
        self.files: list[Path] = []
        """Those written to, in their order."""
        if folder:
            _make(place)
            if (newest := _newest(place)) is not None:
                path, self._began_us = newest
                self._last_us = self._began_us - 1  # at least, and more once it is read
                self._file = self._opened(path)
        else:
            self._file = self._opened(place)

    @property
    def size_bytes(self) -> int:
        """What the files hold, those that were gone on with from their beginning."""
        return self._closed_bytes + (0 if self._file is None else self._file.size_bytes)

    @property
    def messages(self) -> int:
        """Written, those that wait for their block's end left out."""
        return self._closed_messages + (0 if self._file is None else self._file.written)

    def write(self, message: Recorded) -> None:
        """Write *message*, into the next file if it is time for one. Raises RecordingError."""
        written_us = max(message.received_us, self._last_us + 1)
        self._rotate(written_us)
        if self._file is None:
            moment = _EPOCH + timedelta(microseconds=written_us)
            self._file = self._opened(self._place / f"{moment:{_NAME}}")
        if not self._began_us:
            self._began_us = written_us
        self._last_us = self._file.write(message).received_us

    def flush(self, now_us: int) -> None:
        """Close the block, and the file if its time is over. Raises RecordingError."""
        if self._file is not None:
            self._file.flush()
            self._rotate(max(now_us, self._last_us))

    def close(self) -> None:
        """Write what is left; may be called twice. Raises RecordingError."""
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            finally:
                self._closed_bytes += file.size_bytes
                self._closed_messages += file.written
            log.info("recording_closed", file=str(file.path), messages=file.written, bytes=file.size_bytes)

    def _rotate(self, now_us: int) -> None:
        file = self._file
        if not self._folder or file is None:
            return
        full = self._rotate_bytes is not None and file.size_bytes >= self._rotate_bytes
        over = self._rotate_us is not None and now_us - self._began_us >= self._rotate_us
        if full or over:
            self.close()
            self._began_us = 0

    def _opened(self, path: Path) -> Recording:
        file = Recording(path, append=True, about=self._about)
        file.last_us = self._last_us = max(file.last_us, self._last_us)
        self.files.append(path)
        if file.cut is not None:
            log.warning("recording_repaired", detail=f"cut off, of a writer that was killed: {file.cut}")
        log.info("recording_opened", file=str(path))
        return file


def _make(folder: Path) -> None:
    """Make *folder* and those above it that are missing, which nobody else may read either."""
    try:
        for each in reversed(folder.parents):
            if not each.exists():
                each.mkdir(mode=0o700, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise RecordingError(f"{folder} cannot be made a folder: {error.strerror}") from error


def _newest(folder: Path) -> tuple[Path, int] | None:
    """Give the newest file of *folder* that has a name as they get here, and when it began by that."""
    for path in sorted(folder.glob(f"*{SUFFIX}"), reverse=True):
        with contextlib.suppress(ValueError):
            began = datetime.strptime(path.name, _NAME).replace(tzinfo=UTC)
            return path, (began - _EPOCH) // timedelta(microseconds=1)
    return None
