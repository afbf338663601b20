"""The files of recordings, opened: regular ones alone, written by one process and read by their owner.

A pipe cannot be read twice, and a device may have no end.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import stat
from typing import TYPE_CHECKING, Final

from ingest.errors import RecordingError

if TYPE_CHECKING:
    from pathlib import Path

_MODE: Final = 0o600
"""Payloads are somebody's data, and nobody else's to read."""


def opened_to_read(path: Path) -> io.FileIO:
    """Open *path*. Raises OSError, and RecordingError for what is no regular file."""
    return _regular(path, os.O_RDONLY)


def opened_to_write(path: Path, *, append: bool) -> io.FileIO:
    """Open *path* for this process alone; it may be there with *append* only. Raises RecordingError."""
    try:
        file = _regular(path, os.O_RDWR | os.O_CREAT | (0 if append else os.O_EXCL))
    except FileExistsError as error:
        raise RecordingError(f"{path} exists already") from error
    except OSError as error:
        raise RecordingError(f"{path} cannot be opened for writing: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise RecordingError(f"{path} is being written by another process") from error
    return file


def size_of(path: Path) -> int:
    """Give how many bytes *path* has. Raises RecordingError."""
    try:
        return path.stat().st_size
    except OSError as error:
        raise RecordingError(f"{path} cannot be read: {error.strerror}") from error


def append_whole(file: io.FileIO, data: bytes, size_bytes: int, *, to_disk: bool = False) -> int:
    """Write *data* at *size_bytes*, where *file* then ends, or nothing of it; give its new size.

    *to_disk* waits for the disk, too. Raises OSError.
    """
    rest = memoryview(data)
    try:
        file.truncate(size_bytes)
        file.seek(size_bytes)
        while rest:
            rest = rest[file.write(rest) or 0 :]
        if to_disk:
            os.fsync(file.fileno())
    except OSError:
        with contextlib.suppress(OSError):
            file.truncate(size_bytes)
        raise
    return size_bytes + len(data)


def _regular(path: Path, flags: int) -> io.FileIO:
    descriptor = os.open(path, flags | os.O_NONBLOCK, _MODE)  # else a pipe waits for its other end
    file = io.FileIO(descriptor, "r+" if flags & os.O_RDWR else "r")  # raises for a folder
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise RecordingError(f"{path} is no regular file")
    return file
