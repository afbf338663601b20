"""How far a long command is, where there is no terminal for a bar: a line now and then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ingest.commands.progress import progress_bar, progress_lines
from ingest.operate.progress import Progress

if TYPE_CHECKING:
    import pytest


def test_a_line_in_ten_seconds_at_most(capsys: pytest.CaptureFixture[str]) -> None:
    now_s = 100.0
    tell = progress_lines(lambda: now_s)
    for done, now_s in enumerate((100.0, 105.0, 109.9, 110.0, 110.1, 119.0, 121.0)):  # noqa: B007 (read by the clock)
        tell(Progress("jobs", done, 9))
    assert capsys.readouterr() == ("", "ingest: jobs: 3 of 9 done\ningest: jobs: 6 of 9 done\n")


def test_without_a_terminal_lines_are_told_where_they_are_wanted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.commands.progress.LINES_EVERY_S", 0.0)
    for wanted in (False, True):
        with progress_bar(else_lines=wanted) as on_progress:
            on_progress(Progress("compress", 1, 2))
    assert capsys.readouterr() == ("", "ingest: compress: 1 of 2 done\n")
