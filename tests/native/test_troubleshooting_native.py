"""The sections of docs/troubleshooting.md about what only a server with a scheduler gets into."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.acceptance.dead_letter_history import command_line
from tests.acceptance.troubleshooting_guide import SECTIONS, Shell
from tests.integration.timeseries_rows import THERMOMETER, add, midnight
from tests.native.scheduler import UNUSABLE, UPSTREAM, failing_job, first_runs_are_over

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import asyncpg

pytestmark = [pytest.mark.native, pytest.mark.timeout(300)]

FAILS = "A background job fails"
UNUSABLE_INDEX = "An index is not usable"


@pytest.fixture
def shell(tmp_path: Path, migrated_dsn: str, request: pytest.FixtureRequest) -> Iterator[Shell]:
    made = Shell(command_line(tmp_path, migrated_dsn))
    yield made
    made.has_gone_through(request.node)


@pytest.mark.section(FAILS)
async def test_a_background_job_fails(connection: asyncpg.Connection[asyncpg.Record], shell: Shell) -> None:
    await failing_job(connection)
    await shell.shows(FAILS)
    (mend,) = SECTIONS[FAILS].mends
    code, said = await shell(mend)
    assert (code, "in the way" in said) == (1, True), said
    await connection.execute("drop table iot.in_the_way")
    code, said = await shell(mend)
    assert code == 0, said
    if UPSTREAM in said:
        assert "known fault" in said
    else:
        assert "jobs" not in await shell.breaches()


@pytest.mark.section(UNUSABLE_INDEX)
async def test_an_index_is_not_usable(connection: asyncpg.Connection[asyncpg.Record], shell: Shell) -> None:
    await first_runs_are_over(connection)
    await add(connection, THERMOMETER, [midnight()])
    await connection.execute(UNUSABLE)
    # The reading is in no aggregate yet; as to the jobs' first runs see UPSTREAM.
    await shell.tries(UNUSABLE_INDEX, but={"aggregates", "jobs"})
