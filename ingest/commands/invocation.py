"""One call of `ingest`: its global options, its settings, and how it ends.

Owns the exit codes: 0 good, 1 a check failed, 2 usage or configuration, 130 interrupted, 141 the
reader of stdout went away. An IngestError is text for the operator, never a traceback.
"""

from __future__ import annotations

import asyncio
import os
import sys
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from ingest.addresses import without_passwords
from ingest.errors import CheckFailed, ConfigurationError, IngestError, Unavailable
from ingest.observe.terminal import printable_lines

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ingest.settings import Settings

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
"""The option every report has."""

Rehearsed = Annotated[
    bool, typer.Option("--dry-run", help="Say exactly what would land; each batch is rolled back.")
]
"""The option of what stores readings."""

EXIT_INTERRUPTED = 130
"""128 + SIGINT, as a shell reports it."""

EXIT_BROKEN_PIPE = 141
"""128 + SIGPIPE: what `cat` ends with when `head` has seen enough."""


@dataclass(slots=True)
class Invocation:
    """The options before the command's name, and what its settings turned out to be."""

    config: Path | None = None
    debug: bool = False
    read: Settings | None = field(default=None, init=False)
    """What `settings` gave; None before."""

    def settings(self, *require: Literal["metadata", "timeseries"], worker: bool = False) -> Settings:
        """Read the settings, with the DSNs this command *require*s, and set up the logs.

        The *worker* logs as the settings say; a report says itself what was not well.
        """
        from ingest.configuration import load_settings  # noqa: PLC0415 (pydantic; `--help` needs none)
        from ingest.observe.logs import configure  # noqa: PLC0415 (structlog, as above)

        self.read = settings = load_settings(self.config, require=require)
        level = settings.observe.log_level if worker else "error"
        configure("debug" if self.debug else level, settings.observe.log_format)
        return settings


def finish(context: typer.Context, command: Callable[[Invocation], int]) -> NoReturn:
    """Call *command* with the global options, and end with its exit code."""
    invocation = context.find_object(Invocation) or Invocation()
    raise typer.Exit(_exit_code(command, invocation))


def _exit_code(command: Callable[[Invocation], int], invocation: Invocation) -> int:
    """Call *command*; return its exit code, or the one its error stands for, with the error on stderr."""
    try:
        code = command(invocation)
        sys.stdout.flush()
        if code == CheckFailed.exit_code:
            _tell_of_exchange(invocation)
    except IngestError as error:
        if invocation.debug:
            sys.stderr.write(printable_lines(without_passwords(traceback.format_exc())) + "\n")
        sys.stderr.write(_explained(error))
        if not isinstance(error, ConfigurationError | Unavailable):
            _tell_of_exchange(invocation)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Python flushes stdout once more at exit; that must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    return code


def _explained(error: IngestError) -> str:
    if isinstance(error, ConfigurationError):
        if len(error.faults) > 1:
            lines = [f"ingest: {len(error.faults)} faults:", *(f"  {fault}" for fault in error.faults)]
        else:
            lines = [f"ingest: {fault}" for fault in error.faults]
        lines += [f"ingest: {error.advice}"] if error.advice else []
    else:
        lines = [f"ingest: {error}"]
    return "".join(f"{printable_lines(without_passwords(line))}\n" for line in lines)


def _tell_of_exchange(invocation: Invocation) -> None:
    """Say on stderr when the two DSNs are exchanged: a command that failed would ask for the wrong remedy."""
    if invocation.read is not None:
        from ingest.operate.exchange import found  # noqa: PLC0415 (asyncpg; `--help` needs none)

        if (wrong := asyncio.run(found(invocation.read))) is not None:
            sys.stderr.write(f"ingest: {wrong}\n")
