"""Lines of a recording -> rows in the table: what each connection of `ingest replay --direct` does.

Messages go through decode and resolve with the time they were received at, by which their times are judged as
the worker judged them; readings without a time have it as theirs, the same at every run. So a message taken
twice makes nothing twice. One `Backfill` to a process: it waits for its database, and is asked one batch of
lines at a time.
"""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from ingest.decode import Decoder, Routes
from ingest.errors import DatabaseFault
from ingest.intake import Intake
from ingest.labels import LabelRules
from ingest.load.garbage import seldom_collected
from ingest.load.recording import messages_of
from ingest.model import RETAIN, Delivery
from ingest.observe.logs import configure
from ingest.resolve import Resolver
from ingest.resolve.loader import read_catalog
from ingest.write.backfiller import Backfiller

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection

    from ingest.load.recording import LineFault, Recorded
    from ingest.model import Reason, Rejection
    from ingest.settings import Settings
    from ingest.write import Batch


@dataclass(slots=True)
class Account:
    """What became of messages and their readings: decoded = written + duplicate + null + rejected."""

    messages: int = 0
    ignored: int = 0
    """Of them those that are none of ours by rule: topics ignored, retained, empty."""
    incomplete: int = 0
    """Of them those with something rejected."""
    decoded: int = 0
    written: int = 0
    duplicate: int = 0
    null: int = 0
    rejected: Counter[Reason] = field(default_factory=Counter)
    """Readings, or messages rejected whole, by reason."""
    examples: dict[Reason, str] = field(default_factory=dict)
    """The first of each: topic, field, detail."""
    hours_noted: int = 0

    def add(self, other: Account) -> None:
        """Add *other* to this; of an example the first stays."""
        for each in fields(self):
            mine, its = getattr(self, each.name), getattr(other, each.name)
            setattr(self, each.name, its | mine if each.name == "examples" else mine + its)

    def copied(self) -> Self:
        """Give one that stays as this is now."""
        return self.of_json(self.as_json())

    def as_json(self) -> dict[str, Any]:
        """Give it as JSON values, which `of_json` reads."""
        return {
            "messages": {"read": self.messages, "ignored": self.ignored, "incomplete": self.incomplete},
            "readings": {
                "decoded": self.decoded,
                "written": self.written,
                "duplicate": self.duplicate,
                "null": self.null,
                "rejected": self.rejected.total(),
            },
            "rejected": dict(self.rejected.most_common()),
            "examples": self.examples,
            "hours_noted": self.hours_noted,
        }

    @classmethod
    def of_json(cls, tree: Any) -> Self:  # noqa: ANN401 (as JSON gives it)
        """Read what `as_json` gave. Raises KeyError or TypeError for anything else."""
        messages, readings = tree["messages"], tree["readings"]
        return cls(
            messages["read"],
            messages["ignored"],
            messages["incomplete"],
            readings["decoded"],
            readings["written"],
            readings["duplicate"],
            readings["null"],
            Counter(tree["rejected"]),
            dict(tree["examples"]),
            tree["hours_noted"],
        )


@dataclass(slots=True)
class Taken:
    """The answer for one batch of lines."""

    account: Account
    incomplete: list[Recorded]
    """The messages with something rejected, in their order."""
    faults: list[LineFault]
    """Of the lines that are no messages."""


class Retried(NamedTuple):
    """What a process says of a try that failed, before its answer: the fault, and how long it waits."""

    text: str
    wait_s: float


class Backfill:
    """Takes lines in; see the module's header."""

    def __init__(self, settings: Settings, resolver: Resolver, backfiller: Backfiller) -> None:
        """Take what names are found by and rows written by."""
        self._intake = Intake(
            Decoder(Routes(settings.route, settings.decode.ignore), settings.decode),
            resolver,
            ignore_retained=settings.decode.ignore_retained,
            max_batch_rows=settings.write.max_batch_rows,
        )
        self._backfiller = backfiller

    @classmethod
    async def prepared(
        cls, settings: Settings, on_retry: Callable[[DatabaseFault, float], None] = lambda _fault, _s: None
    ) -> Self:
        """Read the catalog. Raises a DatabaseFault."""
        catalog = await read_catalog(settings.dsn("metadata"), settings.resolve)
        rules = LabelRules(settings.label_rule)
        resolver = Resolver(catalog, rules, out_of_range=settings.resolve.out_of_range)
        backfiller = Backfiller(settings.dsn("timeseries"), settings.write, "(direct)", on_retry=on_retry)
        return cls(settings, resolver, backfiller)

    async def take(self, lines: bytes) -> Taken:
        """Commit the rows of all messages in *lines*, batch by batch. Raises a DatabaseFault.

        What was committed before a fault stays; taken again, it is met by its key.
        """
        messages, faults = messages_of(lines)
        taken = Taken(Account(len(messages)), [], faults)
        intake = self._intake
        intake.take_in_at(
            [
                Delivery(topic, payload, RETAIN if retain else 0, 0)
                for _, topic, payload, _, retain, *_ in messages
            ],
            [message[0] for message in messages],
        )
        first = 0
        while (batch := intake.next_batch()) is not None:
            await self._commit(batch, messages[first : first + len(batch)], taken)
            first += len(batch)
        return taken

    async def close(self) -> None:
        """Close the connection."""
        await self._backfiller.close()

    async def _commit(self, batch: Batch, messages: Sequence[Recorded], taken: Taken) -> None:
        """Commit the rows of *batch*, which has *messages*."""
        account = taken.account
        landed = await self._backfiller.store(batch.rows)
        lost = {index: list(rejections) for index, rejections in batch.rejections.items()}
        for row, rejection in landed.refused.items():
            lost.setdefault(batch.owner(row), []).append(rejection)
        counts = batch.counts(written=landed.written, duplicate=landed.duplicate, refused=len(landed.refused))
        account.ignored += counts.ignored
        account.decoded += counts.decoded
        account.written += counts.written
        account.duplicate += counts.duplicate
        account.null += counts.null
        account.hours_noted += landed.hours_noted
        for index, rejections in sorted(lost.items()):
            self._lose(messages[index], rejections, taken)

    @staticmethod
    def _lose(message: Recorded, rejections: Sequence[Rejection], taken: Taken) -> None:
        account = taken.account
        taken.incomplete.append(message)
        account.incomplete += 1
        for rejection in rejections:
            account.rejected[rejection.reason] += 1
            if rejection.reason not in account.examples:
                place = f" {rejection.field!r}" if rejection.field else ""
                account.examples[rejection.reason] = f"{message.topic}{place}: {rejection.detail}"


def serve(settings: Settings, line: Connection) -> None:
    """Be a process of a backfill: answer lines with what became of them, until the other end is closed.

    Answers None once it is ready, a Taken for each batch, and a DatabaseFault's text before it ends for one;
    before an answer there may be any number of Retried.
    """
    configure("error", settings.observe.log_format)
    for number in (signal.SIGINT, signal.SIGTERM):  # its parent ends it, after the batch
        signal.signal(number, signal.SIG_IGN)
    asyncio.run(_serve(settings, line))


async def _serve(settings: Settings, line: Connection) -> None:
    backfill: Backfill | None = None
    try:
        backfill = await Backfill.prepared(
            settings, lambda fault, wait_s: line.send(Retried(str(fault), wait_s))
        )
        with seldom_collected():
            line.send(None)
            while True:
                line.send(await backfill.take(await asyncio.to_thread(line.recv_bytes)))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass
    except DatabaseFault as fault:
        line.send((type(fault), str(fault), fault.sqlstate))
    finally:
        if backfill is not None:
            await backfill.close()
