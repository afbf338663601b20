"""A day that is stored and compressed before late rows come: what a gateway's buffer runs into."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.fleet import TENANT
from ingest.model import Row, Series
from ingest.write.copy import copy_straight, pack, parts

if TYPE_CHECKING:
    from bench.servers import Target
    from bench.workloads import Workload

_READINGS: Final = 2_000
"""Of each sensor, ten seconds apart, around noon: the late ones fall between them."""
_STEP_US: Final = 10_000_000
_OFF_US: Final = 5_000
"""Between the keys of the late rows, which are on whole hundredths of a second."""


async def fill_day(target: Target, workload: Workload, now_us: int) -> None:
    """Store readings around the times of *workload*'s, and compress them."""
    start_us = workload.first_us(now_us) - _READINGS // 2 * _STEP_US
    series = [
        Series(
            channel.greenhouse_id,
            TENANT.tenant_id,
            channel.sensor_id,
            channel.kind.type_id,
            channel.kind.unit_id,
            float("-inf"),
            float("inf"),
        )
        for channel in workload.fleet().channels
    ]
    rows = [
        Row(each, start_us + number * _STEP_US + _OFF_US, 20.0 + number % 7 / 10, None, "")
        for number in range(_READINGS)
        for each in series
    ]
    await copy_straight(target.connection, map(pack, parts(rows)))
    await target.compress()
