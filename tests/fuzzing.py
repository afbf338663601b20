"""How long property tests search: a moment in the suite, long in `make fuzz` (HYPOTHESIS_PROFILE=long)."""

from __future__ import annotations

import os
from typing import Final, Literal

from hypothesis import HealthCheck, settings

PROFILES: Final[dict[str, int]] = {"suite": 1, "long": 20}
"""By how much each multiplies the examples of a test."""
_PROFILE: Final = os.environ.get("HYPOTHESIS_PROFILE", "suite")


def examples(in_the_suite: int) -> int:
    """Give the examples of a test that tries *in_the_suite* of them there."""
    return in_the_suite * PROFILES[_PROFILE]


def load_profile() -> None:
    """Have hypothesis follow the profile; a loaded machine is no reason to fail."""
    slow: tuple[Literal[HealthCheck.too_slow], ...] = (HealthCheck.too_slow,)
    for name in PROFILES:
        settings.register_profile(name, max_examples=examples(100), deadline=None, suppress_health_check=slow)
    settings.load_profile(_PROFILE)
