"""What a newcomer wants to see after the demonstration, read from the database itself.

`take_account` compares what the publisher expects with the tables; `show` prints it. Reads only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rich.console import Group
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    import asyncpg
    from rich.console import Console

    from ingest.demo.fleet import Expected

_ROWS: Final = """
select
    count(*) as rows,
    count(*) filter (
        where sensor_type_id is not null and unit_id is not null and tenant_id is not null
    ) as normalized,
    count(*) - count(distinct (greenhouse_id, sensor_type_id, time, sensor_id)) as doubles
from iot.sensor_readings
"""
_COUNTERS: Final = "select counter, sum(value)::bigint as value from iot.ingest_counters group by counter"
_REASONS: Final = """
select entry ->> 'reason' as reason, count(*) as readings
from iot.ingest_dead_letters
cross join lateral jsonb_array_elements(rejected) as entry
group by reason
order by readings desc, reason
"""
_BY_TYPE: Final = """
select
    sensor_type.name as sensor_type,
    unit.symbol as unit,
    count(*) as rows,
    count(distinct reading.sensor_id) as sensors,
    round(min(reading.value)::numeric, 1) as lowest,
    round(avg(reading.value)::numeric, 1) as average,
    round(max(reading.value)::numeric, 1) as highest
from iot.sensor_readings as reading
join iot.sensor_types as sensor_type on sensor_type.id = reading.sensor_type_id
join iot.units as unit on unit.id = reading.unit_id
group by sensor_type.name, unit.symbol
order by rows desc
"""
_DAY: Final = """
select extract(hour from time at time zone 'UTC')::int as hour, avg(value) as average
from iot.sensor_readings
where sensor_type_id = 1 and time >= $1::timestamptz and time < $1::timestamptz + interval '1 day'
group by hour
order by hour
"""
_LAST_FULL_DAY: Final = "select date_trunc('day', now(), 'UTC') - interval '1 day'"
_BYTES: Final = "select total_bytes from hypertable_detailed_size('iot.sensor_readings')"
_COMPRESS: Final = """
select compress_chunk(chunk, if_not_compressed => true)
from show_chunks('iot.sensor_readings') as chunk
"""
_CHUNKS: Final = "select count(*) from show_chunks('iot.sensor_readings')"
_BLOCKS: Final = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class Storage:
    """Bytes of the hypertable, indexes included, before and after compression."""

    chunks: int
    before_bytes: int
    after_bytes: int

    @property
    def saved_pct(self) -> float:
        """How much smaller it became, in percent."""
        return round(100 * (1 - self.after_bytes / self.before_bytes), 1) if self.before_bytes else 0.0


@dataclass(frozen=True, slots=True)
class Account:
    """What is in the tables, next to what was published."""

    rows: int
    normalized: int
    doubles: int
    counters: dict[str, int]
    reasons: dict[str, int]
    differences: list[str]
    """What does not add up; empty when everything does."""

    @property
    def normalized_pct(self) -> float:
        """Share of rows whose type, unit and tenant are ids, in percent."""
        return round(100 * self.normalized / self.rows, 2) if self.rows else 0.0


async def compress(connection: asyncpg.Connection) -> Storage:
    """Compress every chunk, as the policy would in three days."""
    before = await connection.fetchval(_BYTES)
    await connection.execute(_COMPRESS)
    return Storage(await connection.fetchval(_CHUNKS), int(before), int(await connection.fetchval(_BYTES)))


async def take_account(connection: asyncpg.Connection, expected: Expected) -> Account:
    """Compare the tables with what the gateways published."""
    rows = await connection.fetchrow(_ROWS)
    assert rows is not None  # noqa: S101 - an aggregate without groups gives one row
    counters = {record["counter"]: int(record["value"]) for record in await connection.fetch(_COUNTERS)}
    reasons = {record["reason"]: int(record["readings"]) for record in await connection.fetch(_REASONS)}
    pairs: dict[str, tuple[int, int]] = {
        "messages received": (counters.get("received", 0), expected.messages),
        "messages ignored": (counters.get("ignored", 0), expected.ignored),
        "readings decoded": (counters.get("decoded", 0), expected.readings),
        "rows in the table": (rows["rows"], expected.written),
        "rows counted as written": (counters.get("written", 0), expected.written),
        "duplicates": (counters.get("duplicate", 0), expected.duplicates),
        "nulls": (counters.get("null", 0), expected.nulls),
        "rows stored twice": (rows["doubles"], 0),
        "messages accounted for": (
            sum(counters.get(name, 0) for name in ("committed", "skipped", "ignored")),
            counters.get("received", 0),
        ),
        "readings accounted for": (
            sum(counters.get(name, 0) for name in ("written", "duplicate", "rejected", "null")),
            counters.get("decoded", 0),
        ),
    }
    for reason in sorted({*reasons, *expected.reasons}):
        pairs[f"dead letters {reason}"] = (reasons.get(reason, 0), dict(expected.reasons).get(reason, 0))
    differences = [
        f"{name}: {found:,} where {wanted:,} were expected"
        for name, (found, wanted) in pairs.items()
        if found != wanted
    ]
    return Account(rows["rows"], rows["normalized"], rows["doubles"], counters, reasons, differences)


async def show(
    console: Console, connection: asyncpg.Connection, account: Account, storage: Storage, expected: Expected
) -> None:
    """Print rows by type, a day's temperature, storage, dead letters and the ledgers."""
    console.print(_table("Rows by sensor type", await connection.fetch(_BY_TYPE)))
    day = await connection.fetchval(_LAST_FULL_DAY)
    hours = {record["hour"]: record["average"] for record in await connection.fetch(_DAY, day)}
    console.print(
        Group(
            Text(f"Temperature on {day:%Y-%m-%d}, 00-23 h UTC", style="bold"),
            Text(
                f"  {sparkline([hours.get(hour) for hour in range(24)])}  "
                f"{min(hours.values(), default=0):.1f} to {max(hours.values(), default=0):.1f} °C\n"
            ),
        )
    )
    console.print(
        _table(
            "Dead letters by reason",
            [{"reason": reason, "readings": count} for reason, count in account.reasons.items()],
        )
    )
    per_row = max(account.rows, 1)
    counters = account.counters
    console.print(
        _table(
            "Storage, with indexes",
            [
                {
                    "chunks": storage.chunks,
                    "bytes a row before": round(storage.before_bytes / per_row, 1),
                    "compressed": round(storage.after_bytes / per_row, 1),
                    "saved %": storage.saved_pct,
                    "normalised %": account.normalized_pct,
                }
            ],
        )
    )
    console.print(
        Group(
            Text("The ledgers", style="bold"),
            Text(
                f"  messages  {expected.messages:,} published = "
                + " + ".join(
                    f"{counters.get(name, 0):,} {name}" for name in ("committed", "skipped", "ignored")
                )
            ),
            Text(
                f"  readings  {expected.readings:,} published = "
                + " + ".join(
                    f"{counters.get(name, 0):,} {name}"
                    for name in ("written", "duplicate", "rejected", "null")
                )
                + "\n"
            ),
        )
    )
    for difference in account.differences:
        console.print(Text(f"DOES NOT ADD UP  {difference}", style="bold red"))


def sparkline(values: list[float | None]) -> str:
    """Draw *values* as block characters, lowest to highest; a gap is a space."""
    known = [value for value in values if value is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    step = (high - low) / (len(_BLOCKS) - 1) or 1.0
    return "".join(" " if value is None else _BLOCKS[round((value - low) / step)] for value in values)


def _table(title: str, records: list[Any]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    names = list(records[0].keys()) if records else []
    for index, name in enumerate(names):
        table.add_column(name.replace("_", " "), justify="left" if index == 0 else "right")
    for record in records:
        table.add_row(
            *(f"{record[name]:,}" if isinstance(record[name], int) else str(record[name]) for name in names)
        )
    return table
