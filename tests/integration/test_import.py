"""Files of others imported: their columns, zones and units, what is refused, and what a second run does."""

from __future__ import annotations

import asyncio
import csv
import gzip
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import asyncpg
import pytest
from pydantic import SecretStr

from ingest.errors import CheckFailed, ConfigurationError, Unavailable
from ingest.load.importing import ImportPlan, import_files
from ingest.resolve.names import derived_sensor_id
from ingest.write import backfiller
from tests.histories import (
    HOUSE,
    OTHER_HOUSE,
    PROBE,
    STRANGER,
    TENANT,
    counts,
    fetch,
    hours_ago,
    imported,
    lines,
    objects,
    register,
    rows,
    settings_for,
)
from tests.servers import free_port
from tests.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from ingest.errors import DatabaseFault

MADRID = {"zone": ZoneInfo("Europe/Madrid")}
LOGGER: dict[str, Any] = {
    "mapped": {"time": "Fecha", "value": "Valor", "sensor": "Sonda", "sensor_type": "Tipo", "unit": "Unidad"},
    "constants": {"greenhouse": "01", "tenant": "HISTORY"},
    **MADRID,
}


@pytest.fixture
async def dsn(plain_dsn: str) -> str:
    await register(plain_dsn)
    return plain_dsn


async def test_a_loggers_file(dsn: str, tmp_path: Path) -> None:
    path = lines(
        tmp_path / "logger.csv",
        "\ufeffFecha;Sonda;Tipo;Valor;Unidad;Nota",
        "2024-07-01 12:00:00;PROBE;Temperatura;24,3;C;fine",
        "2024-01-01T12:00;PROBE;;21.5;;no type: the registered one",
        "2024-07-01 12:00:00+00:00;X-1;HUMEDAD;55;percent;unknown sensor",
        "1720000000;PROBE;TEMPERATURE;;°C;null",
        "1720000000123;PROBE;TEMPERATURE;70,5;°F;epoch ms",
        "2024-10-27 02:30:00;PROBE;TEMPERATURE;20;°C;twice",
        "2024-03-31 02:30:00;PROBE;TEMPERATURE;20;°C;never",
        "2024-07-01 12:00:00;PROBE;TEMPERATURE;6484,1;°C;torn off",
        "yesterday;PROBE;TEMPERATURE;20;°C;no time",
        "2024-07-02 12:00:00;PROBE;TEMPERATURE;warm;°C;no value",
        "2024-07-02 12:00:00;PROBE;TEMPERATURE",
        "1969-07-20T20:17:00Z;PROBE;TEMPERATURE;20;°C;too old",
    )
    rejected = tmp_path / "rejected.csv"
    rehearsed = await imported(dsn, path, dry_run=True, **LOGGER)
    assert await rows(dsn) == []
    report = await imported(dsn, path, rejected=rejected, **LOGGER)
    assert counts(report) == counts(rehearsed) == (12, 4, 0, 1, 7)
    assert report.rejected == rehearsed.rejected == {
        "bad_timestamp": 4, "out_of_range": 1, "bad_value": 1, "bad_payload": 1,
    }  # fmt: skip
    found = await rows(dsn)
    assert [
        (each["time"].isoformat(), each["sensor_id"], each["value"], each["unit_id"]) for each in found
    ] == [
        ("2024-01-01T11:00:00+00:00", PROBE, 21.5, 1),
        ("2024-07-01T10:00:00+00:00", PROBE, 24.3, 1),
        ("2024-07-01T12:00:00+00:00", derived_sensor_id(HOUSE, "X-1"), 55.0, 3),
        ("2024-07-03T09:46:40.123000+00:00", PROBE, 70.5, 2),
    ]
    assert {(each["greenhouse_id"], each["tenant_id"]) for each in found} == {(HOUSE, TENANT)}
    assert json.loads(found[2]["metadata"]) == {"device_code": "X-1"}
    told = rejected.read_text("utf-8").splitlines()
    assert told[0] == (
        "Fecha;Sonda;Tipo;Valor;Unidad;Nota;"
        "rejected_file;rejected_line;rejected_reason;rejected_detail;rejected_text"
    )
    assert [(line.split(";")[7:9]) for line in told[1:]] == [
        ["7", "bad_timestamp"], ["8", "bad_timestamp"], ["9", "out_of_range"], ["10", "bad_timestamp"],
        ["11", "bad_value"], ["12", "bad_payload"], ["13", "bad_timestamp"],
    ]  # fmt: skip
    assert "was there twice in Europe/Madrid" in told[1]
    assert "was never there in Europe/Madrid" in told[2]
    assert told[6].endswith(';"2024-07-02 12:00:00;PROBE;TEMPERATURE"')


async def test_what_was_rejected_is_mended_and_imported_again(dsn: str, tmp_path: Path) -> None:
    path = lines(
        tmp_path / "a.csv",
        "time,sensor,type,value,greenhouse,tenant",
        "2024-07-01T10:00:00Z,PROBE,TEMPERATURE,1,01,HISTORY",
        "2024-07-01T10:01:00Z,PROBE,TEMPERATURE,2x,01,HISTORY",
        "2024-07-01T10:02:00Z,PROBE,TEMPERATURE,3x,01,HISTORY",
    )
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    assert counts(await imported(dsn, path, rejected=first)) == (3, 1, 0, 0, 2)
    first.write_text(first.read_text().replace("2x", "2", 1))
    assert counts(await imported(dsn, first, rejected=second)) == (2, 1, 0, 0, 1)
    assert second.read_text().count("rejected_reason") == 1, "the reasons of before are not kept twice"
    second.write_text(second.read_text().replace("3x", "3", 1))
    assert counts(await imported(dsn, second, rejected=first)) == (1, 1, 0, 0, 0)
    assert len(first.read_text().splitlines()) == 1, "nothing of an earlier run is left in it"
    assert [each["value"] for each in await rows(dsn)] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
async def test_what_was_no_record_is_rejected_until_it_is_mended(
    dsn: str, tmp_path: Path, suffix: str
) -> None:
    broken = {"csv": ["time,value,sensor", '2024-07-01T10:00:00Z,"1'], "jsonl": ["{value: 1}"]}
    files = [tmp_path / f"{number}.{suffix}" for number in range(4)]
    lines(files[0], *broken[suffix])
    for path, rejected in pairwise(files):
        report = await imported(dsn, path, rejected=rejected)
        assert counts(report) == (1, 0, 0, 0, 1)
        assert report.rejected == {"bad_payload": 1}
    told = files[3].read_text()
    if suffix == "csv":
        (row,) = csv.DictReader(told.splitlines())
    else:
        row = json.loads(told)
    assert row["rejected_text"].strip() == broken[suffix][-1], "the text goes on from file to file"
    assert "rejected_text" in row["rejected_detail"]
    mended = {"time": "2024-07-01T10:00:00Z", "value": 1, "sensor": str(PROBE), "rejected_text": ""}
    if suffix == "csv":
        lines(files[3], ",".join(mended), ",".join(map(str, mended.values())))
    else:
        objects(files[3], mended)
    assert counts(await imported(dsn, files[3])) == (1, 1, 0, 0, 0)


async def test_json_lines(dsn: str, tmp_path: Path) -> None:
    good = {"ts": 1_720_000_000, "value": "2,5", "sensor_id": str(PROBE)}
    path = objects(
        tmp_path / "a.ndjson",
        good,  # a registered sensor says where it is, and what
        {**good, "ts": 1_720_000_001.5, "value": True, "metadata": {"by": "hand"}},
        {**good, "value": None},
        {
            "time": "2024-07-01T10:00:00Z",
            "value": 7,
            "sensor": 12,
            "type": "co2",
            "greenhouse": str(OTHER_HOUSE),
        },
        {**good, "sensor_id": ["x"]},
    )
    with path.open("a") as file:
        file.write('not json\n[1]\n\n{"ts": 1720000002, "value": NaN, "sensor_id": "' + str(PROBE) + '"}\n')
    rejected = tmp_path / "r.jsonl.gz"
    report = await imported(dsn, path, rejected=rejected)
    assert counts(report) == (8, 3, 0, 1, 4)
    assert report.rejected == {"bad_payload": 2, "bad_value": 2}
    found = await rows(dsn)
    assert [(each["value"], each["sensor_type_id"]) for each in found] == [(7.0, 5), (2.5, 1), (1.0, 1)]
    assert found[0]["sensor_id"] == derived_sensor_id(OTHER_HOUSE, "12")
    assert json.loads(found[2]["metadata"]) == {"by": "hand"}
    told = [json.loads(line) for line in gzip.decompress(rejected.read_bytes()).splitlines()]
    assert [(each["rejected_line"], each["rejected_reason"], each.get("rejected_text")) for each in told] == [
        (5, "bad_value", None), (6, "bad_payload", "not json\n"), (7, "bad_payload", "[1]\n"),
        (9, "bad_value", None),
    ]  # fmt: skip
    assert told[0]["sensor_id"] == ["x"]


@pytest.mark.parametrize("many", [False, True])
async def test_wrong_names_are_told_before_the_first_row(dsn: str, tmp_path: Path, *, many: bool) -> None:
    good = "2024-07-01T10:00:00Z,PROBE,TEMPERATURE,1,°C,01,HISTORY"
    path = lines(
        tmp_path / "a.csv",
        "time,sensor,type,value,unit,greenhouse,tenant",
        *[good] * (3_000 if many else 1),
        good.replace("°C", "furlong"),
        good.replace("TEMPERATURE", "TEMPERATUR"),
        good.replace("°C", "ppm"),
        good.replace("HISTORY", "NOBODY"),
        good.replace("01,HIS", "09,HIS"),
        good.replace("°C", "furlong"),
        good.replace("01,HISTORY", "02,").replace("PROBE", str(PROBE)),
        good.replace("01,HISTORY", ",").replace("PROBE", str(STRANGER)),
    )
    with pytest.raises(ConfigurationError) as caught:
        await imported(dsn, path)
    told = str(caught.value)
    first = 3_002 if many else 3
    for part in (
        f"{path}:{first}: no unit or alias is called 'furlong' (2 records)",
        f"{path}:{first + 1}: no sensor type or alias is called 'TEMPERATUR' (1 records)",
        "'ppm' does not measure TEMPERATURE",
        "no tenant has the topic prefix, name or id 'NOBODY'",
        "tenant 'HISTORY' has no greenhouse '09'",
        "is registered in another greenhouse",
        "no greenhouse is named",
        "nothing was written",
    ):
        assert part in told
    assert await rows(dsn) == []
    assert await fetch(dsn, "select * from metadata.bulk_operation_log") == []
    report = await imported(dsn, path, reject_names=True)
    assert (report.written, report.rejected.total()) == (1, 8)


async def test_wrong_columns_and_zones_are_told_before_the_first_row(dsn: str, tmp_path: Path) -> None:
    path = lines(tmp_path / "a.csv", "when,value,Value,sensor", "2024-07-01 10:00:00,1,1,PROBE")
    other = lines(tmp_path / "b.csv", "time,val", "2024-07-01 10:00:00,1")
    with pytest.raises(ConfigurationError) as caught:
        await imported(dsn, path, other, mapped={"sensor": "probe"})
    assert caught.value.faults == [
        f"{path}: no column for the time: say --column time=NAME; its columns are when, value, Value, sensor",
        f"{path}: 2 columns are called 'value'",
        f"{path}: --column sensor=probe: its columns are when, value, Value, sensor",
        f"{other}: no column for the value: say --column value=NAME; its columns are time, val",
        f"{other}: --column sensor=probe: its columns are time, val",
    ]
    naive = objects(tmp_path / "c.jsonl", {"at": "2024-07-01 10:00:00", "value": 1, "sensor": str(PROBE)})
    with pytest.raises(ConfigurationError, match=r"c.jsonl:1: a time without a zone, and no --timezone"):
        await imported(dsn, naive, mapped={"time": "at"})
    with pytest.raises(ConfigurationError, match="--column time=when: no record has 'when'"):
        await imported(dsn, naive, mapped={"time": "when"})
    beside = lines(tmp_path / "f.csv", "time,value,Val,sensor", f"2024-07-01T10:00:00Z,1,1,{PROBE}")
    capital = objects(tmp_path / "g.jsonl", {"time": "2024-07-01T10:00:00Z", "Value": 1, "sensor": "PROBE"})
    with pytest.raises(ConfigurationError, match="no record has a value: say --column value=NAME"):
        await imported(dsn, beside, capital)
    with pytest.raises(ConfigurationError, match="--column value=val: no record has 'val'"):
        await imported(dsn, beside, capital, mapped={"value": "val"})
    with pytest.raises(ConfigurationError, match="its name does not tell the format"):
        await imported(dsn, lines(tmp_path / "d.xlsx", "x"))
    with pytest.raises(ConfigurationError, match="its first line is empty"):
        await imported(dsn, lines(tmp_path / "e.csv"))
    assert await rows(dsn) == []


async def test_damaged_files_are_told_before_the_first_row(dsn: str, tmp_path: Path) -> None:
    text = "time,value,sensor\n" + "".join(
        f"2024-07-01T10:00:00.{number:06}Z,{number % 97},{PROBE}\n" for number in range(20_000)
    )
    path = tmp_path / "a.csv.gz"
    whole = gzip.compress(text.encode())
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckFailed, match="cannot be read after line"):
        await imported(dsn, path)
    path.write_bytes(b"\x1f\x8b" + b"x" * 40)
    with pytest.raises((CheckFailed, ConfigurationError)):
        await imported(dsn, path)
    binary = tmp_path / "b.csv"
    binary.write_bytes(b"time,value\n" + bytes(2_000_000))
    with pytest.raises(CheckFailed, match="this is no CSV file"):
        await imported(dsn, binary)
    assert await rows(dsn) == []


async def test_the_range_judges_times(dsn: str, tmp_path: Path) -> None:
    header = "time,value,sensor"
    path = lines(
        tmp_path / "a.csv",
        header,
        f"2010-01-01T00:00:00Z,1,{PROBE}",
        f"2024-07-01T00:00:00Z,2,{PROBE}",
        f"{(datetime.now(UTC) + timedelta(days=1)).isoformat()},3,{PROBE}",
    )
    since, until = (round(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000 for year in (2024, 2025))
    narrow = await imported(dsn, path, accepted_us=(since, until))
    assert counts(narrow) == (3, 1, 0, 0, 2)
    assert counts(await imported(dsn, path)) == (3, 1, 1, 0, 1), (
        "older than decode.max_age_s is no fault here"
    )
    assert [each["value"] for each in await rows(dsn)] == [1.0, 2.0]


async def test_the_same_key_again(dsn: str, tmp_path: Path) -> None:
    first = f"2024-07-01T10:00:00Z,1,{PROBE}"
    path = lines(tmp_path / "a.csv", "time,value,sensor", first, first, first.replace("Z,1", "Z,2"))
    report = await imported(dsn, path)
    assert counts(report) == (3, 1, 1, 0, 1)
    assert report.rejected == {"conflicting_value": 1}
    assert "a.csv:4: 2.0 (unit 1) arrived where 1.0" in report.examples["conflicting_value"]
    assert counts(await imported(dsn, path, batch=1)) == (3, 0, 2, 0, 1)


async def test_what_lands_is_booked_noted_and_logged(dsn: str, tmp_path: Path) -> None:
    at = [hours_ago(100), hours_ago(100) + timedelta(minutes=1), hours_ago(1)]
    path = lines(tmp_path / "a.csv", "time,value,sensor", *(f"{each.isoformat()},1,{PROBE}" for each in at))
    report = await imported(dsn, path)
    assert report.hours_noted == 1
    booked = await fetch(dsn, "select hour, client_id, rows from iot.ingest_written_hours order by hour")
    assert [tuple(each) for each in booked] == [(at[0], "(import)", 2), (at[2], "(import)", 1)]
    await imported(dsn, path)
    assert (
        await fetch(dsn, "select hour, client_id, rows from iot.ingest_written_hours order by hour") == booked
    )
    (note,) = await fetch(dsn, "select bucket, greenhouse_id, rows from iot.ingest_late_buckets")
    assert tuple(note) == (at[0], HOUSE, 2)
    log = await fetch(
        dsn,
        "select operation_type, target_table, source_file, status, successful_records, skipped_records "
        "from metadata.bulk_operation_log order by started_at",
    )
    assert [tuple(each) for each in log] == [
        ("IMPORT", "iot.sensor_readings", "a.csv", "COMPLETED", 3, 0),
        ("IMPORT", "iot.sensor_readings", "a.csv", "COMPLETED", 0, 3),
    ]
    for table in ("ingest_counters", "ingest_gateway_hours", "ingest_dead_letters"):
        assert await fetch(dsn, f"select * from iot.{table}") == [], "no worker received anything"


WAITING = "from pg_stat_activity where application_name like '%(import)' and wait_event_type = 'Lock'"


async def test_a_backend_ended_in_the_middle_of_a_batch(dsn: str, tmp_path: Path) -> None:
    records = (f"{1_720_000_000 + number},{number},{PROBE}" for number in range(50))
    path = lines(tmp_path / "a.csv", "time,value,sensor", *records)
    told: list[DatabaseFault] = []

    async def waits() -> bool:
        return bool((await fetch(dsn, f"select count(*) = 1 {WAITING}"))[0][0])

    locker = await asyncpg.connect(dsn)
    try:
        async with locker.transaction():
            await locker.execute("lock table iot.sensor_readings in access exclusive mode")
            importing = asyncio.create_task(
                import_files(
                    settings_for(dsn), ImportPlan([path]), on_retry=lambda fault, _: told.append(fault)
                )
            )
            await until(waits, "it waits for the table")
            await fetch(dsn, f"select pg_terminate_backend(pid) {WAITING}")
            await until(lambda: bool(told), "it hears of it")
    finally:
        await locker.close()
    assert counts(await importing) == (50, 50, 0, 0, 0)
    assert [type(fault) for fault in told] == [Unavailable]
    (booked,) = await fetch(dsn, "select sum(rows)::int from iot.ingest_written_hours")
    assert booked[0] == 50


async def test_a_database_away_says_how_far_it_came(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = lines(tmp_path / "a.csv", "time,value,sensor", f"2024-07-01T10:00:00Z,1,{PROBE}")
    monkeypatch.setattr(backfiller, "PATIENCE_S", 0.3)
    settings = settings_for(dsn)
    unreachable = settings.model_copy(
        update={"timeseries_dsn": SecretStr(f"postgresql://127.0.0.1:{free_port()}/x")}
    )
    with pytest.raises(Unavailable, match=r"cannot be reached.*0 records are done, and stay: run it again"):
        await import_files(unreachable, ImportPlan([path]))
    (row,) = await fetch(dsn, "select status from metadata.bulk_operation_log")
    assert row["status"] == "FAILED"


async def test_rejected_records_of_two_files(dsn: str, tmp_path: Path) -> None:
    one = lines(tmp_path / "a.csv", "time,value,sensor,mark", f"x,1,{PROBE},m")
    two = lines(tmp_path / "b.csv", "value,when,sensor,time", f"1,w,{PROBE},x")
    rejected = tmp_path / "r.csv"
    await imported(dsn, one, two, rejected=rejected)
    told = [line.split(",")[:7] for line in rejected.read_text().splitlines()]
    assert told == [
        ["time", "value", "sensor", "mark", "when", "rejected_file", "rejected_line"],
        ["x", "1", str(PROBE), "m", "", str(one), "2"],
        ["x", "1", str(PROBE), "", "w", str(two), "2"],
    ]
    json_file = objects(tmp_path / "c.jsonl", {"time": 1, "value": 1})
    with pytest.raises(ConfigurationError, match="CSV and JSON Lines go into two files"):
        await imported(dsn, one, json_file, rejected=rejected, reject_names=True)
    with pytest.raises(ConfigurationError, match="is to be imported"):
        await imported(dsn, one, rejected=one)
    assert Counter(one.read_text().splitlines())["time,value,sensor,mark"] == 1
