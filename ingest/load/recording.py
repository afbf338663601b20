"""The recording: messages in a file of gzip'd JSON lines, to be read with `zcat FILE | jq` and by `read`.

A file is a row of gzip members, its blocks: the first holds a header that says what each field is, the
others up to a thousand messages each. A block is written in one piece, so that a killed writer tears the
last one at most, and its CRC tells damage. Same messages, same bytes: no clock and no file name goes in.
No event loop, no broker: a file, its bytes, and what they mean.
"""

from __future__ import annotations

import os
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import orjson

from ingest.errors import RecordingError
from ingest.load.fields import usable
from ingest.load.header import BEGINS, HEADER, NAME, check_header, check_names
from ingest.load.members import Gap, Member, compressed, pieces
from ingest.load.opening import append_whole, opened_to_read, opened_to_write

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

SUFFIX: Final = ".jsonl.gz"
BLOCK_MESSAGES: Final = 1000
BLOCK_BYTES: Final = 1_048_576
"""A block ends with the message that reaches this many bytes of lines, too: large payloads fill no memory."""
_AT_ONCE_BYTES: Final = 2_097_152
"""Lines that are parsed as one, if they are no more: a block as the writer makes it."""


class Recorded(NamedTuple):
    """One message of a recording."""

    received_us: int
    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    client_id: str | None = None
    properties: Mapping[str, Any] | None = None


class Block(NamedTuple):
    """The messages of one gzip member. A resume point is its offset and how many of its messages are done."""

    offset: int
    length: int
    messages: list[Recorded]


class Damage(NamedTuple):
    """What cannot be read of a file: *length* bytes at *offset*, or some lines of the block there."""

    path: Path
    offset: int
    length: int
    reason: str
    torn: bool = False
    """Whether it is a block without its end, the last: a recorder that goes on writes another there."""

    def __str__(self) -> str:
        """Say it to the operator."""
        return f"{self.path}: {self.length} bytes at offset {self.offset}: {self.reason}"


class LineFault(NamedTuple):
    """What is wrong with a line; they count from 1."""

    line: int
    reason: str

    def __str__(self) -> str:
        """Say it to the operator."""
        return f"line {self.line} {self.reason}"


# lines


def line_of(message: Recorded) -> bytes:
    """Give *message* as a line, its line feed included; raises TypeError for what JSON cannot say."""
    tree: dict[str, Any] = {
        "received_us": message.received_us,
        "topic": message.topic,
        "qos": message.qos,
        "retain": message.retain,
    }
    try:
        tree["payload"] = message.payload.decode()
    except UnicodeDecodeError:
        tree["payload_base64"] = b64encode(message.payload).decode()
    if message.client_id is not None:
        tree["client_id"] = message.client_id
    if message.properties:
        tree["properties"] = message.properties
    return orjson.dumps(tree, option=orjson.OPT_APPEND_NEWLINE)


def messages_of(lines: bytes) -> tuple[list[Recorded], list[LineFault]]:
    """Give the messages of *lines*, leaving headers out, and what is wrong with each line that is neither.

    So that objects that are soon gone fill no memory, many lines are read some thousands at a time.
    """
    if len(lines) <= _AT_ONCE_BYTES:
        return _at_once(lines, 1)
    messages: list[Recorded] = []
    faults: list[LineFault] = []
    start, number = 0, 1
    while start < len(lines):
        end = lines.rfind(b"\n", start, start + _AT_ONCE_BYTES) + 1
        end = end or lines.find(b"\n", start + _AT_ONCE_BYTES) + 1 or len(lines)
        some = lines[start:end]
        more, wrong = _at_once(some, number)
        messages += more
        faults += wrong
        start, number = end, number + some.count(b"\n")
    return messages, faults


def _at_once(lines: bytes, number: int) -> tuple[list[Recorded], list[LineFault]]:
    """Read *lines*, of which *number* is the first; those of `line_of` as one, in 1.1 µs a message.

    Others, from a hand, are read one by one. A line feed stays one: no text may go on behind it.
    """
    try:
        trees = orjson.loads(b"[" + lines[:-1].replace(b"\n", b"\n,") + b"]")
        messages = [
            tuple.__new__(
                Recorded,
                (
                    tree["received_us"],
                    tree["topic"],
                    tree["payload"].encode(),
                    tree["qos"],
                    tree["retain"],
                    tree.get("client_id"),
                    tree.get("properties"),
                ),
            )
            for tree in trees
        ]
        if usable(messages):
            return messages, []
    except (KeyError, TypeError, AttributeError, ValueError):  # JSONDecodeError is a ValueError
        pass
    return _one_by_one(lines, number)


def _one_by_one(lines: bytes, first: int) -> tuple[list[Recorded], list[LineFault]]:
    messages: list[Recorded] = []
    faults: list[LineFault] = []
    for number, line in enumerate(lines.split(b"\n"), first):
        try:
            if not line.strip() or (message := _message_of(line)) is None:
                continue
        except KeyError as error:
            faults.append(LineFault(number, f"has no {error.args[0]}"))
        except orjson.JSONDecodeError as error:
            faults.append(LineFault(number, f"is no JSON: {error}"))
        except (TypeError, AttributeError, ValueError):  # no object, a payload that is no text, no base64
            faults.append(LineFault(number, "is no message"))
        else:
            messages.append(message)
    return messages, faults


def _message_of(line: bytes) -> Recorded | None:
    """Read a *line*; None for a header. Raises KeyError, TypeError, AttributeError, ValueError."""
    tree = orjson.loads(line)
    if tree.get("recording") == NAME:
        return None
    text = tree.get("payload")
    message = Recorded(
        received_us=tree["received_us"],
        topic=tree["topic"],
        payload=b64decode(tree["payload_base64"], validate=True) if text is None else text.encode(),
        qos=tree.get("qos", 1),
        retain=tree.get("retain", False),
        client_id=tree.get("client_id"),
        properties=tree.get("properties"),
    )
    if not usable([message]):
        raise TypeError
    return message


# writing


class Recording:
    """Writes one file; a context manager. What was written stands in it after `flush`, on disk after `close`.

    Only whole blocks get into the file: a kill loses the messages since the last one, a full disk those
    of the block that did not fit.
    """

    def __init__(
        self,
        path: Path,
        *,
        append: bool = False,
        block_messages: int = BLOCK_MESSAGES,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        """Open *path* for one writer, which its owner alone may read, and write the header.

        With *append* a recording that is there is gone on with, and `cut` tells what a killed writer had
        left at its end. *about* goes into the header. Raises RecordingError: cannot be opened or written,
        exists without *append*, is no recording, another process writes it, ends with damage that no killed
        writer leaves, or is anonymised where *about* does not say so, or the other way round.
        """
        self.path = path
        self.cut: Damage | None = None
        """The torn last block that was cut off, when there was one."""
        self.written = 0
        """Messages that stand in the file since it was opened; `buffered` ones not yet."""
        self.size_bytes = 0
        """What stands in the file."""
        self.last_us = 0
        """When the newest message came."""
        self._block_messages = block_messages
        self._lines: list[bytes] = []
        self._lines_bytes = 0
        self._file = opened_to_write(path, append=append)
        try:
            self._go_on(anonymised=bool((about or {}).get("anonymised")))
            self._write(orjson.dumps({**HEADER, **(about or {})}, option=orjson.OPT_APPEND_NEWLINE))
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, message: Recorded) -> Recorded:
        """Add *message*, a microsecond after the one before if it came no later; give it as it is written.

        Raises RecordingError when a block is full and cannot be written; the file ends with the block before.
        """
        if message.received_us <= self.last_us:
            message = message._replace(received_us=self.last_us + 1)
        line = line_of(message)
        self.last_us = message.received_us
        self._lines.append(line)
        self._lines_bytes += len(line)
        if len(self._lines) >= self._block_messages or self._lines_bytes >= BLOCK_BYTES:
            self.flush()
        return message

    @property
    def buffered(self) -> int:
        """Messages of the block that is being filled: what a kill would lose."""
        return len(self._lines)

    def flush(self) -> None:
        """Close the block, if it has messages, and hand it to the operating system. Raises RecordingError."""
        if self._lines:
            lines, self._lines, self._lines_bytes = self._lines, [], 0
            self._write(b"".join(lines))
            self.written += len(lines)

    def close(self) -> None:
        """Write what is left and have it on disk; may be called twice. Raises RecordingError."""
        if self._file.closed:
            return
        try:
            self.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise RecordingError(f"{self.path} cannot be written to disk: {error.strerror}") from error
        finally:
            self._file.close()

    def _go_on(self, *, anonymised: bool) -> None:
        """Find the end of what is there, and cut off a block that was not written whole."""
        last: Member | None = None
        end: Member | Gap | None = None
        for piece in pieces(self._file, 0):
            if end is None:  # never a byte of a file that is something else
                check_header(self.path, piece, strictly=True)
            end = piece
            if isinstance(piece, Member):
                check_names(self.path, piece.lines, anonymised=anonymised)
                if not is_header(piece):
                    last = piece
        if last is not None:
            messages, _ = messages_of(last.lines)
            self.last_us = messages[-1].received_us if messages else 0
        if isinstance(end, Gap):
            if not end.torn:
                raise RecordingError(f"nothing is written behind damage: {_damage(self.path, end)}")
            self.cut = _damage(self.path, end)
            self._file.truncate(end.offset)
        self.size_bytes = self._file.seek(0, os.SEEK_END)

    def _write(self, lines: bytes) -> None:
        """Write *lines* as a block, or nothing of it."""
        try:
            self.size_bytes = append_whole(self._file, compressed(lines), self.size_bytes)
        except OSError as error:
            raise RecordingError(
                f"{self.path} cannot be written: {error.strerror}; what it holds up to here can be read"
            ) from error


# reading


def files(paths: Iterable[Path]) -> list[Path]:
    """Give *paths* with each folder replaced by its recordings, oldest first.

    Raises RecordingError: there are none, or one is there twice.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_file() or not path.exists():
            found.append(path)
        elif inside := sorted(path.glob(f"*{SUFFIX}")):
            found += inside
        else:
            raise RecordingError(f"{path} is neither a file nor a folder of recordings (*{SUFFIX})")
    places: set[Path] = set()
    for path in found:
        if (place := path.resolve()) in places:
            raise RecordingError(f"{path} is given twice")
        places.add(place)
    return found


def read(path: Path, *, from_block: int = 0) -> Iterator[Block | Damage]:
    """Give the blocks of *path* in order, from the one at offset *from_block*, and what lies damaged between.

    Of a block with lines that are no messages, the others are given behind its Damage. A block may be
    without messages where it has a header. Raises as `members`.
    """
    for piece in members(path, from_block=from_block):
        if isinstance(piece, Damage):
            yield piece
            continue
        messages, faults = messages_of(piece.lines)
        if faults:
            yield damaged_lines(path, piece, faults)
        yield Block(piece.offset, piece.length, messages)


def members(path: Path, *, from_block: int = 0) -> Iterator[Member | Damage]:
    """Give the blocks of *path* as `read` does, their lines unread: for whoever has them read elsewhere.

    Raises RecordingError: cannot be read, is no recording, or one of a later version.
    """
    try:
        with opened_to_read(path) as file:
            if (first := next(pieces(file, 0), None)) is None:
                yield Damage(path, 0, 0, "the file is empty")
                return
            check_header(path, first, strictly=False)
            for piece in pieces(file, from_block):
                yield _damage(path, piece) if isinstance(piece, Gap) else piece
    except OSError as error:
        raise RecordingError(f"{path} cannot be read: {error.strerror}") from error


def is_header(block: Member) -> bool:
    """Tell whether a *block* is a header and nothing else, as the writer makes them."""
    return block.lines.startswith(BEGINS) and block.lines.count(b"\n") == 1


def damaged_lines(path: Path, block: Member, faults: Sequence[LineFault]) -> Damage:
    """Give the Damage of a *block* with lines that are no messages."""
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return Damage(path, block.offset, block.length, f"{faults[0]}{more}")


def _damage(path: Path, gap: Gap) -> Damage:
    return Damage(path, gap.offset, gap.length, gap.reason, gap.torn)
