"""Recordings as one row of messages: what is in them, what is damaged, and each message with its place.

Several files are one recording in the order given. They are read twice: a replay has to know its gateways,
its end and its damage before it begins. Files only; no broker.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ingest.load.recording import Damage, read
from ingest.load.resume import Position

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from ingest.load.recording import Recorded


@dataclass(slots=True)
class Survey:
    """What the files hold."""

    begun: bool
    """Whether there is the message at which a replay goes on: if not, the file is another by now."""
    messages: int = 0
    before: int = 0
    """Those of them before the place where a replay goes on."""
    first_us: int = 0
    """When the first message came,"""
    last_us: int = 0
    """and the latest."""
    retained: int = 0
    client_ids: list[str] = field(default_factory=list)
    """Who published, as far as the recording knows, each once, in the order of appearance."""
    nameless: int = 0
    """Messages of which it does not know."""
    damages: list[Damage] = field(default_factory=list)


def survey(files: Sequence[Path], start: Position, on_block: Callable[[int], None] | None = None) -> Survey:
    """Read *files* through, of which those before *start* are done.

    *on_block* hears how many messages there are so far; what it raises ends this. Raises RecordingError.
    """
    found = Survey(begun=start == Position())
    client_ids: dict[str, None] = {}
    for number, path in enumerate(files):
        for block in read(path):
            if isinstance(block, Damage):
                found.damages.append(block)
                continue
            if (number, block.offset) < (start.file, start.offset):
                found.before += len(block.messages)
            elif (number, block.offset) == (start.file, start.offset):
                found.before += start.done
                found.begun = start.done <= len(block.messages)
            for message in block.messages:
                found.retained += message.retain
                if message.client_id is None:
                    found.nameless += 1
                else:
                    client_ids[message.client_id] = None
            if times_us := [message.received_us for message in block.messages]:
                found.first_us = min([*times_us, found.first_us] if found.messages else times_us)
                found.last_us = max(*times_us, found.last_us)
                found.messages += len(times_us)
            if on_block is not None:
                on_block(found.messages)
    found.client_ids = list(client_ids)
    return found


def messages_from(files: Sequence[Path], start: Position) -> Iterator[tuple[Position, Recorded]]:
    """Give the messages at *start* and behind it, each with its place; what is damaged is left out."""
    for number in range(start.file, len(files)):
        offset = start.offset if number == start.file else 0
        for block in read(files[number], from_block=offset):
            if isinstance(block, Damage):
                continue
            skipped = start.done if (number, block.offset) == (start.file, start.offset) else 0
            for index in range(skipped, len(block.messages)):
                yield Position(number, block.offset, index), block.messages[index]
