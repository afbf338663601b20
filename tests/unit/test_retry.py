"""Which database faults are tried again, by SQLSTATE; and how trying again behaves."""

from __future__ import annotations

import asyncio
import gc

import asyncpg
import pytest

from ingest.errors import DatabaseFault, Misconfigured, Poison, SessionTakenOver, Unavailable
from ingest.write.retry import translate, until_done

KINDS: tuple[tuple[str, type[DatabaseFault]], ...] = (
    ("08006", Unavailable),  # connection failure
    ("40001", Unavailable),  # serialisation failure
    ("40P01", Unavailable),  # deadlock
    ("53100", Unavailable),  # disk full
    ("53300", Unavailable),  # too many connections
    ("53400", Misconfigured),  # TimescaleDB's decompression limit
    ("55P03", Unavailable),  # lock not available
    ("57014", Unavailable),  # statement timeout
    ("57P01", Unavailable),  # admin shutdown
    ("57P03", Unavailable),  # starting up
    ("58030", Unavailable),  # I/O error
    ("25006", Unavailable),  # read-only: a standby
    ("25P03", Unavailable),  # idle in transaction for too long
    ("22003", Poison),  # numeric value out of range
    ("22P05", Poison),  # a NUL in JSON text
    ("23505", Poison),  # unique violation
    ("23514", Poison),  # check violation
    ("44000", Poison),  # check option
    ("54000", Poison),  # program limit exceeded
    ("P0001", Poison),  # raised by a trigger
    ("P0002", Poison),  # no row where a trigger wants one
    ("42P01", Misconfigured),  # no such table
    ("42501", Misconfigured),  # no such right
    ("28P01", Misconfigured),  # wrong password
    ("3D000", Misconfigured),  # no such database
    ("0A000", Misconfigured),  # not supported
    ("XX000", Misconfigured),  # internal error: held loudly, not dropped
)


@pytest.mark.parametrize(("sqlstate", "kind"), KINDS)
def test_the_sqlstate_decides(sqlstate: str, kind: type[DatabaseFault]) -> None:
    error = asyncpg.PostgresError.new({"C": sqlstate, "M": "what the server said"})
    fault = translate(error)
    assert type(fault) is kind
    assert fault.sqlstate == sqlstate
    assert str(fault) == f"what the server said (SQLSTATE {sqlstate})"


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (ConnectionRefusedError(111, "Connect call failed"), Unavailable, "cannot be reached"),
        (TimeoutError(), Unavailable, "did not answer in time"),
        (asyncpg.InterfaceError("connection is closed"), Unavailable, "unusable"),
        (asyncpg.InternalClientError("cannot switch to state 12"), Unavailable, "unusable"),
        (RuntimeError("odd"), Misconfigured, "RuntimeError: odd"),
    ],
)
def test_faults_without_an_sqlstate(error: Exception, kind: type[DatabaseFault], text: str) -> None:
    fault = translate(error)
    assert type(fault) is kind
    assert fault.sqlstate is None
    assert text in str(fault)


def test_a_fault_is_not_translated_twice() -> None:
    fault = Poison("no", "22000")
    assert translate(fault) is fault


async def test_the_work_is_tried_until_it_succeeds() -> None:
    outcomes: list[Exception | str] = [Unavailable("down"), Misconfigured("no table", "42P01"), "done"]
    told: list[tuple[str, float]] = []

    async def work() -> str:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    result = await until_done(
        work, min_s=0.001, max_s=0.002, on_retry=lambda fault, wait_s: told.append((str(fault), wait_s))
    )
    assert result == "done"
    assert [text for text, _ in told] == ["down", "no table"]
    assert all(0 <= wait_s <= 0.002 for _, wait_s in told)


@pytest.mark.parametrize("error", [Poison("bad row"), SessionTakenOver("gone"), ValueError("ours")])
async def test_what_trying_again_cannot_mend_is_raised_at_once(error: Exception) -> None:
    async def work() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        await until_done(work, min_s=1, max_s=1, on_retry=lambda *_: pytest.fail("tried again"))
    assert raised.value is error


async def test_what_succeeds_at_once_leaves_nothing_to_collect() -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        return 1

    gc.collect()
    for _ in range(100):
        assert await until_done(work, min_s=1, max_s=1, on_retry=lambda *_: None) == 1
    assert gc.collect() < 100


@pytest.mark.parametrize(
    ("fault", "tries"), [(Unavailable("down"), 2), (Misconfigured("no table", "42P01"), 1)]
)
async def test_with_patience_only_what_passes_is_tried_again_and_not_for_ever(
    fault: DatabaseFault, tries: int
) -> None:
    tried = 0

    async def work() -> None:
        nonlocal tried
        tried += 1
        await asyncio.sleep(0.02)  # one try alone takes longer than the patience
        raise fault

    with pytest.raises(DatabaseFault) as raised:
        await until_done(work, min_s=0.001, max_s=0.001, on_retry=lambda *_: None, patience_s=0.01)
    assert (raised.value, tried) == (fault, tries)
