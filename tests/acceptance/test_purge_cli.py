"""`ingest dead-letters purge` as an operator runs it: nothing goes unasked, nothing else goes with it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.acceptance.command_line import CommandLine, report
from tests.acceptance.dead_letter_history import DAY_US, History, command_line

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from tests.acceptance.conftest import Greenhouse


@pytest.fixture
def ingest(tmp_path: Path, database: str) -> CommandLine:
    return command_line(tmp_path, database)


@pytest.fixture
async def history(greenhouse: Greenhouse, database: str) -> History:
    """Two letters of 100 days, one of them for two reasons, and one of today."""
    made = History(greenhouse, database)
    await made.store({"a": 1}, ("a", "bad_value"), age_us=100 * DAY_US)
    await made.store({"a": 1, "b": 2}, ("a", "bad_value"), ("b", "inactive"), age_us=100 * DAY_US)
    await made.store({"a": 1}, ("a", "bad_value"))
    return made


async def purge(ingest: CommandLine, history: History, *options: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        ingest, "dead-letters", "purge", "--tenant", history.greenhouse.prefix, *options
    )


async def test_it_has_to_be_told_how_old(ingest: CommandLine, history: History) -> None:
    refused = await purge(ingest, history, "--yes", "--reason", "bad_value")
    assert refused.returncode == 2
    assert "--older-than 90d" in refused.stderr
    assert len(await history.letters()) == 3


async def test_without_yes_nothing_is_deleted(ingest: CommandLine, history: History) -> None:
    refused = await purge(ingest, history, "--older-than", "90d")
    assert refused.returncode == 2
    assert "2 dead letters fit, with 3 rejected readings" in refused.stdout
    assert "nothing was deleted: add --yes" in refused.stderr
    looked = await purge(ingest, history, "--older-than", "90d", "--dry-run", "--json")
    assert looked.returncode == 0
    counted = report(looked)
    assert (counted["dry_run"], counted["fitting"], counted["deleted"]) == (True, 2, 0)
    assert counted["reasons"] == {"bad_value": 2, "inactive": 1}
    assert len(await history.letters()) == 3
    assert not [each for each in await history.operations() if each["operation_type"] == "PURGE"]


async def test_what_fits_goes_and_the_rest_stays(ingest: CommandLine, history: History) -> None:
    done = await purge(ingest, history, "--older-than", "90d", "--reason", "inactive", "--yes", "--json")
    assert done.returncode == 0, done.stderr
    assert report(done)["deleted"] == 1
    done = await purge(ingest, history, "--older-than", "90d", "--yes")
    assert done.returncode == 0
    assert "1 deleted" in done.stdout
    (left,) = await history.letters()
    operation = (await history.operations())[-1]
    assert (operation["operation_type"], operation["status"]) == ("PURGE", "COMPLETED")
    assert (operation["total_records"], operation["successful_records"]) == (1, 1)
    one = await purge(ingest, history, "--id", str(left["dead_letter_id"]), "--yes")
    assert one.returncode == 0
    assert not await history.letters()
    nothing = await purge(ingest, history, "--all", "--yes")
    assert (nothing.returncode, nothing.stdout) == (0, "no dead letters fit\n")
    assert report(await purge(ingest, history, "--all", "--yes", "--json"))["dry_run"] is False


async def test_many_go_in_batches(ingest: CommandLine, history: History) -> None:
    await history.store({"a": 1}, ("a", "bad_value"), times=2_500)
    done = await purge(ingest, history, "--all", "--yes", "--json")
    assert report(done)["deleted"] == 2_503
    assert not await history.letters()


@pytest.mark.parametrize(("answer", "code", "left"), [(b"n\n", 2, 3), (b"y\n", 0, 1)])
async def test_on_a_terminal_it_asks(
    answer: bytes, code: int, left: int, ingest: CommandLine, history: History
) -> None:
    arguments = ("dead-letters", "purge", "--older-than", "90d", "--tenant", history.greenhouse.prefix)
    done = await asyncio.to_thread(ingest.answered, answer, *arguments)
    assert done.returncode == code
    assert b"2 dead letters fit" in done.stdout
    assert len(await history.letters()) == left
