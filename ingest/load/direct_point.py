"""Where a backfill stands: everything before it is in the table, counted, and its rejects in their file.

A small JSON file beside the recording, `FILE.direct`, replaced as a whole: a kill leaves the point before or
the one after.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

import orjson

from ingest.errors import RecordingError
from ingest.load.backfill import Account
from ingest.load.resume import Position

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SUFFIX: Final = ".direct"
_VERSION: Final = 1


class DirectPoint(NamedTuple):
    """See the module's header."""

    position: Position = Position()
    account: Account = Account()
    rejected_bytes: int = 0
    """What the file of rejected messages holds of them."""
    finished: bool = False


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
        "rejected_bytes": point.rejected_bytes,
        "finished": point.finished,
    }
    beside = path.with_name(path.name + ".new")
    try:
        with beside.open("wb") as file:
            file.write(orjson.dumps(tree, option=orjson.OPT_APPEND_NEWLINE))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise RecordingError(f"the resume point cannot be kept in {path}: {error.strerror}") from error


def read(path: Path, files: Sequence[Path], target: str) -> DirectPoint:
    """Give the point kept in *path*; the beginning where there is none.

    Raises RecordingError: cannot be read, is no such point, or one of other files or another *target*.
    """
    try:
        tree: Any = orjson.loads(path.read_bytes())
        point = DirectPoint(
            Position(*map(int, tree["position"])),
            Account.of_json(tree["account"]),
            int(tree["rejected_bytes"]),
            tree["finished"] is True,
        )
        known = (tree["version"], tree["files"], tree["target"])
    except FileNotFoundError:
        return DirectPoint()
    except OSError as error:
        raise RecordingError(f"{path} cannot be read: {error.strerror}") from error
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise RecordingError(f"{path} is no resume point; remove it to begin anew") from error
    if known != (_VERSION, [each.name for each in files], target):
        raise RecordingError(
            f"{path} is of another backfill ({known[1]} into {known[2]}); remove it to begin anew"
        )
    return point
