"""What a PostgreSQL text can hold: no NUL character, no half of a surrogate pair. Pure.

Beside the stages, because decode names fields by it, and write makes every dead letter fit by it.
"""

from __future__ import annotations

import re
from typing import Final

_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")


def storable(text: str) -> str:
    """Give *text* as PostgreSQL can store it: NUL and lone surrogates become U+FFFD."""
    return _UNSTORABLE.sub("\ufffd", text)
