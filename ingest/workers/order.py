"""What a supervisor tells a worker process when it starts it, and the settings that follow from it.

Pure. The order travels in the arguments of `ingest run`, where `ps` shows it; the settings, and with them
every secret, the process reads for itself.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

    from ingest.settings import Settings

EXIT_UNENDED: Final = 75
"""Of a process that was to end its session, and was stopped before it had; sysexits.h: try again."""


@dataclass(frozen=True, slots=True)
class Order:
    """Whose session a worker process serves, and to what end."""

    client_id: str
    of: int
    """Worker processes that the supervisor wants, this one included."""
    ending: bool
    """Whether it empties and ends the session, rather than serve it."""

    def command(self, line: int, *, config: Path | None, debug: bool) -> list[str]:
        """Give the command that starts it; *line* is the number of an open file it inherits, see `line`."""
        before = ["--config", str(config)] if config is not None else []
        before += ["--debug"] if debug else []
        after = ["--member", self.client_id, "--of", str(self.of), "--line", str(line)]
        after += ["--end"] if self.ending else []
        return [sys.executable, "-m", "ingest", *before, "run", *after]


def settings_of(settings: Settings, order: Order) -> Settings:
    """Give the worker's own settings: its client id, its subscriptions, its part of the dead letters."""
    group = settings.share_group
    kept = settings.write.dead_letters_per_topic_per_hour
    return settings.model_copy(
        update={
            "broker": settings.broker.model_copy(
                update={
                    "client_id": order.client_id,
                    "filters": tuple(f"$share/{group}/{each}" for each in settings.broker.filters),
                }
            ),
            "workers": settings.workers.model_copy(update={"group": group}),
            "write": settings.write.model_copy(
                update={"dead_letters_per_topic_per_hour": -(-kept // order.of)}
            ),
            "observe": settings.observe.model_copy(update={"http_port": None}),
        }
    )


def member(client_id: str, number: int) -> str:
    """Give the client id of worker *number* of a host whose own is *client_id*."""
    return f"{client_id}-{number}"


def is_worker(client_id: str, of: str) -> bool:
    """Tell whether *client_id* is one of workers configured as *of*; whoever else takes it, ends them."""
    return client_id == of or is_member(client_id, of)


def is_member(client_id: str, of: str) -> bool:
    """Tell whether *client_id* is one that `member` gives for *of*, whatever its number."""
    return re.fullmatch(rf"{re.escape(of)}-\d+", client_id, re.ASCII) is not None
