"""A server process of ours: started, waited for until it says it is ready, stopped, never orphaned.

The child prints one JSON line with `"ready": true` and ends when its standard input closes, which the
kernel sees to however this process ends. It is in a session of its own: Ctrl-C on the terminal reaches
this process alone, which stops the child last. Blocking, with two daemon threads that read the child's
output; tied to no event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import threading
from collections import deque
from concurrent.futures import Future
from typing import IO, TYPE_CHECKING

from ingest.errors import EmbeddedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

START_TIMEOUT_S = 60.0  # the database takes 2 s on two quiet cores, 20 s when they are busy
STOP_TIMEOUT_S = 15.0
KEPT_LINES = 20


class Child:
    """One run of *command*. ``what`` names it in error texts, as in "the embedded database"."""

    def __init__(
        self, what: str, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> None:
        self._what = what
        self._command = list(command)
        self._environment = environment
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._ready: Future[dict[str, object]] = Future()
        self._ended: Future[int] = Future()
        self._stopping = False
        self._process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int:
        """The process id; `EmbeddedError` before `start`."""
        if self._process is None:
            raise EmbeddedError(f"{self._what} is not running")
        return self._process.pid

    def start(self) -> dict[str, object]:
        """Start it and return what its ready line says. `EmbeddedError` with its last lines if it fails."""
        try:
            self._process = subprocess.Popen(  # noqa: S603 -- the command is this package's own
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                env=self._environment,
                start_new_session=True,
            )
        except OSError as error:
            raise EmbeddedError(
                f"{self._what} did not start: {self._command[0]}: {error.strerror}"
            ) from error
        threading.Thread(target=self._watch, args=(self._process,), daemon=True).start()
        try:
            return self._ready.result(START_TIMEOUT_S)
        except TimeoutError:
            self._lines.append(f"not ready after {START_TIMEOUT_S:.0f} s")
            self.stop()
            raise EmbeddedError(self._text("did not start")) from None

    def stop(self) -> None:
        """End it: SIGTERM, and SIGKILL after 15 s. Safe to call twice."""
        if self._process is None:
            return
        self._stopping = True
        self._process.terminate()
        try:
            self._ended.result(STOP_TIMEOUT_S)
        except TimeoutError:
            self._process.kill()
            self._ended.result(STOP_TIMEOUT_S)

    async def wait_ended(self) -> None:
        """Return once it has ended because of `stop`; raise `EmbeddedError` if it ended by itself."""
        # Shielded: who stops waiting must not cancel what the others wait for.
        code = await asyncio.shield(asyncio.wrap_future(self._ended))
        if not self._stopping:
            raise EmbeddedError(self._text(f"ended by itself with exit code {code}"))

    def _text(self, happened: str) -> str:
        return "\n".join([f"{self._what} {happened}", *(f"  {line}" for line in self._lines)])

    def _watch(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None  # noqa: S101 -- for the type checker: all three are pipes
        assert process.stdout is not None  # noqa: S101 -- as above
        assert process.stderr is not None  # noqa: S101 -- as above
        errors = threading.Thread(target=self._keep, args=(process.stderr,), daemon=True)
        errors.start()
        with process.stdin, process.stdout:
            for line in process.stdout:
                self._read(line.rstrip())
            errors.join()
            code = process.wait()
        if not self._ready.done():
            self._ready.set_exception(EmbeddedError(self._text(f"did not start (exit code {code})")))
        self._ended.set_result(code)

    def _keep(self, stream: IO[str]) -> None:
        with stream:
            self._lines.extend(line.rstrip() for line in stream)

    def _read(self, line: str) -> None:
        if not self._ready.done() and line.startswith("{"):
            with contextlib.suppress(ValueError):
                said = json.loads(line)
                if said.get("ready") is True:
                    self._ready.set_result(said)
                    return
        self._lines.append(line)
