"""An export that cannot begin, or is stopped, leaves no file."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from ingest.errors import ConfigurationError, Unavailable
from ingest.load.exporting import Wanted, export
from ingest.load.whole_file import WholeFile
from tests.histories import names_in, settings_for
from tests.servers import free_port

if TYPE_CHECKING:
    from pathlib import Path

WANTED = Wanted(datetime(2024, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC))


def test_parquet_without_its_library_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # as where the extra is not installed
    settings = settings_for("postgresql://127.0.0.1/nothing")
    with pytest.raises(ConfigurationError, match=r"pip install 'greenhouse-ingest\[parquet\]'"):
        asyncio.run(export(settings, WANTED, WholeFile(tmp_path / "a.parquet"), "parquet"))
    assert names_in(tmp_path) == []


def test_without_a_database_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("of before")
    settings = settings_for(f"postgresql://127.0.0.1:{free_port()}/nothing")
    with pytest.raises(Unavailable):
        asyncio.run(export(settings, WANTED, WholeFile(tmp_path / "a.csv"), "csv"))
    assert names_in(tmp_path) == ["a.csv"]
    assert (tmp_path / "a.csv").read_text() == "of before"
