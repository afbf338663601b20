"""What a simulation's messages say, for its report: their readings, by the type that the catalog would give.

Decodes each message as the worker does, and finds the channel that it is of in the plan; so a report of a
simulation needs no database. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ingest.decode import IGNORED, Decoder, Routes
from ingest.load.measured import Days
from ingest.load.simulate.formats import SPELLINGS
from ingest.load.simulate.gateway import number_of
from ingest.load.simulate.installation import Channel, installation
from ingest.resolve.units import converted, quantity

if TYPE_CHECKING:
    from ingest.load.recording import Recorded
    from ingest.load.simulate.gateway import Plan
    from ingest.settings import Settings


class SimulatedReadings:
    """See the module's header."""

    def __init__(self, plan: Plan, settings: Settings) -> None:
        """Begin with nothing; *settings* have the routes."""
        self._plan = plan
        self._decoder = Decoder(Routes(settings.route, settings.decode.ignore), settings.decode)
        self._channels: dict[int, dict[str, Channel]] = {}
        """By gateway, then by the name that is sent, or where none is by the type."""
        self.days = Days(plan.start_us, plan.duration_us)

    def add(self, message: Recorded) -> None:
        """Take the readings of *message*; what the worker would reject, or is null, is none."""
        decoded = self._decoder.decode(message.topic, message.payload, message.received_us)
        if decoded is IGNORED:
            return
        channels = self._of(number_of(message))
        for reading in decoded.readings:
            channel = channels.get(reading.sensor or reading.sensor_type or "")
            if channel is not None:
                value, unit = reading.value, channel.unit
                if reading.unit and reading.unit != unit and quantity(reading.unit) == quantity(unit):
                    value = converted(value, reading.unit, unit)
                self.days.add(channel.sensor_type, unit, reading.time_us, value)

    def _of(self, number: int) -> dict[str, Channel]:
        known = self._channels.get(number)
        if known is None:
            known = self._channels[number] = {}
            for channel in installation(self._plan.seed, number, self._plan.formats).channels:
                names = (channel.name,) if channel.name else SPELLINGS[channel.quantity]
                known |= dict.fromkeys(names, channel)
        return known
