"""The command line looks for garbage seldom, and not at all when it ends."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING

import pytest

from ingest.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def collector() -> Iterator[None]:
    """What a command changes, put back."""
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


@pytest.mark.usefixtures("collector")
def test_imports_are_not_looked_through_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["ingest", "--version"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert gc.get_threshold()[0] >= 100_000
    assert gc.get_freeze_count() > 0
