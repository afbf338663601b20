"""`ingest run` that kills itself at a named moment; for tests only, outside the package.

`FAULT=name:n` makes the process SIGKILL itself when it comes to the fault point *name* for the n-th time.
The points lie between COMMIT, PUBACK, its proof and the emptied journal, where a kill from outside hits
once in a thousand times. Whatever the FAULT, some payloads end it, as a bug of ours might: see `Deadly`.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Literal, get_args

from ingest import cli, commits, worker
from ingest.decode import Decoder
from ingest.link import Link
from ingest.write import Writer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingest.decode import Ignored
    from ingest.model import Decoded
    from ingest.write import Batch, Counts, Outcome

Fault = Literal[
    "no_fault", "before_commit", "before_puback", "half_of_pubacks", "after_puback", "after_proof"
]

Deadly = Literal["SIGKILL", "LOOP", "EXCEPTION"]
"""What a payload holds to end the process in its decoding, to keep it there, or to raise in its COMMIT."""

NAME, _, NUMBER = os.environ.get("FAULT", "no_fault:0").partition(":")
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
    os.kill(os.getpid(), signal.SIGKILL)


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
        while holds(payload, "LOOP"):
            pass
        return super().decode(topic, payload, receipt_us, now_us=now_us, time_range_us=time_range_us)


class FaultyLink(Link):
    """A Link with fault points around its PUBACKs."""

    def acknowledge(self, packet_ids: list[int]) -> None:
        if packet_ids and come_to("before_puback"):
            end()
        if len(packet_ids) > 1 and come_to("half_of_pubacks"):
            super().acknowledge(packet_ids[: len(packet_ids) // 2])
            end()
        super().acknowledge(packet_ids)
        if packet_ids and come_to("after_puback"):
            end()


class FaultyWriter(Writer):
    """A Writer with fault points around COMMIT."""

    async def commit(self, batch: Batch, pending: Sequence[tuple[int, int]], also: Counts) -> Outcome:
        if come_to("before_commit"):
            end()
        if batch.rows and any(holds(each.payload, "EXCEPTION") for each in batch.deliveries):
            raise RuntimeError("a bug")
        return await super().commit(batch, pending, also)

    async def forget(self, pending: Sequence[tuple[int, int]]) -> None:
        if come_to("after_proof"):
            end()
        await super().forget(pending)


vars(commits).update(Link=FaultyLink, Writer=FaultyWriter)
vars(worker).update(Decoder=MortalDecoder)

if __name__ == "__main__":
    cli.main()
