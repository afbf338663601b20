"""A file that is there whole or not at all: written under another name, renamed at its end."""

from __future__ import annotations

import gzip
import os
from typing import IO, TYPE_CHECKING, Final, cast

from ingest.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

_LEVEL: Final = 6


class WholeFile:
    """Gzip'd if its name ends so. `close` puts it in its place, `discard` leaves nothing."""

    def __init__(self, path: Path) -> None:
        """Begin it beside *path*. Raises ConfigurationError where nothing can be written."""
        self.path = path
        self._unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            self._raw = self._unfinished.open("wb")
        except OSError as error:
            raise ConfigurationError([f"{path}: {error.strerror or error}"]) from error
        self.stream: IO[bytes] = self._raw
        """Where its bytes go."""
        if path.suffix == ".gz":
            # Without a name and a time in it: the same rows are the same bytes.
            self.stream = cast("IO[bytes]", gzip.GzipFile("", "wb", _LEVEL, self._raw, mtime=0))

    def close(self) -> None:
        """Put it in its place, on disk."""
        if self.stream is not self._raw:
            self.stream.close()
        self._raw.flush()
        os.fsync(self._raw.fileno())
        self._raw.close()
        self._unfinished.replace(self.path)

    def discard(self) -> None:
        """Leave nothing of it."""
        self._raw.close()
        self._unfinished.unlink(missing_ok=True)
