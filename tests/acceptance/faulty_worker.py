"""`ingest run` that kills or freezes itself at a named moment; for tests only, outside the package.

`FAULT=name:n` makes the process SIGKILL itself when it comes to the fault point *name* for the n-th time;
with `name:n:freeze` it is SIGSTOP, and on SIGCONT it goes on as if nothing had been.
The points lie within a transaction, between COMMIT, PUBACK, its proof and the emptied journal, and in the
order of a shutdown, where a kill from outside hits once in a thousand times.
Whatever the FAULT, some payloads end it, as a bug of ours might: see `Deadly`.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
from typing import TYPE_CHECKING, Any, Literal, get_args

from ingest import cli, commits, healing, link, replaying, worker
from ingest.decode import Decoder
from ingest.link import Link
from ingest.receive import Session
from ingest.write import Writer, copy, journal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from ingest.decode import Ignored
    from ingest.model import Decoded
    from ingest.write import Batch, Counts, Outcome
    from ingest.write.replay import LookedAt

Fault = Literal[
    "no_fault",
    # a batch, in its order
    "before_copy",
    "half_of_copy",  # the server has half of the rows, and waits for more
    "before_journal",  # rows and dead letters are in the transaction, the journal's entry is not
    "before_commit",
    "commit_sent",  # and not answered
    "before_puback",
    "half_of_pubacks",
    "after_puback",
    "after_proof",
    "within_healing",  # each dead letter looked at counts; those before it in its transaction are locked
    # a shutdown, in its order
    "leaving_undrained",
    "leaving_unproved",
    "leaving_connected",  # proved; DISCONNECT is not sent
    "leaving_disconnected",  # the stored list is not emptied
    "leaving_forgotten",
]

Deadly = Literal["SIGKILL", "STILL", "EXCEPTION"]
"""What a payload holds to end the process in its decoding, to have it stand still there, as in a loop within
a C extension, or to raise in its COMMIT."""

NAME, NUMBER, *FREEZE = os.environ.get("FAULT", "no_fault:0").split(":")
assert NAME in get_args(Fault), NAME
_left = int(NUMBER)


def come_to(fault: Fault) -> bool:
    """Whether it is now that the process ends at *fault*."""
    global _left  # noqa: PLW0603 (a countdown of the whole process)
    if fault != NAME:
        return False
    _left -= 1
    return _left == 0


def end() -> None:
    os.kill(os.getpid(), signal.SIGSTOP if FREEZE == ["freeze"] else signal.SIGKILL)


def holds(payload: bytes, deadly: Deadly) -> bool:
    return deadly.encode() in payload


class MortalDecoder(Decoder):
    """A Decoder that does not survive every payload."""

    def decode(
        self,
        topic: str,
        payload: bytes,
        receipt_us: int,
        *,
        now_us: int | None = None,
        time_range_us: tuple[int, int] | None = None,
    ) -> Decoded | Ignored:
        if holds(payload, "SIGKILL"):
            end()
        if holds(payload, "STILL"):
            ctypes.PyDLL(None).sleep(3_600)  # as PyDLL, it keeps the interpreter to itself
        return super().decode(topic, payload, receipt_us, now_us=now_us, time_range_us=time_range_us)


class FaultyLink(Link):
    """A Link with fault points around its PUBACKs and in its leaving."""

    def acknowledge(self, answers: list[int]) -> None:
        if answers and come_to("before_puback"):
            end()
        if len(answers) > 1 and come_to("half_of_pubacks"):
            super().acknowledge(answers[: len(answers) // 2])
            end()
        super().acknowledge(answers)
        if answers and come_to("after_puback"):
            end()

    def stop_intake(self) -> None:
        super().stop_intake()
        if come_to("leaving_undrained"):
            end()

    async def leave(self) -> None:
        if come_to("leaving_unproved"):
            end()
        await super().leave()
        if come_to("leaving_disconnected"):
            end()


class FaultySession(Session):
    """A Session with a fault point before DISCONNECT."""

    async def close(self, timeout_s: float) -> None:
        if come_to("leaving_connected"):
            end()
        await super().close(timeout_s)


class FaultyWriter(Writer):
    """A Writer with fault points before a transaction and around the emptied list."""

    async def commit(self, batch: Batch, pending: Sequence[int], also: Counts) -> Outcome:
        if come_to("before_copy"):
            end()
        if batch.rows and any(holds(each.payload, "EXCEPTION") for each in batch.deliveries):
            raise RuntimeError("a bug")
        return await super().commit(batch, pending, also)

    async def forget(self, pending: Sequence[int]) -> None:
        if come_to("after_proof"):
            end()
        await super().forget(pending)

    async def close(self) -> None:
        if come_to("leaving_forgotten"):
            end()
        await super().close()


async def stream(packed: Iterable[Sequence[bytes]]) -> AsyncIterator[bytes]:
    """Give the COPY stream, with a fault point when half of its rows are sent."""
    rows = [row for part in packed for row in part]
    if len(rows) > 1 and come_to("half_of_copy"):
        async for chunk in sound_stream([rows[: len(rows) // 2]]):
            if chunk != TRAILER:  # which would end the rows
                yield chunk
        end()
    async for chunk in sound_stream([rows]):
        yield chunk


async def record(*arguments: Any) -> None:  # noqa: ANN401 (as the journal's own)
    if come_to("before_journal"):
        end()
    await sound_record(*arguments)
    if come_to("before_commit"):
        end()
    if come_to("commit_sent"):
        asyncio.get_running_loop().call_soon(end)  # once COMMIT is written, which waits for nothing before


def look_again(*arguments: Any) -> LookedAt:  # noqa: ANN401 (as the healer's own)
    if come_to("within_healing"):
        end()
    return replaying.look_again(*arguments)


SIGNATURE, TRAILER = vars(copy)["_SIGNATURE"], vars(copy)["_TRAILER"]
sound_stream, sound_record = vars(copy)["stream"], journal.record
vars(commits).update(Link=FaultyLink, Writer=FaultyWriter)
vars(link).update(Session=FaultySession)
vars(copy).update(stream=stream)
vars(journal).update(record=record)
vars(healing).update(look_again=look_again)
vars(worker).update(Decoder=MortalDecoder)

if __name__ == "__main__":
    cli.main()
