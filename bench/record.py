"""The figures that are kept: bench/results/latest.json, and what the docs show of it."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench.figures import merged
from bench.workloads import BY_NAME

if TYPE_CHECKING:
    from collections.abc import Mapping

LATEST: Final = Path(__file__).parent / "results" / "latest.json"


def machine() -> str:
    """Say what was measured on: whatever else runs there is not known here."""
    return f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}"


def read() -> dict[str, Any]:
    """Give what is kept; nothing at first."""
    if not LATEST.exists():
        return {}
    kept: dict[str, Any] = json.loads(LATEST.read_text())
    return kept


def keep(now: Mapping[str, Any]) -> None:
    """Put the parts and workloads of *now* in place of those kept."""
    LATEST.parent.mkdir(exist_ok=True)
    kept = merged(read(), dict(now))
    kept["workloads"] = {name: kept["workloads"][name] for name in BY_NAME if name in kept["workloads"]}
    LATEST.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n")
