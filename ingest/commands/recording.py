"""`ingest record`: what the broker sends goes into recordings, until a signal or the end that was asked for.

Owns the exit code: 0 however it was asked to end, 1 where nothing more could be written or nothing received.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from ingest import topics as filters
from ingest.commands.report import print_json, print_line, remark
from ingest.errors import ConfigurationError
from ingest.load.anonymise import Anonymiser
from ingest.load.pseudonyms import LEAST_KEY_BYTES
from ingest.load.record import Recorder
from ingest.load.rotation import Output
from ingest.workers.order import is_worker

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ingest.commands.invocation import Invocation
    from ingest.load.record import Report
    from ingest.settings import Settings

_KEY_BYTES = 32


def is_folder(output: str) -> bool:
    """Tell whether *output* means a folder: it is one, or ends with a slash."""
    return output.endswith("/") or Path(output).is_dir()


def record(
    invocation: Invocation,
    *,
    output: str,
    topics: Sequence[str] | None,
    client_id: str | None,
    rotate_bytes: int | None,
    rotate_s: float | None,
    duration_s: float | None,
    most_messages: int | None,
    anonymise: bool,
    key_file: Path | None,
    as_json: bool,
) -> int:
    """Record and print what came of it."""
    from ingest.configuration import unprotected  # noqa: PLC0415 (pydantic)

    settings = invocation.settings(worker=True)
    wanted = tuple(topics) if topics else tuple(map(_without_group, settings.broker.filters))
    name = client_id or f"{settings.broker.client_id}-record-{secrets.token_hex(4)}"
    if faults := [*_filter_faults(wanted), *_name_faults(name, settings)]:
        raise ConfigurationError(faults)
    anonymiser = _anonymiser(settings, key_file) if anonymise else None
    for exposure in unprotected(settings):
        structlog.get_logger().warning("connection_unprotected", detail=exposure)
    report = asyncio.run(
        _run(
            settings,
            Output(
                Path(output),
                folder=is_folder(output),
                about={"anonymised": True} if anonymise else {"topics": wanted, "anonymised": False},
                rotate_bytes=rotate_bytes,
                rotate_s=rotate_s,
            ),
            client_id=name,
            topics=wanted,
            anonymiser=anonymiser,
            most_messages=most_messages,
            duration_s=duration_s,
        )
    )
    if as_json:
        print_json(report.as_json())
    else:
        _print(report)
    if report.fault is not None:
        remark(report.fault)
        return 1
    return 0


async def _run(
    settings: Settings,
    output: Output,
    *,
    client_id: str,
    topics: Sequence[str],
    anonymiser: Anonymiser | None,
    most_messages: int | None,
    duration_s: float | None,
) -> Report:
    recorder = Recorder(
        settings,
        output,
        client_id=client_id,
        topics=topics,
        change=None if anonymiser is None else anonymiser.message,
        most_messages=most_messages,
    )
    with _signals(recorder):
        return await recorder.run(duration_s)


@contextlib.contextmanager
def _signals(recorder: Recorder) -> Iterator[None]:
    """Have SIGINT and SIGTERM end the recording in order."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, recorder.end, "signal")
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def _without_group(topic_filter: str) -> str:
    """Give what a shared filter stands for: the recorder gets everything, and takes nobody's share."""
    return topic_filter.split("/", 2)[2] if topic_filter.startswith("$share/") else topic_filter


def _filter_faults(wanted: Sequence[str]) -> list[str]:
    faults = [
        f"--topic: {each!r} is no MQTT topic filter" for each in wanted if not filters.valid_filter(each)
    ]
    faults += [
        f"--topic: {each!r} would take messages away from the workers; name the filter behind the group"
        for each in wanted
        if each.startswith("$share/")
    ]
    return faults or [
        f"--topic: {one!r} and {other!r} overlap: a message of both may come twice"
        for number, one in enumerate(wanted)
        for other in wanted[number + 1 :]
        if filters.overlap(one, other)
    ]


def _name_faults(client_id: str, settings: Settings) -> list[str]:
    if is_worker(client_id, settings.broker.client_id):
        fault = f"--client-id: {client_id!r} is a worker's: the broker would hand its session to the recorder"
        return [fault]
    return []


def _anonymiser(settings: Settings, key_file: Path | None) -> Anonymiser:
    key = secrets.token_bytes(_KEY_BYTES)
    if key_file is not None:
        try:
            key = key_file.read_bytes()
        except OSError as error:
            raise ConfigurationError([f"--anonymise-key-file: {key_file}: {error.strerror}"]) from error
        if len(key) < LEAST_KEY_BYTES:
            raise ConfigurationError(
                [f"--anonymise-key-file: {key_file} has {len(key)} bytes, {LEAST_KEY_BYTES} are the least"]
            )
    return Anonymiser(key, routes=settings.route, decode=settings.decode, label_rules=settings.label_rule)


def _print(report: Report) -> None:
    print_line(f"{report.messages} messages in {report.seconds:.1f} s, {report.size_bytes} bytes")
    for file in report.files:
        print_line(f"  {file}")
    if report.skipped:
        print_line(f"{report.skipped} sent again by the broker, which are in it once")
    if report.too_large:
        print_line(f"{report.too_large} not recorded, for they are too large")
