"""The row of an operation in `metadata.bulk_operation_log`, where its database is away before the end."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr

from ingest.errors import CheckFailed, Unavailable
from ingest.load.importing import ImportPlan, import_files
from ingest.operate import bulk_operations
from ingest.operate.bulk_operations import Stopped, recorded_apart
from tests.histories import PROBE, counts, fetch, lines, register, settings_for
from tests.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from ingest.operate.progress import Progress

END = b"completed_at = clock_timestamp()"
"""What is sent when an operation is over."""


@pytest.fixture
async def proxy(plain_dsn: str) -> AsyncIterator[Proxy]:
    async with Proxy(urlsplit(plain_dsn).port or 0) as made:
        yield made


async def _log(dsn: str) -> list[tuple[str, int]]:
    found = await fetch(
        dsn, "select status, successful_records from metadata.bulk_operation_log order by started_at"
    )
    return [(row[0], row[1]) for row in found]


@pytest.mark.parametrize("away", ["for a moment", "to the end"])
async def test_an_import_outlives_its_metadata_database(
    plain_dsn: str, proxy: Proxy, tmp_path: Path, away: str
) -> None:
    await register(plain_dsn)
    path = lines(tmp_path / "a.csv", "time,value,sensor", f"2024-07-01T10:00:00Z,1,{PROBE}")
    settings = settings_for(plain_dsn).model_copy(update={"metadata_dsn": SecretStr(proxy.url(plain_dsn))})

    def on_progress(step: Progress) -> None:
        if step.doing == "importing":
            proxy.refuse(refusing=away == "to the end")

    report = await import_files(settings, ImportPlan([path]), on_progress=on_progress)
    assert (counts(report), report.clean) == ((1, 1, 0, 0, 0), True)
    if away == "for a moment":
        assert (report.remarks, await _log(plain_dsn)) == ([], [("COMPLETED", 1)])
    else:
        (text,) = report.remarks
        assert "metadata.bulk_operation_log stays RUNNING: cannot connect to the metadata database" in text
        assert await _log(plain_dsn) == [("RUNNING", 0)]


@pytest.mark.parametrize("error", [None, Stopped(), CheckFailed("damaged")])
async def test_the_end_of_the_work_is_what_is_raised(
    plain_dsn: str, proxy: Proxy, error: BaseException | None
) -> None:
    told: list[str] = []

    async def work() -> None:
        async with recorded_apart(proxy.url(plain_dsn), "PURGE", "here", told.append) as tally:
            tally.successful = 1
            proxy.set_trap(END, "cut", forward=False)
            if error is not None:
                raise error

    if error is None:
        await work()
    else:
        with pytest.raises(type(error)) as caught:
            await work()
        assert caught.value is error
    assert len(told) == 1
    assert await _log(plain_dsn) == [("RUNNING", 0)]


async def test_a_silent_database_is_not_waited_for(
    plain_dsn: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_operations, "END_S", 0.2)
    told: list[str] = []
    async with recorded_apart(proxy.url(plain_dsn), "PURGE", "here", told.append):
        proxy.stall()
    proxy.flow()
    assert "stays RUNNING: no answer in 0 s" in told[0]
    proxy.refuse(refusing=True)
    with pytest.raises(Unavailable):
        async with recorded_apart(proxy.url(plain_dsn), "PURGE", "here", told.append):
            pytest.fail("it began without its row")
