"""One gateway: when it reads, publishes, is cut off, buffers, comes back and sends again; and its clock.

`messages` gives what a broker would hear of it, in the order of time, one at a time and for as long as the
plan lasts. All its chance comes from generators of its own, so that no other gateway changes it. Pure: no
clock but the simulated one.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

from ingest.load.recording import Recorded
from ingest.load.simulate.climate import QUANTITIES, SWITCHED_FROM, Greenhouse
from ingest.load.simulate.formats import STATUS_TOPIC, habits, writer
from ingest.load.simulate.installation import FORMATS, Format, installation
from ingest.load.simulate.probes import MODELS, FaultLevel, Probe
from ingest.load.simulate.randomness import chance

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from ingest.load.simulate.formats import Payload, Value
    from ingest.load.simulate.installation import Channel
    from ingest.load.simulate.weather import Weather

Qos: TypeAlias = Literal["0", "1", "mixed"]

LATITUDE_DEG: Final = 36.8
"""Almería's, with 32 000 hectares of greenhouses."""

_SECOND_US: Final = 1_000_000
_NEVER_US: Final = 2**63 - 1
_USUAL_INTERVALS_S: Final = (3.0, 5.0, 10.0)
"""What the installed gateways are set to."""
_JITTER: Final = 0.02
"""Of the interval: a loop that sleeps between readings."""
_CONNECTED_WITHIN_S: Final = 2.0
_NETWORK_US: Final = 4_000
_NETWORK_SPREAD_US: Final = 56_000
_BETWEEN_US: Final = 300
_BETWEEN_SPREAD_US: Final = 1_200
"""Between two messages sent in one go."""

_OUTAGE_EVERY_S: Final[dict[FaultLevel, float]] = {"none": inf, "few": 21_600.0, "many": 1_800.0}
_OUTAGE_LASTS_S: Final = 90.0
_MOST_BUFFERED: Final = 2_000
"""Messages a gateway keeps while it is cut off; then the oldest go."""
_MOST_UNANSWERED: Final = 4
"""Messages under way when a connection breaks: whether they came, the gateway does not know."""

_WRONG_CLOCKS: Final[dict[FaultLevel, float]] = {"none": 0.0, "few": 0.1, "many": 0.3}
"""Share of the gateways whose clock nobody sets."""
_SKEW_S: Final = 30.0
_MOST_SKEW_S: Final = 90.0
_CRYSTAL: Final = 20e-6
"""Usual tolerance of a 32 kHz crystal: 1.7 s a day."""
_HOPELESS_CLOCKS: Final[dict[FaultLevel, float]] = {"none": 0.0, "few": 0.0, "many": 0.1}
"""Share whose clock has no battery: in 1970 after each power cut, until the network tells the time; or a
time zone off, and in the future for good."""
_UNTIL_TOLD_S: Final = 120.0
_ZONE_US: Final = 3_600 * _SECOND_US


class Plan(NamedTuple):
    """What is simulated."""

    seed: int
    gateways: int
    start_us: int
    duration_us: int
    interval_s: float | None = None
    """Between two readings; None: each gateway its own, 3, 5 or 10 s."""
    latitude_deg: float = LATITUDE_DEG
    faults: FaultLevel = "few"
    formats: tuple[Format, ...] = FORMATS
    qos: Qos = "1"

    @property
    def end_us(self) -> int:
        """The first moment that is no longer part of it."""
        return self.start_us + self.duration_us


def client_id(seed: int, number: int) -> str:
    """Give the client id of a gateway."""
    return f"simulated-{seed}-{number:05d}"


def number_of(message: Recorded) -> int:
    """Give the gateway that publishes *message*."""
    return int((message.client_id or "0").rpartition("-")[2])


def interval_of(plan: Plan, number: int) -> float:
    """Give the seconds between two readings of gateway *number*."""
    if plan.interval_s is not None:
        return plan.interval_s
    return chance(plan.seed, "interval", number).choice(_USUAL_INTERVALS_S)


class _Clock:
    """The gateway's own, seen from the true time."""

    def __init__(self, random: Random, faults: FaultLevel, start_us: int) -> None:
        self._start_us = start_us
        self._offset_us = 0
        self._rate = 0.0
        self.unset = False
        """It begins in 1970 whenever power comes back."""
        draw = random.random()
        if draw < _HOPELESS_CLOCKS[faults]:
            self.unset = random.random() < 0.5  # noqa: PLR2004 (one in two)
            self._offset_us = 0 if self.unset else _ZONE_US
        elif draw < _HOPELESS_CLOCKS[faults] + _WRONG_CLOCKS[faults]:
            skew_s = max(-_MOST_SKEW_S, min(_MOST_SKEW_S, random.gauss(0, _SKEW_S)))
            self._offset_us = round(skew_s * _SECOND_US)
            self._rate = random.uniform(-_CRYSTAL, _CRYSTAL)

    def at(self, true_us: int, powered_us: int) -> int:
        """Give what it shows at *true_us*; power came back at *powered_us*."""
        running_us = true_us - powered_us
        if self.unset and running_us < _UNTIL_TOLD_S * _SECOND_US:
            return running_us
        return true_us + self._offset_us + round((true_us - self._start_us) * self._rate)


class Gateway:
    """Gateway *number* of a plan."""

    def __init__(self, plan: Plan, number: int, weather: Weather) -> None:
        """Set it up; *weather* is that of its site."""
        self._plan = plan
        self._interval_us = round(interval_of(plan, number) * _SECOND_US)
        self._random = random = chance(plan.seed, "gateway", number)
        part = installation(plan.seed, number, plan.formats)
        self._writer = writer(part, habits(random, self._interval_us / _SECOND_US))
        self._houses = [Greenhouse(weather, random, plan.start_us) for _ in part.houses]
        null = random.random() < 0.5  # noqa: PLR2004 (one in two)
        self._inputs = [
            (channel.house, *_input(channel, plan, random, null=null)) for channel in part.channels
        ]
        self._clock = _Clock(random, plan.faults, plan.start_us)
        self._greets = part.format in {"plc", "labels", "legacy"}
        self._client_id = client_id(plan.seed, number)
        self._qos = {"0": 0, "1": 1, "mixed": number % 2}[plan.qos]
        self._sent_us = 0

    def messages(self) -> Iterator[Recorded]:
        """Give every message, its `received_us` strictly increasing, from the plan's start until its end."""
        random, interval_us = self._random, self._interval_us
        jitter_us = 2 * _JITTER * interval_us
        powered_us = self._plan.start_us + round(random.uniform(0, _CONNECTED_WITHIN_S) * _SECOND_US)
        if self._greets and powered_us < self._plan.end_us:
            yield self._sent(powered_us, (STATUS_TOPIC, b"1"))
        first_us = powered_us + random.randrange(interval_us)
        unanswered: deque[Payload] = deque(maxlen=_MOST_UNANSWERED)
        cut_us, back_us = self._next_outage(first_us)
        buffered: deque[Payload] = deque(maxlen=_MOST_BUFFERED)
        number = 0
        while True:
            read_us = first_us + number * interval_us
            read_us += int((random.random() - 0.5) * jitter_us)
            read_us = max(read_us, powered_us)  # an interval of a day jitters by half an hour
            number += 1
            if read_us >= back_us:
                for message in self._returned(back_us, unanswered, buffered):
                    if message.received_us >= self._plan.end_us:
                        return
                    yield message
                powered_us = back_us
                cut_us, back_us = self._next_outage(read_us)
            if read_us >= self._plan.end_us:
                return
            payloads = self._writer.payloads(self._read(read_us), self._clock.at(read_us, powered_us))
            if read_us >= cut_us:
                # What has no time of its own says how it is now: nobody buffers that.
                buffered.extend(payloads if self._writer.timed else ())
                continue
            unanswered.clear()
            due_us = read_us + _NETWORK_US + int(random.random() * _NETWORK_SPREAD_US)
            for payload in payloads:
                message = self._sent(due_us, payload)
                if message.received_us >= self._plan.end_us:
                    return
                unanswered.append(payload)
                yield message

    def _read(self, time_us: int) -> list[Value]:
        truths = [house.at(time_us) for house in self._houses]
        time_s = time_us / _SECOND_US
        return [
            truths[house][quantity] if probe is None else probe.read(truths[house][quantity], time_s)
            for house, quantity, probe in self._inputs
        ]

    def _returned(
        self, back_us: int, unanswered: deque[Payload], buffered: deque[Payload]
    ) -> Iterator[Recorded]:
        """Come back: say so, send again what may not have come, then what was buffered."""
        if self._greets:
            yield self._sent(back_us, (STATUS_TOPIC, b"1"))
        if self._qos:
            for payload in unanswered:
                yield self._sent(back_us, payload)
        unanswered.clear()
        while buffered:
            yield self._sent(back_us, buffered.popleft())

    def _sent(self, due_us: int, payload: Payload) -> Recorded:
        earliest_us = self._sent_us + _BETWEEN_US + int(self._random.random() * _BETWEEN_SPREAD_US)
        self._sent_us = max(due_us, earliest_us)
        topic, content = payload
        # As `Recorded(…)` ends, without its argument parsing: see `model`.
        return tuple.__new__(
            Recorded, (self._sent_us, topic, content, self._qos, False, self._client_id, None)
        )

    def _next_outage(self, now_us: int) -> tuple[int, int]:
        """Give when the connection breaks next and when it is back."""
        every_s = _OUTAGE_EVERY_S[self._plan.faults]
        if every_s == inf:
            return _NEVER_US, _NEVER_US
        cut_us = now_us + round(self._random.expovariate(1 / every_s) * _SECOND_US)
        return cut_us, cut_us + round(self._random.expovariate(1 / _OUTAGE_LASTS_S) * _SECOND_US)


def _input(channel: Channel, plan: Plan, random: Random, *, null: bool) -> tuple[int, Probe | None]:
    """Give which quantity a channel is of, and its probe; what a controller tells has none."""
    quantity = QUANTITIES.index(channel.quantity)
    if quantity >= SWITCHED_FROM:
        return quantity, None
    model = MODELS[channel.quantity]
    start_s = plan.start_us / _SECOND_US
    return quantity, Probe(model, random, faults=plan.faults, start_s=start_s, null=null)
