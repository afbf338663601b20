"""`ingest replay --direct`: recordings into the database without a broker, over several connections.

Owns the run: cuts the recordings into pieces of whole blocks, has each taken in by whichever connection is
free, and counts the answers in the order of the pieces, so that there is always a point before which
everything is committed. One connection is served in this process, several by a process each: decoding takes
twice the database's time. What one of them did beyond that point when it ended is met by its key.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from ingest.errors import CheckFailed, DatabaseFault, IngestError, Unavailable
from ingest.load.backfill import Account, Backfill, Retried, Taken, serve
from ingest.load.direct_point import DirectPoint
from ingest.load.garbage import seldom_collected
from ingest.load.opening import size_of
from ingest.load.recording import Damage, damaged_lines, is_header, members
from ingest.load.resume import Position
from ingest.operate.progress import Progress
from ingest.operate.rights import advice

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from ingest.load.direct_rejects import Rejects
    from ingest.load.members import Member
    from ingest.load.recording import LineFault
    from ingest.settings import Settings

PIECE_BYTES: Final = 8_388_608
"""Of lines, where they do not come to `write.max_batch_rows` messages before."""
AHEAD: Final = 4
"""Pieces a connection that may be done before an earlier one is: so many answers wait in memory."""

_NOT_MIGRATED: Final = {"42P01", "42703", "3F000"}
"""SQLSTATEs: a table, a column or a schema is missing."""


class Piece(NamedTuple):
    """Whole blocks that are taken in together; *end* is where the next one begins."""

    number: int
    path: Path
    blocks: list[Member]
    damages: list[Damage]
    end: Position
    end_bytes: int
    """Of all files, up to there."""

    @property
    def lines(self) -> bytes:
        """The lines of its blocks; one that a hand made may lack its last line feed."""
        return b"".join([_whole(block.lines) for block in self.blocks])

    def damages_of(self, faults: Iterable[LineFault]) -> Iterator[Damage]:
        """Give what *faults* of its `lines` are in the blocks that these came from."""
        first = 1
        waiting = deque(faults)
        for block in self.blocks:
            behind = first + _whole(block.lines).count(b"\n")
            here: list[LineFault] = []
            while waiting and waiting[0].line < behind:
                fault = waiting.popleft()
                here.append(fault._replace(line=fault.line - first + 1))
            if here:
                yield damaged_lines(self.path, block, here)
            first = behind


def _whole(lines: bytes) -> bytes:
    return lines if lines.endswith(b"\n") or not lines else lines + b"\n"


class Taker(Protocol):
    """Takes lines in, one batch at a time."""

    async def take(self, lines: bytes) -> Taken:
        """Commit their rows. Raises a DatabaseFault."""


@dataclass(slots=True)
class DirectReport:
    """What a backfill did, runs that it went on from included."""

    files: Sequence[Path]
    damages: list[Damage] = field(default_factory=list)
    """Of this run;"""
    damaged_before: int = 0
    """how many places the runs named that it went on from."""
    point: DirectPoint = field(default_factory=DirectPoint)
    failure: str | None = None
    """What ended it."""
    interrupted: bool = False
    seconds: float = 0.0

    @property
    def account(self) -> Account:
        """What came of the messages before the point."""
        return self.point.account

    @property
    def clean(self) -> bool:
        """Whether every message is in the table, or none of ours."""
        return not (
            self.account.incomplete or self.damages or self.damaged_before or self.failure or self.interrupted
        )

    def where(self) -> str:
        """Say where it goes on."""
        file, offset, _ = self.point.position
        return f"{self.files[file]}, block at {offset}"

    def as_json(self) -> dict[str, Any]:
        """Give the report as JSON values."""
        return {
            "files": [str(each) for each in self.files],
            "interrupted": self.interrupted,
            "failure": self.failure,
            "finished": self.point.finished,
            "seconds": round(self.seconds, 3),
            **self.account.as_json(),
            "damage": [
                {"file": str(each.path), "offset": each.offset, "bytes": each.length, "reason": each.reason}
                for each in self.damages
            ],
            "damaged_before": self.damaged_before,
        }


async def backfill(
    settings: Settings,
    files: Sequence[Path],
    *,
    connections: int,
    point: DirectPoint,
    keep_point: Callable[[DirectPoint], None],
    rejects: Rejects | None = None,
    stop: asyncio.Event | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_retry: Callable[[DatabaseFault, float], None] = lambda _fault, _wait_s: None,
) -> DirectReport:
    """Take in *files* from *point* on; *keep_point* hears of each reached, *rejects* gets what was rejected.

    After *stop* is set the pieces under way are finished. A database that stays away, a file that is no
    recording, a disk that is full and a process of it that was killed end it as soon, with the report saying
    which. Raises a DatabaseFault where there is no catalog to begin with, and what *keep_point* raises then.
    """
    began_s = time.monotonic()
    report = DirectReport(files, damaged_before=point.damaged, point=point._replace(finished=False))
    pieces = pieces_of(files, point.position, settings.write.max_batch_rows)
    run = _Run(pieces, report, keep_point, rejects, stop or asyncio.Event(), on_progress)
    run.limit = AHEAD * connections
    async with _takers(settings, connections, on_retry) as takers:
        keep_point(report.point)  # what is in the file of rejects is then told from what another left there
        await asyncio.gather(*map(run.work, takers))
    run.finish()
    report.interrupted = run.stop.is_set() and not report.point.finished
    report.seconds = time.monotonic() - began_s
    return report


class _Run:
    """One run: which piece is next, and which are done."""

    def __init__(  # noqa: PLR0917 (private, called once above)
        self,
        pieces: Iterator[Piece],
        report: DirectReport,
        keep_point: Callable[[DirectPoint], None],
        rejects: Rejects | None,
        stop: asyncio.Event,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self.stop = stop
        self.limit = AHEAD
        self._report = report
        self._keep_point = keep_point
        self._rejects = rejects
        self._on_progress = on_progress
        self._total_bytes = sum(map(size_of, report.files))
        self._pieces = pieces
        self._exhausted = False
        self._next = 0
        """The number of the first piece that is not counted yet."""
        self._done: dict[int, tuple[Piece, Taken]] = {}
        self._counted = asyncio.Condition()

    async def work(self, taker: Taker) -> None:
        """Take in pieces until there are no more, or somebody stops."""
        try:
            while not self._ends():
                if (piece := next(self._pieces, None)) is None:
                    self._exhausted = True
                    return
                taken = await taker.take(piece.lines)
                self._done[piece.number] = (piece, taken)
                self._count()
                await self._my_turn(piece.number)
        except IngestError as error:  # the others finish the pieces they are at
            self._report.failure = self._report.failure or _said(error)
        finally:
            async with self._counted:
                self._counted.notify_all()

    def _ends(self) -> bool:
        return self.stop.is_set() or self._report.failure is not None

    async def _my_turn(self, number: int) -> None:
        """Wait while piece *number* is too far ahead of the first that is not done."""
        async with self._counted:
            self._counted.notify_all()
            await self._counted.wait_for(lambda: number - self._next < self.limit or self._ends())

    def finish(self) -> None:
        """Write the last point; everything is done where no piece was left and none failed."""
        report = self._report
        if report.failure is None and self._exhausted and not self._done:
            try:
                self._reach(report.point._replace(finished=True))
            except IngestError as error:
                report.failure = str(error)

    def _count(self) -> None:
        """Count the pieces that are done with none missing before them, and keep the point behind them.

        A point is reached when it is kept, and kept when what was rejected before it is. Raises
        RecordingError; the piece is then as one that is not done, and so is all behind it.
        """
        report = self._report
        while (found := self._done.get(self._next)) is not None:
            piece, taken = found
            account = report.account.copied()
            account.add(taken.account)
            kept_bytes = report.point.rejected_bytes
            if self._rejects is not None:
                kept_bytes = self._rejects.write(taken.incomplete, behind_bytes=kept_bytes)
            damages = [*piece.damages, *piece.damages_of(taken.faults)]
            again = piece.end.file == len(report.files) - 1  # a torn block there is looked at again
            damaged = report.point.damaged + sum(not (again and each.torn) for each in damages)
            self._reach(
                report.point._replace(
                    position=piece.end, account=account, rejected_bytes=kept_bytes, damaged=damaged
                )
            )
            del self._done[self._next]
            self._next += 1
            report.damages += damages
            self._on_progress(Progress("backfilling, bytes", piece.end_bytes, self._total_bytes))

    def _reach(self, point: DirectPoint) -> None:
        self._keep_point(point)
        self._report.point = point


def _said(error: IngestError) -> str:
    """Say *error*, and what is to be done before it is run again where that is not just to wait."""
    migrate = getattr(error, "sqlstate", None) in _NOT_MIGRATED
    hint = advice(error, "ingest_operator", "run `ingest schema migrate`" if migrate else "")
    return f"{error}; {hint}" if hint else str(error)


def pieces_of(files: Sequence[Path], start: Position, piece_lines: int) -> Iterator[Piece]:
    """Cut *files* from *start* on into pieces of *piece_lines* messages or a block more.

    None spans two files, and no block that is a header is in one. Raises RecordingError.
    """
    number, before_bytes = 0, sum(map(size_of, files[: start.file]))
    for at in range(start.file, len(files)):
        path = files[at]
        blocks: list[Member] = []
        damages: list[Damage] = []
        lines = lines_bytes = 0
        end = start.offset if at == start.file else 0
        for block in members(path, from_block=end):
            if isinstance(block, Damage):
                end = block.offset if block.torn else block.offset + block.length
                damages.append(block)
                continue
            end = block.offset + block.length
            if is_header(block):
                continue
            blocks.append(block)
            lines += _whole(block.lines).count(b"\n")
            lines_bytes += len(block.lines)
            if lines >= piece_lines or lines_bytes >= PIECE_BYTES:
                yield Piece(number, path, blocks, damages, Position(at, end), before_bytes + end)
                number += 1
                blocks, damages, lines, lines_bytes = [], [], 0, 0
        if blocks or damages:
            yield Piece(number, path, blocks, damages, Position(at, end), before_bytes + end)
            number += 1
        before_bytes += size_of(path)


class _Process:
    """A process that serves a connection; its end of the pipe is closed when this process ends."""

    def __init__(self, settings: Settings, on_retry: Callable[[DatabaseFault, float], None]) -> None:
        self._on_retry = on_retry
        # Not forked: this process has an event loop, and threads.
        context = get_context("spawn")
        self._line, its_end = context.Pipe()
        self._process = context.Process(target=serve, args=(settings, its_end), daemon=True)
        self._process.start()
        its_end.close()
        self._thread = ThreadPoolExecutor(1)
        """Waits for its answers: the loop's own threads are fewer than the connections there may be."""

    async def ready(self) -> None:
        """Return once it has its catalog. Raises as `take`."""
        await self._answer()

    async def take(self, lines: bytes) -> Taken:
        """Have it take *lines*. Raises a DatabaseFault, or CheckFailed if the process has ended."""
        try:
            await self._in_thread(self._line.send_bytes, lines)
        except OSError as error:
            raise CheckFailed("a process of the backfill has ended; run it again with --resume") from error
        answer = await self._answer()
        if not isinstance(answer, Taken):
            raise CheckFailed(f"a process of the backfill answered {type(answer).__name__}")
        return answer

    async def _answer(self) -> object:
        try:
            while isinstance(answer := await self._in_thread(self._line.recv), Retried):
                self._on_retry(Unavailable(answer.text), answer.wait_s)
        except (EOFError, OSError) as error:
            raise CheckFailed("a process of the backfill has ended; run it again with --resume") from error
        match answer:
            case (type() as kind, str() as text, (str() | None) as sqlstate) if issubclass(
                kind, DatabaseFault
            ):
                raise kind(text, sqlstate)
        return answer

    async def end(self) -> None:
        """Hang up, and wait for the batch it is at."""
        self._line.close()
        await self._in_thread(self._process.join)
        self._thread.shutdown()

    async def _in_thread(self, call: Callable[..., object], *given: object) -> object:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *given)


@asynccontextmanager
async def _takers(
    settings: Settings, connections: int, on_retry: Callable[[DatabaseFault, float], None]
) -> AsyncIterator[Sequence[Taker]]:
    if connections == 1:
        backfill = await Backfill.prepared(settings, on_retry)
        try:
            with seldom_collected():
                yield [backfill]
        finally:
            await backfill.close()
        return
    processes = [_Process(settings, on_retry) for _ in range(connections)]
    try:
        for process in processes:
            await process.ready()
        yield processes
    finally:
        for process in processes:
            await process.end()
