"""Where a backfill stands: everything before it is in the table, counted, and its rejects in their file.

A small JSON file beside the recording, `FILE.direct`, replaced as a whole: a kill leaves the point before or
the one after.
"""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

import orjson

from ingest.errors import RecordingError
from ingest.load.backfill import Account
from ingest.load.opening import size_of
from ingest.load.recording import Damage, members, messages_of
from ingest.load.resume import Position, replace, same_recordings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SUFFIX: Final = ".direct"
_VERSION: Final = 1


class DirectPoint(NamedTuple):
    """See the module's header."""

    position: Position = Position()
    account: Account = Account()
    rejected: str | None = None
    """The file of rejected messages,"""
    rejected_bytes: int = 0
    """and what it holds of those before the point."""
    damaged: int = 0
    """Places before it that cannot be read."""
    finished: bool = False
    began_us: tuple[int, ...] = ()
    """When the first message of each file came, by which another recording of the same name is told."""


def point_file(files: Sequence[Path]) -> Path:
    """Give where the point of *files* is kept: beside the first of them."""
    return files[0].with_name(files[0].name + SUFFIX)


def target_of(dsn: str) -> str:
    """Name the database of *dsn*, without who logs in to it."""
    parts = urlsplit(dsn)
    return f"{parts.netloc.rpartition('@')[2]}{parts.path}"


def write(path: Path, point: DirectPoint, files: Sequence[Path], target: str) -> None:
    """Keep *point* of *files* into the database *target*. Raises RecordingError."""
    tree = {
        "backfill": "greenhouse-ingest",
        "version": _VERSION,
        "files": [each.name for each in files],
        "target": target,
        "position": list(point.position),
        "account": point.account.as_json(),
        "rejected": point.rejected,
        "rejected_bytes": point.rejected_bytes,
        "damaged": point.damaged,
        "finished": point.finished,
        "began_us": point.began_us,
    }
    replace(path, tree, to_disk=True)


def read(path: Path, files: Sequence[Path], target: str, began_us: tuple[int, ...]) -> DirectPoint:
    """Give the point kept in *path*, of *files* that begin at *began_us*; the beginning where there is none.

    One that was finished is not where a file grew since. Raises RecordingError: cannot be read, is no such
    point, or one of other files, of other recordings under their names, or of another *target*.
    """
    try:
        tree: Any = orjson.loads(path.read_bytes())
        point = DirectPoint(
            Position(*map(int, tree["position"])),
            Account.of_json(tree["account"]),
            None if tree["rejected"] is None else str(tree["rejected"]),
            int(tree["rejected_bytes"]),
            int(tree["damaged"]),
            tree["finished"] is True,
            tuple(map(int, tree["began_us"])),
        )
        known = (tree["version"], tree["files"], tree["target"])
    except FileNotFoundError:
        return DirectPoint(began_us=began_us)
    except OSError as error:
        raise RecordingError(f"{path} cannot be read: {error.strerror}") from error
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise RecordingError(f"{path} is no resume point; remove it to begin anew") from error
    if known != (_VERSION, [each.name for each in files], target):
        raise RecordingError(
            f"{path} is of another backfill ({known[1]} into {known[2]}); remove it to begin anew"
        )
    return _checked(path, point, files, began_us)


def began_of(files: Sequence[Path]) -> tuple[int, ...]:
    """Give when the first message of each of *files* came; 0 where none can be read."""
    return tuple(map(_began, files))


def _began(path: Path) -> int:
    with contextlib.suppress(RecordingError):
        for block in members(path):
            for line in () if isinstance(block, Damage) else io.BytesIO(block.lines):
                if messages := messages_of(line)[0]:
                    return messages[0].received_us
    return 0


def _checked(path: Path, point: DirectPoint, files: Sequence[Path], began_us: tuple[int, ...]) -> DirectPoint:
    """Refuse a *point* that is of what the files held before, not of what they hold now."""
    file, offset, _ = point.position
    if not (0 <= file < len(files) and same_recordings(point.began_us, began_us)):
        raise RecordingError(f"{path} is of other recordings of the same names; remove it to begin anew")
    size = size_of(files[file])
    if size < offset:
        raise RecordingError(f"{files[file]} is shorter than {path} says; remove that to begin anew")
    finished = point.finished and (file, offset) == (len(files) - 1, size)
    return point._replace(began_us=began_us, finished=finished)
