"""What the catalog costs a worker: bytes and CPU a registered sensor.

python -m bench.catalog             220 000 sensors: 22 in each of 10 000 greenhouses
python -m bench.catalog 1100000
"""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from uuid import uuid4

from ingest.resolve.catalog import Catalog, Greenhouse, Sensor, SensorType, Tenant, Unit

_SENSORS_A_GREENHOUSE = 22


def _resident_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def main(count: int) -> None:
    """Index *count* sensors once, and print what that took."""
    tenant = Tenant(uuid4(), "Sara", "SARA", is_active=True)
    greenhouses = [
        Greenhouse(uuid4(), tenant.tenant_id, f"G{number}", is_active=True)
        for number in range(count // _SENSORS_A_GREENHOUSE)
    ]
    sensors = [
        Sensor(
            uuid4(),
            greenhouse.greenhouse_id,
            f"{greenhouse.code}-{number}",
            None,
            f"TEMPERATURA INVERNADERO {number:02d}",
            "TEMPERATURE",
            "°C",
            is_active=True,
        )
        for greenhouse in greenhouses
        for number in range(_SENSORS_A_GREENHOUSE)
    ]
    before, started_s = _resident_bytes(), time.process_time()
    catalog = Catalog.build(
        units=[Unit(1, "°C")],
        sensor_types=[SensorType(1, "TEMPERATURE", 1, -math.inf, math.inf)],
        tenants=[tenant],
        greenhouses=greenhouses,
        sensors=sensors,
    )
    cpu_s, held = time.process_time() - started_s, _resident_bytes() - before
    print(
        f"{catalog.counts()['sensors']:,} sensors: {cpu_s:.1f} s of CPU, {held / 1e6:,.0f} MB beside the rows"
    )
    print(f"each {cpu_s / count * 1e6:.0f} µs, {held / count:,.0f} bytes")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 220_000)
