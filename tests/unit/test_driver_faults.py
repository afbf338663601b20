"""A server that dies between two messages of a statement, to the operator's commands: no traceback."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import pytest

from ingest import migration_connection
from ingest.errors import Unavailable
from ingest.operate import normalize_run, reading

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


@pytest.mark.parametrize(
    "translated",
    [
        reading.translated("timeseries", "greenhouse_reader"),
        normalize_run.translated("give rows their ids"),
        migration_connection.translated("migrating"),
    ],
    ids=["reading", "normalize", "migrate"],
)
def test_it_is_a_lost_connection(translated: AbstractContextManager[None]) -> None:
    with pytest.raises(Unavailable, match="cannot switch to state 12"), translated:
        raise asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress")
