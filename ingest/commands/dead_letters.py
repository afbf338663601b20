"""`ingest dead-letters`: lists the messages that lost fields, and shows one of them whole."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from datetime import UTC
from typing import TYPE_CHECKING, Any

from ingest.commands.report import print_json, print_line, print_table
from ingest.operate.dead_letters import count_overflow, list_dead_letters, show_dead_letter

if TYPE_CHECKING:
    from datetime import datetime

    from ingest.commands.invocation import Invocation
    from ingest.commands.letter_options import LetterOptions
    from ingest.operate.dead_letters import DeadLetterLine, DeadLetterMessage

HEX_BYTES_A_LINE = 32


def list_newest(invocation: Invocation, options: LetterOptions, *, limit: int, as_json: bool) -> int:
    """Print the newest *limit* dead letters that fit."""
    settings = options.settings(invocation, "timeseries")
    dsn = settings.dsn("timeseries")

    async def work() -> tuple[list[DeadLetterLine], int]:
        wanted = await options.settled(settings)
        # One more than asked for tells whether there are more.
        return await list_dead_letters(dsn, wanted, limit=limit + 1), await count_overflow(dsn, wanted)

    found, only_counted = asyncio.run(work())
    lines, more = found[:limit], len(found) > limit
    if as_json:
        letters = [
            asdict(line) | {"received_at": _iso(line.received_at), "tenant_id": _text(line.tenant_id)}
            for line in lines
        ]
        print_json({"dead_letters": letters, "more": more, "readings_only_counted": only_counted})
        return 0
    rows = [
        (
            line.dead_letter_id,
            _iso(line.received_at),
            line.topic,
            line.rejected_count,
            ", ".join(line.reasons),
            line.payload_bytes,
            line.client_id,
        )
        for line in lines
    ]
    columns = ("id", "received", "topic", "rejected", "reasons", "bytes", "client id")
    print_table(columns, rows, empty="no dead letters fit")
    if more:
        print_line(f"more than {limit} fit: narrow them down, or raise --limit")
    if only_counted:
        print_line(f"{only_counted} more rejected readings were past a budget and only counted")
    return 0


def show(invocation: Invocation, *, dead_letter_id: int, as_json: bool) -> int:
    """Print one dead letter: the message, the fields it lost, and the payload as text or hex."""
    dsn = invocation.settings("timeseries").dsn("timeseries")
    letter = asyncio.run(show_dead_letter(dsn, dead_letter_id))
    encoding, text = _payload(letter.payload)
    if as_json:
        print_json(_report(letter, encoding, text))
        return 0
    print_line(f"dead letter {letter.dead_letter_id}")
    digest = None if letter.payload_sha256 is None else letter.payload_sha256.hex()
    facts = [
        ("topic", letter.topic),
        ("received", _iso(letter.received_at)),
        ("recorded", _iso(letter.recorded_at)),
        ("client id", letter.client_id),
        ("tenant", _text(letter.tenant_id)),
        ("waits for", None if letter.missing is None else ", ".join(letter.missing)),
        ("payload", f"{letter.payload_bytes} bytes" + (f", SHA-256 {digest}" if digest else "")),
    ]
    print_table(("", ""), facts, empty="")
    columns = ("field", "reason", "detail")
    print_table(columns, [[each.get(name) for name in columns] for each in letter.rejected], empty="")
    cut = len(letter.payload) < letter.payload_bytes
    print_line(f"payload{f' (its first {len(letter.payload)} bytes)' if cut else ''}, {encoding}:")
    print_line(text)
    return 0


def _payload(payload: bytes) -> tuple[str, str]:
    try:
        return "utf-8", payload.decode()
    except UnicodeDecodeError:
        pieces = range(0, len(payload), HEX_BYTES_A_LINE)
        return "hex", "\n".join(payload[start : start + HEX_BYTES_A_LINE].hex(" ") for start in pieces)


def _report(letter: DeadLetterMessage, encoding: str, text: str) -> dict[str, Any]:
    return asdict(letter) | {
        "received_at": _iso(letter.received_at),
        "recorded_at": _iso(letter.recorded_at),
        "tenant_id": _text(letter.tenant_id),
        "payload": text if encoding == "utf-8" else letter.payload.hex(),
        "payload_encoding": encoding,
        "payload_sha256": None if letter.payload_sha256 is None else letter.payload_sha256.hex(),
    }


def _text(thing: object) -> str | None:
    return None if thing is None else str(thing)


def _iso(time: datetime) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")
