"""What each step of the hot path costs the worker: CPU time in µs a message, each step by itself.

    python -m bench.stages                               single readings, QoS 1, MQTT 5
    python -m bench.stages flat_maps batches             other workloads, by name
    python -m bench.stages --json FILE --messages 20000

The steps are the worker's own functions on a workload's own bytes, one after the other as `Committer` and
`Writer` call them, in batches as large as they get when the worker is behind; no broker, no database. Best of
seven, garbage collection as the worker has it. Not in it: system calls, paho, asyncpg and the event loop,
which are the difference to what `make bench` measures of the whole process.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from bench.fleet import label_rules
from bench.workloads import BY_NAME, messages
from ingest.decode import IGNORED, Decoder, Routes
from ingest.intake import Intake
from ingest.quality import Directory, Limits, Survey
from ingest.receive import AckLedger, answers_to, entry_of
from ingest.receive.packets import PacketParser, answer_blob
from ingest.receive.transport import READ_BYTES
from ingest.resolve import Resolver
from ingest.settings import Settings
from ingest.write import journal
from ingest.write.copy import pack, parts, stream
from ingest.write.late import LATE_AFTER_US, late_hours
from ingest.write.ledger import book
from tests.mqtt_packets import packet_id, publish

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.workloads import Workload
    from ingest.decode import Ignored
    from ingest.model import Decoded, Delivery
    from ingest.resolve import Catalog
    from ingest.write import Batch

T = TypeVar("T")

_MESSAGES: Final = 20_000
"""Of single readings, one batch; the worker holds twice as many at most."""
_TIMES: Final = 7
_COLLECTOR: Final = (100_000, 20, 20)
"""What `ingest.worker.run` sets."""
_PATH: Final = (
    "parse",
    "take in",
    "entries",
    "pack",
    "COPY stream",
    "late hours",
    "book",
    "ledger and journal",
    "PUBACK blob",
    "survey",
)
"""The steps that a message goes through; the others are parts of `take in`."""


class Cost(NamedTuple):
    """What one step costs."""

    step: str
    us_a_message: float
    us_a_row: float


@dataclass(slots=True)
class _Bench:
    """Times steps over the same messages."""

    count: int
    rows: int
    costs: list[Cost] = field(default_factory=list)

    def timed(self, step: str, work: Callable[[], T]) -> T:
        best_s = float("inf")
        for _ in range(_TIMES):
            started_s = time.process_time()
            work()
            best_s = min(best_s, time.process_time() - started_s)
        self.costs.append(Cost(step, best_s / self.count * 1e6, best_s / self.rows * 1e6))
        return work()


def measure(workload: Workload, count: int | None = None) -> list[Cost]:
    """Time every step over *count* messages of *workload*, or as many as make a batch."""
    before = gc.get_threshold()
    gc.set_threshold(*_COLLECTOR)
    try:
        return _measure(workload, count or _MESSAGES // workload.rows_a_message)
    finally:
        gc.set_threshold(*before)


def whole(costs: list[Cost]) -> Cost:
    """Add up the steps that a message goes through."""
    path = [cost for cost in costs if cost.step in _PATH]
    return Cost("all steps", sum(cost.us_a_message for cost in path), sum(cost.us_a_row for cost in path))


def as_json(costs: list[Cost]) -> dict[str, float]:
    """Give µs a message by step."""
    return {cost.step.strip(): round(cost.us_a_message, 3) for cost in [*costs, whole(costs)]}


def _measure(workload: Workload, count: int) -> list[Cost]:
    settings = Settings()
    now_us = time.time_ns() // 1000
    blob, rows = _bytes_of(workload, count, now_us)
    bench = _Bench(count, rows)
    catalog = workload.fleet().catalog()
    decoder = Decoder(Routes(settings.route, settings.decode.ignore), settings.decode)
    resolver = Resolver(catalog, label_rules(), out_of_range=settings.resolve.out_of_range)

    turns = bench.timed("parse", lambda: _parse(blob, mqtt5=workload.protocol == "5"))
    deliveries = [each for turn in turns for each in turn]

    def decode() -> list[Decoded | Ignored]:
        return [decoder.decode(topic, payload, now_us) for topic, payload, _, _ in deliveries]

    whole = [each for each in decode() if each is not IGNORED]
    _each(resolver.resolve, whole)  # their names are known from now on
    plain = [*decoder.plain(deliveries, [now_us] * count)]
    if len(plain) == count:
        bench.timed("  decode", lambda: sum(1 for _ in decoder.plain(deliveries, [now_us] * count)))
        bench.timed("  resolve", lambda: resolver.plain(plain))
    else:
        bench.timed("  decode", decode)
        bench.timed("  resolve", lambda: _each(resolver.resolve, whole))

    def take_in() -> list[Batch]:
        intake = Intake(decoder, resolver, ignore_retained=True, max_batch_rows=settings.write.max_batch_rows)
        for turn in turns:
            intake.take_in(turn, now_us)
        batches = []
        while (batch := intake.next_batch()) is not None:
            batches.append(batch)
        return batches

    batches = bench.timed("take in", take_in)
    _check(batches, count, rows)
    packed = bench.timed("pack", lambda: [[*map(pack, parts(batch.rows))] for batch in batches])
    bench.timed("COPY stream", lambda: _stream(packed))
    bench.timed("late hours", lambda: [late_hours(batch.rows, now_us) for batch in batches])
    bench.timed("book", lambda: [book(batch) for batch in batches])
    entries = bench.timed("entries", lambda: [[*map(entry_of, batch.deliveries)] for batch in batches])

    def keep_account() -> None:
        ledger = AckLedger()
        for each in entries:
            journal.pack(ledger.extended_by(each))
            ledger.committed(each)
            ledger.acknowledged(len(each))
            ledger.ping_sent()
            ledger.ping_answered()

    bench.timed("ledger and journal", keep_account)
    bench.timed("PUBACK blob", lambda: [answer_blob(answers_to(batch.deliveries)) for batch in batches])
    bench.timed("survey", lambda: _survey(catalog, batches, now_us))
    return bench.costs


def _bytes_of(workload: Workload, count: int, now_us: int) -> tuple[bytes, int]:
    """Give what a broker would send, and the rows it makes."""
    blob = bytearray()
    rows = 0
    for index, message in enumerate(messages(workload, count, now_us)):
        blob += publish(
            message.topic,
            message.payload,
            qos=workload.qos,
            packet_id=packet_id(index),
            mqtt5=workload.protocol == "5",
        )
        rows += message.rows or workload.rows_a_message  # a duplicate is found out by the database only
    return bytes(blob), rows


def _each(work: Callable[[T], object], values: list[T]) -> None:
    for value in values:
        work(value)


def _parse(blob: bytes, *, mqtt5: bool) -> list[list[Delivery]]:
    """Give the deliveries as the worker takes them in: those of one read at a time."""
    parser = PacketParser(mqtt5=mqtt5)
    return [parser.feed(blob[start : start + READ_BYTES])[0] for start in range(0, len(blob), READ_BYTES)]


def _check(batches: list[Batch], count: int, rows: int) -> None:
    taken = sum(map(len, batches)), sum(len(batch.rows) for batch in batches)
    if taken != (count, rows):
        raise SystemExit(f"{taken} messages and rows were taken in, {count} and {rows} sent")


def _stream(packed: list[list[list[bytes]]]) -> None:
    """Make the chunks that asyncpg would take; it never waits for anything, so it needs no event loop."""
    for rows in packed:
        chunks = stream(rows)
        with contextlib.suppress(StopAsyncIteration):
            while True:
                with contextlib.suppress(StopIteration):
                    chunks.__anext__().__await__().send(None)


def _survey(catalog: Catalog, batches: list[Batch], now_us: int) -> None:
    """Look for spikes and gaps in *batches*, five a second, as if each had just been committed."""
    quality = Settings().quality
    limits = Limits(
        quality.spike_factor, quality.gap_factor, int(quality.min_gap_s * 1e6), flagged=False, gaps=True
    )
    window_us = int(quality.window_s * 1e6)
    survey = Survey(limits, window_us=window_us, late_after_us=LATE_AFTER_US, now_us=now_us)
    types = {each.sensor_type_id: each.name for each in catalog.sensor_types.values()}
    units = {each.unit_id: each.symbol for each in catalog.units.values()}
    survey.know(Directory(catalog.sensors, frozenset(catalog.greenhouses), types, units, frozenset()))
    for number, batch in enumerate(batches):
        survey.hears(now_us + number * 200_000, hears=True)
        survey.rows(batch.rows, now_us + number * 200_000)


def main() -> None:
    """Print one table a workload."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.stages", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=", ".join(BY_NAME))
    parser.add_argument("--messages", type=int, help="messages (as many as make 20 000 rows)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON, too")
    options = parser.parse_args()
    figures = {}
    for name in options.workloads or ["single_qos1"]:
        if name not in BY_NAME:
            parser.error(f"no workload is called {name!r}: {', '.join(BY_NAME)}")
        workload = BY_NAME[name]
        costs = measure(workload, options.messages)
        figures[name] = as_json(costs)
        print(workload.says)
        for cost in [*costs, whole(costs)]:
            print(f"  {cost.step:20}{cost.us_a_message:8.2f} us a message{cost.us_a_row:8.3f} us a row")
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
