"""Where a replay stands: everything before it is acknowledged. A small JSON file beside the recording.

Replaced as a whole, so that a kill leaves the point before or the one after.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from ingest.errors import RecordingError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

SUFFIX: Final = ".resume"
_VERSION: Final = 1


class Position(NamedTuple):
    """A message of a row of files: which file, at which offset its block begins, how many before it there."""

    file: int = 0
    offset: int = 0
    done: int = 0


class ResumePoint(NamedTuple):
    """See the module's header."""

    position: Position = Position()
    round: int = 1
    """Of a replay that begins again at its end."""
    shift_us: int | None = None
    """By how much the times were moved: by as much again, so that a reading published twice is one row."""
    finished: bool = False
    began_us: tuple[int, ...] = ()
    """When the first message of each file came, by which another recording of the same name is told."""

    @property
    def underway(self) -> bool:
        """Whether anything was published before it in this round."""
        return self.position != Position()

    def is_of(self, began_us: Sequence[int]) -> bool:
        """Tell whether files that begin at *began_us* are those of the point, or what they grew to."""
        return not self.began_us or same_recordings(self.began_us, began_us)

    def text(self, files: Sequence[Path]) -> str:
        """Say to the operator which message is next."""
        if self.finished:
            return "everything has been replayed"
        file, offset, done = self.position
        return f"{files[file]}, block at {offset}, after {done} of its messages"


def same_recordings(then_us: Sequence[int], now_us: Sequence[int]) -> bool:
    """Tell whether files that began at *then_us* are those that begin at *now_us*; 0: had no message yet."""
    return len(then_us) == len(now_us) and all(
        then in (0, now) for then, now in zip(then_us, now_us, strict=True)
    )


def resume_file(files: Sequence[Path]) -> Path:
    """Give where the point of a replay of *files* is kept: beside the first of them."""
    return files[0].with_name(files[0].name + SUFFIX)


def write(path: Path, point: ResumePoint, files: Sequence[Path], target: str, *, to_disk: bool) -> None:
    """Keep *point* of the replay of *files* to *target* in *path*; *to_disk* waits for the disk, too.

    Raises RecordingError.
    """
    tree = {
        "replay": "greenhouse-ingest",
        "version": _VERSION,
        "files": [each.name for each in files],
        "target": target,
        "file": point.position.file,
        "block": point.position.offset,
        "messages": point.position.done,
        "round": point.round,
        "shift_us": point.shift_us,
        "finished": point.finished,
        "began_us": point.began_us,
    }
    replace(path, tree, to_disk=to_disk)


def replace(path: Path, tree: Mapping[str, Any], *, to_disk: bool) -> None:
    """Have *tree* in *path*, as a whole, whoever else does the same. Raises RecordingError."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        with beside.open("wb") as file:
            file.write(orjson.dumps(tree, option=orjson.OPT_APPEND_NEWLINE))
            if to_disk:
                file.flush()
                os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise RecordingError(f"the resume point cannot be kept in {path}: {error.strerror}") from error


def read(path: Path, files: Sequence[Path], target: str) -> ResumePoint:
    """Give the point kept in *path*; the beginning where there is none.

    Raises RecordingError: cannot be read, is no resume point, or one of other files or another *target*.
    """
    try:
        tree: Any = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return ResumePoint()
    except OSError as error:
        raise RecordingError(f"{path} cannot be read: {error.strerror}") from error
    except orjson.JSONDecodeError as error:
        raise RecordingError(f"{path} is no resume point: {error}; remove it to begin anew") from error
    try:
        shift_us = tree["shift_us"]
        point = ResumePoint(
            Position(int(tree["file"]), int(tree["block"]), int(tree["messages"])),
            int(tree["round"]),
            None if shift_us is None else int(shift_us),
            tree["finished"] is True,
            tuple(map(int, tree["began_us"])),
        )
        known = (tree["version"], tree["files"], tree["target"])
    except (KeyError, TypeError, ValueError) as error:
        raise RecordingError(f"{path} is no resume point; remove it to begin anew") from error
    if (
        known != (_VERSION, [each.name for each in files], target)
        or not 0 <= point.position.file < len(files)
        or len(point.began_us) != len(files)
    ):
        named = ", ".join(map(str, known[1])) if isinstance(known[1], list) else known[1]
        raise RecordingError(f"{path} is of another replay ({named} to {known[2]}); remove it to begin anew")
    return point
