"""The blocks of a recording: gzip members in a file, and what between them is none.

A member says by its CRC whether it is whole, and begins with three bytes that can be looked for. Here is
nothing of messages: bytes, offsets, and why something cannot be read. Whoever made the file, reading it takes
no more memory and time than its size warrants.
"""

from __future__ import annotations

import os
import re
import zlib
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator

_MOST_BLOCK_BYTES: Final = 134_217_728
"""Lines of one block that the reader holds. The recorder's largest message takes 97 MiB as a line: 16 MiB of
control characters. `gzip` makes one block of a whole file; a bomb is one, too."""
_MOST_BARE_BYTES: Final = 16_777_216
"""Of a block's lines without the texts in them: each of these bytes may be an object in memory, up to 184
bytes of it. Some 400 000 messages; a message of 16 MiB of user properties takes 13 MiB."""
_SMALL_BYTES: Final = 2_097_152
"""Of lines, of which nobody counts what is in them: more than the recorder gathers in a block."""
_MOST_IN_VAIN_BYTES: Final = 1_073_741_824
"""Read and decompressed of a file without a block to come of it, some seconds' work, before the rest of it
is given up: one place may be made to look like thousands of blocks, each of them a bomb."""
_IN_VAIN_FOR_A_BYTE: Final = 64
"""And more for each byte of the file that has been passed, so that a large one may be damaged often."""
_PART_BYTES: Final = 1_048_576
_READ_BYTES: Final = 131_072
_MAGIC: Final = b"\x1f\x8b\x08"
_GZIP: Final = 31
"""zlib's word for a gzip wrapper around a window of 32 KiB; its header has neither time nor name."""
_LEVEL: Final = 6
"""Of 380 bytes a message leaves 26, in 4.3 µs; level 1 leaves 36 in 1.2 µs, level 9 leaves 24 in 16 µs."""
_NO_END: Final = "a block without its end"
_TEXT: Final = re.compile(rb'"[^"\\\n]*+(?:\\.[^"\\\n]*+)*+"?')
"""A text of JSON, which ends with its line at the latest: no byte is looked at twice."""


class Member(NamedTuple):
    """A whole block: *lines* is what it holds, *length* what it takes in the file."""

    offset: int
    length: int
    lines: bytes


class Gap(NamedTuple):
    """Bytes that are no gzip member, or one that is refused; *last*: none comes behind them."""

    offset: int
    length: int
    reason: str
    last: bool
    torn: bool = False
    """Whether it is the beginning of a member, up to the file's end: its writer was killed."""


Piece: TypeAlias = Member | Gap


class _Refused(NamedTuple):
    """Why there is no member; the *length* of one that is whole all the same, else 0."""

    reason: str
    length: int


def compressed(lines: bytes) -> bytes:
    """Give *lines* as a member, the same bytes each time."""
    member = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    return member.compress(lines) + member.flush()


def pieces(file: io.FileIO, offset: int) -> Iterator[Piece]:
    """Cut *file* from *offset* on into gzip members and what is none, without leaving out a byte."""
    return _Cutter(file).pieces(offset)


class _Cutter:
    """Goes through a file once, and keeps account of what it did in vain."""

    def __init__(self, file: io.FileIO) -> None:
        self._file = file
        self._spare = _MOST_IN_VAIN_BYTES

    def pieces(self, offset: int) -> Iterator[Piece]:
        """Do as the function of this name."""
        while (found := self._member_at(offset)) is not None:
            piece = found if isinstance(found, Member) else self._gap(offset, found)
            yield piece
            offset += piece.length
            self._spare += piece.length * _IN_VAIN_FOR_A_BYTE

    def _gap(self, offset: int, refused: _Refused) -> Gap:
        """Give what lies between *offset*, where a member was *refused*, and the next one."""
        reason, length = refused
        end = self._file.seek(0, os.SEEK_END)
        if length:
            return Gap(offset, length, reason, offset + length == end)
        found = self._next_member(offset + 1)
        given_up = found is None and self._spare <= 0
        if reason == _NO_END and (found is not None or given_up):  # no writer that was killed
            reason = "a damaged block"
        if given_up:
            reason += f"; the rest of the file is given up, {_MOST_IN_VAIN_BYTES >> 20} MiB were read in vain"
        at = end if found is None else found
        return Gap(offset, at - offset, reason, found is None, reason == _NO_END)

    def _member_at(self, offset: int) -> Member | _Refused | None:
        """Give the member at *offset*, or why there is none; None at the end of the file.

        One that is too large is gone through to its end, unless too much was done in vain by then.
        """
        self._file.seek(offset)
        taken = size = 0
        parts: list[bytes] = []
        reason: str | None = None
        member = zlib.decompressobj(_GZIP)
        while not member.eof and (data := member.unconsumed_tail or self._file.read(_READ_BYTES)):
            if not taken and not data.startswith(_MAGIC[: len(data)]):
                return _Refused("bytes that are no block", 0)
            taken += 0 if member.unconsumed_tail else len(data)
            try:
                part = member.decompress(data, _PART_BYTES)
            except zlib.error as error:
                reason = reason or f"a damaged block ({str(error).rpartition(': ')[2]})"
                break
            size += len(part)
            if size <= _MOST_BLOCK_BYTES:
                parts.append(part)
                continue
            parts.clear()
            reason = f"a block of more than {_MOST_BLOCK_BYTES >> 20} MiB of lines"
            if taken + size > self._spare:
                break
        if not taken:
            return None
        if reason is None and not member.eof:
            reason = _NO_END
        length = taken - len(member.unused_data) if member.eof else 0
        lines = b"".join(parts)
        if reason is None and _is_overfull(lines):
            reason = f"a block of more than {_MOST_BARE_BYTES >> 20} MiB of lines without the texts in them"
        if reason is None:
            return Member(offset, length, lines)
        self._spare -= taken + size
        return _Refused(reason, length)

    def _next_member(self, offset: int) -> int | None:
        """Give where the first member at *offset* or later begins that is whole, if only to be refused."""
        while True:
            self._file.seek(offset)
            data = self._file.read(_READ_BYTES)
            if len(data) < len(_MAGIC):
                return None
            at = data.find(_MAGIC)
            while at >= 0:
                if self._spare <= 0:
                    return None
                found = self._member_at(offset + at)
                if isinstance(found, Member) or (found is not None and found.length):
                    return offset + at
                at = data.find(_MAGIC, at + 1)
            offset += len(data) - len(_MAGIC) + 1


def _is_overfull(lines: bytes) -> bool:
    """Tell whether *lines* may be more objects than memory is to hold; 20 ms a MiB of messages."""
    if len(lines) <= _SMALL_BYTES:
        return False
    bare = end = 0
    for text in _TEXT.finditer(lines):
        bare += text.start() - end + 1
        end = text.end()
        if bare > _MOST_BARE_BYTES:
            return True
    return bare + len(lines) - end > _MOST_BARE_BYTES
