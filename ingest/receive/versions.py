"""Which MQTT version is spoken where the settings leave it open: 5 where the broker speaks it. Pure.

Who refuses a version in CONNACK has said so, once and for all. Who hangs up on 5 may be an old broker, or
one that is being restarted, or what stands in front of it. So 3.1.1 is tried once, and where that is
answered the broker is asked for 5 once more, at once: only if it hangs up on that too it speaks 3.1.1. A
connection is kept only on a version that is decided. Any number of connections may share one choice.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from ingest.errors import BrokerRefused
from ingest.receive.losses import HungUp, ProtocolUnsupported, Undecided

if TYPE_CHECKING:
    from ingest.receive.session import MqttVersion

_State: TypeAlias = Literal["asking", "doubting", "asking again", "decided"]


class Attempt(NamedTuple):
    """One connection that is being made; what it shows is compared with what was known when it began."""

    version: MqttVersion
    step: int


class VersionChoice:
    """See the module's header."""

    def __init__(self, configured: Literal["auto", "5", "3.1.1"]) -> None:
        """Begin with 5 where *configured* leaves it open; else that version is decided for good."""
        self._free = configured == "auto"
        self._state: _State = "asking" if self._free else "decided"
        self._step = 0
        self.version: MqttVersion = "5" if configured == "auto" else configured
        """What to try next."""

    def attempt(self) -> Attempt:
        """Begin to connect, as `version` says."""
        return Attempt(self.version, self._step)

    def answered(self, attempt: Attempt) -> None:
        """Hear of a CONNACK that is no refusal. Raises Undecided where that connection is not to be kept."""
        if attempt.version == "5":
            self._go("decided", "5")
        elif self._state == "doubting":
            self._go("asking again", "5")
        if (self._state, self.version) != ("decided", attempt.version):
            raise Undecided("the broker answers MQTT 3.1.1 after it hung up on MQTT 5: asked for 5 once more")

    def failed(self, attempt: Attempt, error: Exception) -> None:
        """Hear why a connection could not be made, or why one that stood is gone."""
        if isinstance(error, ProtocolUnsupported) and not isinstance(error, HungUp):
            if self._free:
                self._go("decided", _other(attempt.version))
        elif self._state == "decided" or attempt.step != self._step:
            return  # others have found out more since it began
        elif isinstance(error, BrokerRefused):  # for a password, say: the version was understood
            with contextlib.suppress(Undecided):
                self.answered(attempt)
        elif self._state == "asking":
            if isinstance(error, HungUp):
                self._go("doubting", "3.1.1")
        elif self._state == "asking again" and isinstance(error, HungUp):
            self._go("decided", "3.1.1")
        else:  # the broker is away: what it was thought to speak was a guess
            self._go("asking", "5")

    def _go(self, state: _State, then: MqttVersion) -> None:
        if (state, then) != (self._state, self.version):
            self._state, self.version = state, then
            self._step += 1


def _other(version: MqttVersion) -> MqttVersion:
    return "3.1.1" if version == "5" else "5"
