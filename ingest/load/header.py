"""What a recording says of itself in the first line of its first block; `recording` writes and checks it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from ingest.errors import RecordingError
from ingest.load.members import Gap

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ingest.load.members import Piece

NAME: Final = "greenhouse-ingest"
VERSION: Final = 1
FIELDS: Final = {
    "received_us": "arrival, in microseconds since 1970-01-01 UTC; strictly increasing within a recording",
    "topic": "topic it was published to",
    "qos": "QoS it was delivered with",
    "retain": "whether it was a retained message, sent because of the subscription",
    "payload": "payload, where it is UTF-8",
    "payload_base64": "payload in base64, where it is not UTF-8",
    "client_id": "who published it, where that is known: MQTT does not tell a subscriber",
    "properties": "MQTT 5 properties, where there are any; correlation_data_base64 in base64, "
    "user_properties a list of pairs",
}
HEADER: Final = {"recording": NAME, "version": VERSION, "fields": FIELDS}
BEGINS: Final = orjson.dumps({"recording": NAME})[:-1]
"""How each header begins that the writer made."""


def check_header(path: Path, first: Piece, *, strictly: bool) -> None:
    """Refuse what is no recording by its *first* piece; unless *strictly*, a header may be damaged."""
    if isinstance(first, Gap):
        if strictly or first.last:
            raise RecordingError(f"{path} is no recording (gzip'd JSON lines): it begins with {first.reason}")
        return
    header = _read(first.lines.partition(b"\n")[0])
    if header.get("recording") != NAME:
        raise RecordingError(f"{path} is no recording: its first line is no header of one")
    if header.get("version") != VERSION:
        raise RecordingError(
            f"{path} is a recording of version {header.get('version')}; this release reads version {VERSION}"
        )


def check_names(path: Path, lines: bytes, *, anonymised: bool) -> None:
    """Refuse to mix messages with and without names: by each header in *lines*, wherever it stands."""
    for header in _headers(lines):
        if bool(header.get("anonymised")) != anonymised:
            holds, wanted = ("names", "anonymised") if anonymised else ("anonymised messages", "not")
            raise RecordingError(f"{path} holds {holds}, and what is to come is {wanted}: take another file")


def _headers(lines: bytes) -> Iterator[dict[str, Any]]:
    at = lines.find(BEGINS)
    while at >= 0:
        end = lines.find(b"\n", at)
        if at == 0 or lines[at - 1 : at] == b"\n":
            yield _read(lines[at : end if end >= 0 else None])
        at = lines.find(BEGINS, at + 1)


def _read(line: bytes) -> dict[str, Any]:
    """Give the object in *line*; an empty one where there is none."""
    try:
        tree = orjson.loads(line)
    except orjson.JSONDecodeError:
        return {}
    return tree if isinstance(tree, dict) else {}
