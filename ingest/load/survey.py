"""Recordings as one row of messages: what is in them, what is damaged, and each message with its place.

Several files are one recording in the order given. They are read twice: a replay has to know its gateways,
its end and its damage before it begins. Files only; no broker.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ingest.errors import RecordingError
from ingest.load.recording import Damage, read
from ingest.load.resume import Position

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from ingest.load.recording import Recorded

_MOST_CLIENT_IDS: Final = 10_000
"""As many connections a replay makes at most; a hostile recording could name one in each line."""


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
    began_us: list[int] = field(default_factory=list)
    """When the first message of each file came; 0 where there is none."""
    damages: list[Damage] = field(default_factory=list)


def survey(files: Sequence[Path], start: Position, on_block: Callable[[int], None] | None = None) -> Survey:
    """Read *files* through, of which those before *start* are done.

    *on_block* hears how many messages there are so far; what it raises ends this. May block for as long as
    the files take to be read. Raises RecordingError: one cannot be read, or they name too many clients.
    """
    found = Survey(begun=start == Position())
    client_ids: dict[str, None] = {}
    for number, path in enumerate(files):
        found.began_us.append(0)
        for block in read(path):
            if on_block is not None:
                on_block(found.messages)
            if isinstance(block, Damage):
                found.damages.append(block)
                continue
            if (number, block.offset) < (start.file, start.offset):
                found.before += len(block.messages)
            elif (number, block.offset) == (start.file, start.offset):
                found.before += start.done
                found.begun = start.done <= len(block.messages)
            _add(found, client_ids, block.messages)
            if len(client_ids) > _MOST_CLIENT_IDS:
                raise RecordingError(f"{path} names more than {_MOST_CLIENT_IDS} clients that publish")
    found.client_ids = list(client_ids)
    return found


def _add(found: Survey, client_ids: dict[str, None], messages: Sequence[Recorded]) -> None:
    for message in messages:
        found.retained += message.retain
        if message.client_id is None:
            found.nameless += 1
        else:
            client_ids[message.client_id] = None
    if times_us := [message.received_us for message in messages]:
        found.first_us = min([*times_us, found.first_us] if found.messages else times_us)
        found.last_us = max(*times_us, found.last_us)
        found.messages += len(times_us)
        found.began_us[-1] = found.began_us[-1] or times_us[0]


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
