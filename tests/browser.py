"""Chromium without a window, for the tests of the page: opens it, reads its DOM, hears what it complains of.

Spoken to in the DevTools protocol over two pipes (--remote-debugging-pipe: JSON texts, each ended by a NUL),
so that no driver and no port is needed. Owns the process and its profile; sees only what a browser shows.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

PROGRAMS = ("chromium-headless-shell", "chromium", "google-chrome")
ANSWER_S = 60.0
STOP_S = 10.0
MOST_BYTES = 64 << 20
"""Of one answer: a screenshot in Base64 is the largest."""
COMPLAINTS = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Audits.issueAdded")

_AS_3_AND_4 = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
for number, end in enumerate(ends, 3):
    os.dup2(end, number, inheritable=True)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Chromium reads from descriptor 3 and writes to 4, whatever they were here."""


class Browser:
    """One Chromium with one tab; `async with` starts and ends it."""

    def __init__(self) -> None:
        self.complaints: list[str] = []
        """Errors, warnings, violations of the page's policy and uncaught exceptions, in order."""
        self._profile = tempfile.mkdtemp(prefix="greenhouse-chromium-")
        self._log = Path(self._profile) / "stderr"
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.WriteTransport | None = None
        self._reader = asyncio.StreamReader(limit=MOST_BYTES)
        self._hearing: asyncio.Task[None] | None = None
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._session = ""

    async def __aenter__(self) -> Self:
        try:
            await self._start()
            target = await self.call("Target.createTarget", url="about:blank")
            attached = await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
            self._session = attached["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Audits"):
                await self.call(f"{domain}.enable")
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process is not None:
            with contextlib.suppress(ConnectionError, TimeoutError):
                async with asyncio.timeout(STOP_S):
                    self._session = ""
                    await self.call("Browser.close")
                    await self._process.wait()
            if self._process.returncode is None:
                self._process.kill()
                await self._process.wait()
        if self._hearing is not None:
            await self._hearing
        if self._writer is not None:
            self._writer.close()
        shutil.rmtree(self._profile, ignore_errors=True)  # its helpers may still be writing there

    async def _start(self) -> None:
        program = next((found for each in PROGRAMS if (found := shutil.which(each))), None)
        if program is None:
            pytest.fail(
                "Chromium is not installed: apt-get install --no-install-recommends chromium-headless-shell",
                pytrace=False,
            )
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        loop = asyncio.get_running_loop()
        self._writer, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(ours_out, "wb"))
        await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(self._reader), os.fdopen(ours_in, "rb")
        )
        options = ["--headless", "--remote-debugging-pipe", f"--user-data-dir={self._profile}"]
        options += ["--no-first-run", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
        if os.geteuid() == 0:
            options.append("--no-sandbox")  # its sandbox does not work for root
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", _AS_3_AND_4, str(theirs_in), str(theirs_out), program, *options,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=log,
                pass_fds=(theirs_in, theirs_out),
                env={"PATH": "/usr/bin:/bin", "HOME": self._profile},
            )  # fmt: skip
        os.close(theirs_in)
        os.close(theirs_out)
        self._hearing = asyncio.create_task(self._hear())

    async def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """Send one command; give its result. Raises ConnectionError when Chromium is gone."""
        assert self._writer is not None
        if self._hearing is None or self._hearing.done():
            raise ConnectionError("Chromium does not run")
        number = next(self._numbers)
        message: dict[str, object] = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._writer.write(json.dumps(message).encode() + b"\0")
        async with asyncio.timeout(ANSWER_S):
            said = await answer
        assert "error" not in said, f"{method}: {said['error']}"
        result: dict[str, Any] = said["result"]
        return result

    async def size(self, width: int, height: int, *, phone: bool = False, scale: float = 1.0) -> None:
        """Have a screen of so many CSS pixels."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=scale, mobile=phone,
        )  # fmt: skip

    async def prefer(self, **features: str) -> None:
        """Have media features as named, `-` for `_`: `prefers_color_scheme="dark"`."""
        named = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        await self.call("Emulation.setEmulatedMedia", features=named)

    async def open(self, url: str) -> None:
        """Begin to load *url*."""
        loaded = await self.call("Page.navigate", url=url)
        assert not loaded.get("errorText"), loaded["errorText"]

    async def evaluate(self, expression: str) -> Any:  # noqa: ANN401 (whatever the page says)
        """Give what *expression* is in the page."""
        said = await self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    async def text(self, selector: str) -> str:
        """Give the text of the first element that *selector* finds; "" where there is none to see."""
        found = await self.evaluate(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")
        return str(found)

    async def image(self) -> bytes:
        """Give what is on the screen, as PNG."""
        shot = await self.call("Page.captureScreenshot", format="png")
        return base64.b64decode(shot["data"])

    async def _hear(self) -> None:
        """Hand out answers and collect complaints until Chromium closes its end."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                said = json.loads((await self._reader.readuntil(b"\0"))[:-1])
                if "id" in said:
                    answer = self._waiting.pop(said["id"])
                    if not answer.done():
                        answer.set_result(said)
                elif said.get("method") in COMPLAINTS:
                    self.complaints += _complaint(said["method"], said["params"])
        for answer in self._waiting.values():
            if not answer.done():
                said = self._log.read_text(errors="replace")[-2000:]
                answer.set_exception(ConnectionError(f"Chromium has ended:\n{said}"))


def _complaint(method: str, said: Mapping[str, Any]) -> list[str]:
    """Give what an event complains of, if it does: as one text."""
    if method == "Log.entryAdded":
        entry = said["entry"]
        return [f"{entry['level']}: {entry['text']}"] if entry["level"] in {"error", "warning"} else []
    if method == "Runtime.consoleAPICalled":
        return [f"console.{said['type']}: {said['args']}"] if said["type"] in {"error", "warning"} else []
    return [json.dumps(said)]
