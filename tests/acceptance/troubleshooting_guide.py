"""docs/troubleshooting.md as tests go through it: its sections, and a shell that runs their commands.

A test says with the marker `section` which sections it is about, and has to run every command of them.
"""

from __future__ import annotations

import asyncio
import os
import re
import stat
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.acceptance.maintained_rows import breaches, settings_of
from tests.postgres_programs import postgres_programs

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from types import ModuleType

    import pytest

    from tests.acceptance.command_line import CommandLine

GUIDE = Path(__file__).parents[2] / "docs" / "troubleshooting.md"


class Section(NamedTuple):
    """What one section says, as it says it."""

    says: str
    shows: list[str]
    mends: list[str]


def sections() -> dict[str, Section]:
    """Cut the guide into its sections; commands are what is indented."""
    found = {}
    for text in GUIDE.read_text(encoding="utf-8").split("\n## ")[1:]:
        title, _, body = text.partition("\n")
        before, _, after = body.partition("\nMend")
        says = re.search(r"^Shows it, as `([^`]+)`", before, re.MULTILINE)
        found[title] = Section(says[1] if says else "", commands(before), commands(after))
    return found


def commands(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.startswith("    ")]


SECTIONS = sections()


def tried_by(module: ModuleType) -> set[str]:
    """Give the sections that the tests of *module* are about."""
    marks: list[pytest.Mark] = [
        mark for each in vars(module).values() for mark in getattr(each, "pytestmark", ()) if callable(each)
    ]
    return {title for mark in marks if mark.name == "section" for title in mark.args}


class Shell:
    """A shell with `ingest` on its PATH, both DSNs in its environment, and nothing else of ours."""

    def __init__(self, ingest: CommandLine) -> None:
        self.ingest = ingest
        self.ran: set[str] = set()
        program = ingest.directory / "ingest"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m ingest "$@"\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        ingest.environment["PATH"] = f"{ingest.directory}:{postgres_programs()}:{os.environ['PATH']}"

    async def __call__(self, line: str) -> tuple[int, str]:
        """Run one command; give its exit code and both its streams."""
        self.ran.add(line)
        done = await asyncio.to_thread(
            subprocess.run,
            ["sh", "-c", line],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.ingest.directory,
            env=self.ingest.environment,
            timeout=90,
            check=False,
        )
        said = done.stdout.decode()
        assert "Traceback" not in said, said
        return done.returncode, said

    @contextmanager
    def running(self, line: str) -> Iterator[None]:
        """Have a command of `ingest` at work, and end it."""
        self.ran.add(line)
        process = self.ingest.start(*line.split()[1:])
        try:
            yield
        finally:
            process.terminate()
            process.communicate()

    async def breaches(self) -> dict[str, str]:
        """Look as `ingest status` does, without a process."""
        settings = settings_of(self.ingest.environment["INGEST_TIMESERIES_DSN"])
        return {check: each.what for check, each in (await breaches(settings)).items()}

    async def shows(self, title: str) -> list[tuple[int, str]]:
        """Run what shows the state that a section is about, and expect it to; give what each command said."""
        section = SECTIONS[title]
        shown = [await self(line) for line in section.shows]
        assert any(section.says in said for _, said in shown), shown
        if section.shows[0] == "ingest status":
            assert shown[0][0] == 1
        return shown

    async def tries(self, title: str, *, but: Collection[str] = ()) -> None:
        """Go through a section: it shows, it mends, and then all is well, *but* for these checks."""
        await self.shows(title)
        for line in SECTIONS[title].mends:
            code, said = await self(line)
            assert code == 0, f"{line}: {said}"
        left = {check: what for check, what in (await self.breaches()).items() if check not in but}
        assert left == {}, left

    def has_gone_through(self, test: pytest.Item) -> None:
        """Expect each command of the sections that *test* is about to have been run."""
        titles = [title for mark in test.iter_markers("section") for title in mark.args]
        wanted = [line for each in titles for line in (*SECTIONS[each].shows, *SECTIONS[each].mends)]
        left_out = [line for line in wanted if line not in self.ran]
        assert left_out == [], left_out
