"""A file that is there whole or not at all: written under another name, renamed at its end.

Only a kill leaves the other name, `.NAME.PID`, behind. A file without a name (O_TMPFILE) would leave nothing,
but can only be linked to a name that is free: to replace one takes another name in between all the same.
What it is made for holds customers' data: it is for its owner alone, as recordings are, unless the file that
it replaces was for others, too. A device or a pipe cannot be replaced: it is written straight into. Owns what
the file system's refusals mean to the operator; blocks, and a pipe that nobody reads until somebody does.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import stat
import sys
from typing import IO, TYPE_CHECKING, Final, Self, cast

from ingest.errors import CheckFailed, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LEVEL: Final = 6
_MODE: Final = 0o600


class WholeFile:
    """Gzip'd if its name ends so. `close` puts it in its place, `discard` leaves nothing; so does `with`."""

    def __init__(self, path: Path) -> None:
        """Begin it beside *path*, or beside what that links to. ConfigurationError where nothing can be."""
        self.path = path
        self._place: Path | None = None
        """Where it is to be; None: straight into what is there."""
        self._unfinished: Path | None = None
        self.is_stdout = False
        """Whether what is printed goes into it, too."""
        try:
            self._raw = self._begun()
        except OSError as error:
            raise ConfigurationError([f"{path}: {error.strerror or error}"]) from error
        self.stream: IO[bytes] = self._raw
        """Where its bytes go."""
        if path.suffix == ".gz":
            # Without a name and a time in it: the same rows are the same bytes.
            self.stream = cast("IO[bytes]", gzip.GzipFile("", "wb", _LEVEL, self._raw, mtime=0))

    def _begun(self) -> IO[bytes]:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            found = None
        if found is not None and _is_stdout(found):
            self.is_stdout = True
            sys.stdout.flush()
            return os.fdopen(os.dup(sys.stdout.fileno()), "wb")
        if found is not None and not stat.S_ISREG(found.st_mode):
            return self.path.open("wb")
        self._place = self.path.resolve()
        self._unfinished = self._place.with_name(f".{self._place.name}.{os.getpid()}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        raw = os.fdopen(os.open(self._unfinished, flags, _MODE), "wb")
        if found is not None:  # whoever made it for few, or for more, to read gets it so again
            os.fchmod(raw.fileno(), stat.S_IMODE(found.st_mode))
        return raw

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    @property
    def replaces(self) -> bool:
        """Tell whether there is nothing of it before it is closed."""
        return self._place is not None

    @property
    def is_open(self) -> bool:
        """Tell whether it is neither closed nor discarded."""
        return not self._raw.closed

    @contextlib.contextmanager
    def written(self) -> Iterator[None]:
        """Discard it where the file system refuses what is inside, and raise CheckFailed.

        BrokenPipeError stays what it is where the reader of stdout went away.
        """
        try:
            yield
        except OSError as error:
            self.discard()
            if self.is_stdout and isinstance(error, BrokenPipeError):
                raise
            raise CheckFailed(f"{self.path}: cannot be written: {error.strerror or error}") from error

    def close(self) -> None:
        """Put it in its place, on disk. Raises as `written`."""
        with self.written():
            if self.stream is not self._raw:
                self.stream.close()
            self._raw.flush()
            if self._unfinished is not None and self._place is not None:
                os.fsync(self._raw.fileno())
                self._raw.close()
                self._unfinished.replace(self._place)
            else:
                self._raw.close()

    def discard(self) -> None:
        """Leave nothing of it, unless it is in its place already."""
        # First what is below: a gzip stream that is cut off must not look whole to who reads the pipe.
        for each in (self._raw, self.stream):
            with contextlib.suppress(OSError, ValueError):
                each.close()
        if self._unfinished is not None:
            self._unfinished.unlink(missing_ok=True)


def _is_stdout(found: os.stat_result) -> bool:
    try:
        return os.path.samestat(found, os.fstat(sys.stdout.fileno()))
    except (OSError, ValueError):  # closed, or none of the system's
        return False
