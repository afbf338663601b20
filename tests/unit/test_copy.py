"""Packed rows are PostgreSQL's binary COPY tuples: decoded field by field they give the row back."""

from __future__ import annotations

import math
import struct
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from ingest.model import Row, Series
from ingest.write.copy import COLUMNS, pack
from tests.batches import row, series_of

EPOCH_2000_US = 946_684_800_000_000
SERIES = (series_of(), series_of(sensor_type_id=-32_768, unit_id=32_767))


def fields_of(packed: bytes) -> list[bytes | None]:
    """Take a COPY tuple apart: int16 number of fields, then int32 length and bytes each; -1 is NULL."""
    (count,) = struct.unpack_from(">h", packed)
    at = 2
    fields: list[bytes | None] = []
    for _ in range(count):
        (length,) = struct.unpack_from(">i", packed, at)
        at += 4
        fields.append(None if length < 0 else packed[at : at + length])
        at += max(length, 0)
    assert at == len(packed)
    return fields


@given(
    series=st.sampled_from(SERIES),
    time_us=st.integers(-(2**62), 2**62),
    value=st.floats(allow_nan=False),
    metadata=st.none() | st.binary(max_size=100),
)
def test_a_row_packs_field_by_field(
    series: Series, time_us: int, value: float, metadata: bytes | None
) -> None:
    (packed,) = pack([Row(series, time_us, value, metadata, "")])
    fields = dict(zip(COLUMNS, fields_of(packed), strict=True))
    assert struct.unpack(">q", fields["time"] or b"") == (time_us - EPOCH_2000_US,)
    (stored,) = struct.unpack(">d", fields["value"] or b"")
    assert stored == value
    assert math.copysign(1, stored) == math.copysign(1, value)
    for name in ("greenhouse_id", "tenant_id", "sensor_id"):
        assert UUID(bytes=fields[name]) == getattr(series, name)
    for name in ("sensor_type_id", "unit_id"):
        assert struct.unpack(">h", fields[name] or b"") == (getattr(series, name),)
    assert fields["metadata"] == (None if metadata is None else b"\x01" + metadata)


def test_rows_keep_their_order_and_their_series() -> None:
    rows = [row(SERIES[at % 2], float(at), at) for at in range(10)]
    assert pack(rows) == [pack([each])[0] for each in rows]
