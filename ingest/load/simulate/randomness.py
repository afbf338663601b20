"""Where chance comes from: one generator of its own for each thing that has some.

Seeded with text, whose digest (SHA-512) is the same in every process, whatever PYTHONHASHSEED is; so a
gateway's stream is the same however many others there are.
"""

from __future__ import annotations

from random import Random


def chance(*names: object) -> Random:
    """Give the generator of the thing that *names* name, the seed first."""
    return Random("/".join(str(name) for name in names))  # noqa: S311 (a simulation)
