"""Dead letters taken up again, on plain PostgreSQL and on TimescaleDB: rows, letters and notes in one."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
import pytest

from ingest.model import CutPayload, Delivery, Gateway, Rejection
from ingest.operate.reconcile import Question, reconcile
from ingest.operate.reconcile_judge import judge
from ingest.write import Batch, Counts, letters
from ingest.write.copy import copy_straight, pack
from ingest.write.late import LATE_AFTER_US
from ingest.write.replay import LookedAt, replay
from tests.batches import NOW_US, WriterUnderTest, counters_of, row, stored
from tests.letters import LABEL, MAP_TOPIC, left, letter, replay_all, store, under
from tests.unit.catalog_examples import SARA, SARA_01, example_catalog, sensor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ingest.model import Reason, Series
    from ingest.write.staged import ConflictPolicy

PUMP = UUID(int=0xD2)
LABELLED = example_catalog(sensor(PUMP, SARA_01, "B", "SENSOR", label="BOMBA"))
HOUR_US = 3_600_000_000


both = pytest.mark.parametrize("dsn", ["plain", "timescale"], indirect=True)


@pytest.fixture
def dsn(request: pytest.FixtureRequest) -> str:
    """A database with schema iot, on plain PostgreSQL and where it makes a difference on TimescaleDB."""
    plain = getattr(request, "param", "plain") == "plain"
    return str(request.getfixturevalue("timeseries_dsn" if plain else "migrated_dsn"))


@pytest.fixture
async def iot(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


async def whole_content(connection: asyncpg.Connection) -> list[object]:
    """Give every row that a replay may touch, and the version of each letter's row."""
    return [
        await connection.fetch("select * from iot.sensor_readings order by time, sensor_id"),
        await connection.fetch("select *, xmin from iot.ingest_dead_letters order by dead_letter_id"),
        await connection.fetch("select * from iot.ingest_late_buckets order by bucket"),
        await connection.fetch("select * from iot.ingest_counters"),
        await connection.fetch("select * from iot.ingest_written_hours order by hour"),
    ]


async def pump_series(connection: asyncpg.Connection) -> Series:
    """Give the series that the label BOMBA stands for, by looking at a letter."""
    looked = under(LABELLED)(
        letters.StoredLetter(
            1, NOW_US, MAP_TOPIC, b'{"BOMBA": 1}', letter({}, ("BOMBA", "inactive")).rejections, 1
        )
    )
    assert not await connection.fetchval("select count(*) from iot.sensor_readings")
    return looked.rows[0].series


@both
async def test_what_is_cured_lands_and_the_rest_stays(iot: asyncpg.Connection) -> None:
    await store(
        iot,
        letter({"BOMBA": 1, "SENSOR_01": 9}, ("BOMBA", "unknown_sensor_type"), missing=[LABEL]),
        letter(
            {"CALDERA": 4, "BOMBA": 2, "TEMP_01": 6484},
            ("CALDERA", "unknown_sensor_type"),
            ("BOMBA", "unknown_sensor_type"),
            ("TEMP_01", "out_of_range"),
            receipt_us=NOW_US + 1,
            missing=[LABEL, f"label {SARA_01} caldera"],
        ),
        letter(b"{", ("", "bad_payload"), receipt_us=NOW_US + 2),
    )
    replayed = await replay_all(iot, under(LABELLED))
    assert (replayed.letters, replayed.settled, replayed.written, replayed.duplicate) == (3, 1, 2, 0)
    assert replayed.still == {"out_of_range": 1, "unknown_sensor_type": 1, "bad_payload": 1}
    assert replayed.readings == 5
    assert await stored(iot) == [(0, 1.0), (1, 2.0)], "the good field was stored at the time, or not"
    assert await left(iot) == [
        (MAP_TOPIC, ["unknown_sensor_type", "out_of_range"], 2, [f"label {SARA_01} caldera"]),
        (MAP_TOPIC, ["bad_payload"], 1, None),
    ]
    record = await iot.fetchrow("select * from iot.ingest_dead_letters order by dead_letter_id limit 1")
    assert record is not None
    assert record["reasons"] == ["out_of_range", "unknown_sensor_type"]
    assert {each["field"] for each in json.loads(record["rejected"])} == {"CALDERA", "TEMP_01"}
    before = await whole_content(iot)
    again = await replay_all(iot, under(LABELLED))
    assert (again.letters, again.settled, again.written, again.duplicate) == (2, 0, 0, 0)
    assert await whole_content(iot) == before, "a second time changes nothing"


@both
async def test_a_rehearsal_tells_the_same_and_changes_nothing(iot: asyncpg.Connection) -> None:
    await store(
        iot,
        letter({"BOMBA": 1}, ("BOMBA", "unknown_sensor_type")),
        letter({"BOMBA": 1, "CALDERA": 2}, ("BOMBA", "inactive"), ("CALDERA", "inactive")),
    )
    before = await whole_content(iot)
    rehearsed = await replay_all(iot, under(LABELLED), keep=False)
    assert await whole_content(iot) == before
    assert rehearsed == await replay_all(iot, under(LABELLED))
    assert (rehearsed.written, rehearsed.duplicate, rehearsed.settled) == (1, 1, 1)


@pytest.mark.parametrize(
    ("policy", "values", "reasons"),
    [
        ("dead_letter", [7.0], ["conflicting_value"]),
        ("keep_first", [7.0], []),
        ("replace", [1.0], []),
    ],
)
async def test_another_value_at_the_key_is_treated_as_configured(
    iot: asyncpg.Connection, policy: ConflictPolicy, values: list[float], reasons: list[str]
) -> None:
    await copy_straight(iot, [pack([row(await pump_series(iot), 7.0)])])
    await store(iot, letter({"BOMBA": 1}, ("BOMBA", "unknown_sensor_type"), missing=[LABEL]))
    await replay_all(iot, under(LABELLED), policy=policy)
    assert [value for _, value in await stored(iot)] == values
    assert [each[1:] for each in await left(iot)] == ([(reasons, 1, None)] if reasons else [])


async def test_a_row_only_the_database_can_refuse_says_so(iot: asyncpg.Connection) -> None:
    await iot.execute("alter table iot.sensor_readings add constraint low_check check (value < 3)")
    await store(
        iot,
        *(letter({"BOMBA": at}, ("BOMBA", "inactive"), receipt_us=NOW_US + at) for at in range(5)),
    )
    replayed = await replay_all(iot, under(LABELLED))
    assert (replayed.written, replayed.settled, replayed.still) == (3, 3, {"database_refused": 2})
    assert [value for _, value in await stored(iot)] == [0.0, 1.0, 2.0]
    assert [each[1] for each in await left(iot)] == [["database_refused"]] * 2
    detail = await iot.fetchval("select rejected -> 0 ->> 'detail' from iot.ingest_dead_letters limit 1")
    assert "23514" in detail


@both
async def test_old_letters_land_at_their_time_and_are_noted_late(iot: asyncpg.Connection) -> None:
    old_us = NOW_US - 200 * 24 * HOUR_US
    await store(
        iot,
        letter({"BOMBA": 1}, ("BOMBA", "inactive"), receipt_us=old_us),
        letter({"BOMBA": 2}, ("BOMBA", "inactive"), receipt_us=old_us + 1),
        letter({"BOMBA": 3}, ("BOMBA", "inactive"), receipt_us=NOW_US - LATE_AFTER_US),
    )
    replayed = await replay_all(iot, under(LABELLED))
    assert (replayed.written, replayed.hours_noted) == (3, 1)
    assert await stored(iot) == [(old_us - NOW_US, 1.0), (old_us + 1 - NOW_US, 2.0), (-LATE_AFTER_US, 3.0)]
    notes = await iot.fetch("select greenhouse_id, sensor_type_id, rows from iot.ingest_late_buckets")
    assert [tuple(note) for note in notes] == [(SARA_01, 11, 2)]


async def test_a_bug_of_ours_costs_no_letter(iot: asyncpg.Connection) -> None:
    await store(
        iot,
        letter({"BOMBA": 1}, ("BOMBA", "inactive")),
        letter(
            {"BOMBA": 2}, ("BOMBA", "inactive"), ("X", "bad_value"), receipt_us=NOW_US + 1, missing=[LABEL]
        ),
    )
    fault = "KeyError at decode/labels.py:1, in read_labels"

    def look(one: letters.StoredLetter) -> LookedAt:
        return LookedAt(rejections=one.rejections, fault=fault) if len(one.rejections) > 1 else good(one)

    good = under(LABELLED)
    before = await iot.fetch("select *, xmin from iot.ingest_dead_letters where missing is not null")
    replayed = await replay_all(iot, look)
    assert (replayed.settled, replayed.written) == (1, 1)
    assert (replayed.faults, replayed.still) == ({fault: 1}, {"inactive": 1, "bad_value": 1})
    assert await iot.fetch("select *, xmin from iot.ingest_dead_letters") == before


async def test_what_was_cut_is_passed_over(iot: asyncpg.Connection) -> None:
    cut = letter({}, ("", "too_large"))._replace(payload=CutPayload.of(b'{"BOMBA": 1}' * 1000))
    numbers = await store(iot, cut)
    replayed, rest = await replay(
        iot, [*numbers, 999], under(LABELLED), policy="dead_letter", max_rows=10, now_us=NOW_US
    )
    assert (replayed.letters, rest) == (0, [])
    assert [each[1] for each in await left(iot)] == [["too_large"]]


async def test_a_transaction_has_its_bounds(iot: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = await store(
        iot,
        *(
            letter({"BOMBA": at, "note": "x" * 1_000}, ("BOMBA", "inactive"), receipt_us=NOW_US + at)
            for at in range(7)
        ),
    )
    monkeypatch.setattr(letters, "MAX_BATCH_BYTES", 3_100)
    done = []
    rest = numbers
    while rest:
        replayed, rest = await replay(
            iot, rest, under(LABELLED), policy="dead_letter", max_rows=2, now_us=NOW_US
        )
        done.append(replayed.written)
    assert done == [2, 2, 2, 1], "three fit by their bytes, two by their rows"
    monkeypatch.setattr(letters, "MAX_BATCH_BYTES", 1)
    await store(iot, letter({"BOMBA": 1}, ("BOMBA", "inactive"), receipt_us=NOW_US + 99))
    assert (await replay_all(iot, under(LABELLED))).written == 1, "one letter always fits"


async def test_accounts_add_up_after_a_replay(
    timeseries_dsn: str, connection: asyncpg.Connection, writer: WriterUnderTest
) -> None:
    gateway = Gateway("GREENHOUSE/SARA/01", SARA, SARA_01)
    batch = Batch()
    reasons: tuple[Reason, ...] = ("bad_payload", "unknown_topic")
    for number, reason in enumerate(reasons):
        batch.add(
            Delivery(MAP_TOPIC, b'{"BOMBA": 1, "CALDERA": 2, "X": 3, "Y": null}', 2, number + 1),
            NOW_US + number,
            (),
            [Rejection("", reason, "rejected whole")],
            SARA,
            gateway=gateway,
        )
    await writer.commit(batch, also=Counts(received=2))
    replayed = await replay_all(connection, under(LABELLED))
    assert (replayed.written, replayed.null, replayed.still) == (2, 2, {"unknown_sensor_type": 4})
    booked = await connection.fetch("select client_id, rows from iot.ingest_written_hours")
    assert [tuple(each) for each in booked] == [("(replay)", 2)]
    assert (await counters_of(connection))["rejected"] == 2, "the counters tell what was at receipt"
    received = datetime.fromtimestamp(NOW_US / 1e6, UTC)
    question = Question(received - timedelta(hours=1), received + timedelta(hours=1))
    found = await reconcile(timeseries_dsn, None, question, datetime.now(UTC))
    verdict = judge(found, replaces=False)
    assert verdict.faults == [], "four rejected readings in two letters that were two at receipt"
    assert [each[:12] for each in verdict.remarks] == ["metadata_dsn"]


@both
async def test_letters_are_found_by_what_they_lack(iot: asyncpg.Connection) -> None:
    unit, label = "unit * FURLONG", LABEL
    numbers = await store(
        iot,
        letter({"a": 1}, ("a", "unknown_unit"), missing=[unit]),
        letter({"a": 1}, ("a", "bad_value")),
        letter({"a": 1}, ("a", "unknown_unit"), missing=[unit, label]),
        letter({"a": 1}, ("a", "unknown_unit"), missing=["unit * ELL"]),
        letter({}, ("", "too_large"), missing=[unit])._replace(payload=CutPayload.of(b"x" * 9_000)),
    )
    first, _, both, ell, _ = numbers
    assert await letters.lacking(iot, [unit], 0, 10) == [first, both]
    assert await letters.lacking(iot, [label, "unit * ELL"], 0, 10) == [both, ell]
    assert await letters.lacking(iot, [unit], first, 10) == [both]
    assert await letters.lacking(iot, [unit], 0, 1) == [first]
    beginning = await iot.fetchval("select timestamptz '-infinity'")
    names, asked_at = await letters.missing_names(iot, beginning, 10)
    assert sorted(names) == sorted([unit, label, "unit * ELL"])
    assert len((await letters.missing_names(iot, beginning, 2))[0]) == 2
    assert (await letters.missing_names(iot, asked_at, 10))[0] == []
    view = await iot.fetch(
        "select kind, owner_id, name, messages from iot.v_ingest_missing_names order by 1, 3"
    )
    assert [tuple(each) for each in view] == [
        ("label", str(SARA_01), "bomba", 1),
        ("unit", None, "ELL", 1),
        ("unit", None, "FURLONG", 3),
    ]
