"""The options by which list, replay and purge choose dead letters: as written, and what they come to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from ingest.commands.moments import moment
from ingest.errors import ConfigurationError
from ingest.model import REASONS
from ingest.operate.letter_filter import LetterFilter, tenant_id_of
from ingest.resolve.names import parse_uuid
from ingest.topics import valid_filter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingest.commands.invocation import Invocation
    from ingest.model import Reason
    from ingest.settings import Settings


@dataclass(frozen=True, slots=True)
class LetterOptions:
    """As the operator wrote them."""

    reasons: Sequence[str] = ()
    topic: str | None = None
    tenant: str | None = None
    since: str | None = None
    until: str | None = None
    older_than: str | None = None
    letters: Sequence[int] = ()

    def settings(self, invocation: Invocation, *require: Literal["metadata", "timeseries"]) -> Settings:
        """Read the settings with what the command *require*s, and what finding the tenant by name does."""
        by_name = self.tenant is not None and parse_uuid(self.tenant) is None
        return invocation.settings(*require, *(("metadata",) if by_name else ()))

    async def settled(self, settings: Settings) -> LetterFilter:
        """Give the conditions they come to.

        Raises ConfigurationError naming every fault, or DatabaseFault for the tenant's look-up.
        """
        now = datetime.now(UTC)
        faults: list[str] = []
        since, until, older = (
            self._moment(text, now, option, faults)
            for option, text in (
                ("--since", self.since),
                ("--until", self.until),
                ("--older-than", self.older_than),
            )
        )
        if self.topic is not None and not valid_filter(self.topic):
            faults.append(f"--topic: {self.topic!r} is no MQTT topic and no topic filter")
        reasons = tuple(known for known in REASONS if known in self.reasons)
        faults += _unknown(self.reasons, reasons)
        if faults:
            raise ConfigurationError(faults)
        return LetterFilter(
            reasons=reasons,
            topic=self.topic,
            since=since,
            until=min((each for each in (until, older) if each is not None), default=None),
            tenant_id=None if self.tenant is None else await tenant_id_of(settings, self.tenant),
            letters=tuple(self.letters),
        )

    @staticmethod
    def _moment(text: str | None, now: datetime, option: str, faults: list[str]) -> datetime | None:
        if text is None:
            return None
        try:
            return moment(text, now, option)
        except ConfigurationError as error:
            faults += error.faults
            return None


def _unknown(given: Sequence[str], known: Sequence[Reason]) -> list[str]:
    return [
        f"--reason: {reason!r} is none of {', '.join(REASONS)}" for reason in given if reason not in known
    ]
