"""`ingest` in processes forked from one that has imported it: for tests that call dozens of commands.

What a command reads, says and does is as ever; only the start, 0.3 s of CPU, is made once. Whether it starts
at all, and how it takes signals and terminals, other tests see with `command_line`.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from typing import TYPE_CHECKING

from ingest.cli import main

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_IMPORTED = ("tests.acceptance.forked", "ingest.configuration", "ingest.worker", "ingest.commands.working")
_PATIENCE_S = 60

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(list(_IMPORTED))


def call(
    arguments: list[str], environment: Mapping[str, str], directory: Path, stdin: bytes, output: Path
) -> int:
    """Call `ingest` in *directory*; *output* takes both streams. Gives the exit code."""
    given = output.with_suffix(".stdin")
    given.write_bytes(stdin)
    process = _processes.Process(
        target=_become, args=(arguments, dict(environment), str(directory), str(given), str(output))
    )
    process.start()
    process.join(_PATIENCE_S)
    try:
        assert process.exitcode is not None, f"{arguments} does not end"
        return process.exitcode
    finally:
        process.kill()
        process.join()
        process.close()


def _become(
    arguments: list[str], environment: dict[str, str], directory: str, given: str, output: str
) -> None:
    """Be `ingest` with these *arguments*; ends the process."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    os.dup2(os.open(given, os.O_RDONLY), 0)
    os.dup2(os.open(output, flags, 0o600), 1)
    os.dup2(1, 2)
    sys.stdin = os.fdopen(0)
    sys.argv = ["ingest", *arguments]
    main()
