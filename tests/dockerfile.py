"""Reads the Dockerfile as the builder does, for the tests that look at its instructions or run them.

Knows what this Dockerfile uses: comments, continued lines, instructions in capitals. No parser for others.
"""

from __future__ import annotations

import re
from pathlib import Path

DOCKERFILE = Path(__file__).parents[1] / "Dockerfile"


def instructions() -> list[tuple[str, str]]:
    """Return (instruction, arguments) in order; comments gone, continued lines joined."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    found = []
    for line in joined.splitlines():
        if line:
            name, _, arguments = line.partition(" ")
            found.append((name, arguments))
    return found
