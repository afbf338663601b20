"""The values the stages hand to each other; nothing here does I/O or holds state.

    Delivery  receive -> worker   one PUBLISH packet
    Decoded   decode  -> resolve  its readings by name, and the fields that are none
    Resolved  resolve -> write    its rows by id, and the fields that stay behind

The two ledgers of the contract are counted in these terms:
messages: received = committed + skipped + ignored + in flight;
readings: decoded = written + duplicate + rejected + null.

What is made once a message is a NamedTuple, and the hot path makes it with `tuple.__new__(Kind, (...))`: that
is what `Kind(...)` ends in, without its argument parsing (0.11 against 0.27 µs, CPython 3.11).
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Self, TypeAlias, get_args

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

Reason: TypeAlias = Literal[
    # the whole message
    "bad_payload",  # not JSON, not UTF-8, nested too deep
    "too_large",  # over the byte or the reading limit
    "unknown_topic",  # no route matches the topic
    "worker_fault",  # a bug of ours; the detail has its kind and place
    "poison",  # a worker ended whenever it took this message in
    # one field, seen by decode
    "bad_value",  # text, object, NaN, Infinity, or no value at all
    "bad_timestamp",  # not a time, or outside [now - max_age, now + max_future]
    # one field, seen by resolve
    "unknown_tenant",
    "unknown_greenhouse",
    "unknown_sensor_type",
    "unknown_unit",
    "ambiguous_greenhouse",  # a code several tenants use, or a label that fits none or many
    "foreign_sensor",  # registered in another greenhouse
    "type_mismatch",  # registered with another sensor type
    "unit_mismatch",  # a known unit of another dimension
    "inactive",  # tenant, greenhouse or sensor is switched off
    "out_of_range",  # outside the type's limits (a disconnected probe)
    "key_collision",  # two readings of one message with one key
    # one row, seen by write
    "conflicting_value",  # the key is stored with another value
    "database_refused",  # the server refuses the row; the detail has its SQLSTATE
]
"""Why a reading became a dead letter: metric label, `reasons` column and docs table at once."""

REASONS: tuple[Reason, ...] = get_args(Reason)
NAME_REASONS: Final[frozenset[Reason]] = frozenset(
    {"unknown_tenant", "unknown_greenhouse", "unknown_sensor_type", "unknown_unit", "ambiguous_greenhouse"}
)
"""Those that end once the catalog has a name that it lacked: so says `ingest status`, so fires
IngestUnknownNames (deploy/prometheus). unknown_topic is none of them: a route mends that, or the gateway."""

RETAIN: Final = 0x01
"""The flag of a PUBLISH that the broker kept (MQTT 3.3.1.3)."""

MOST_UNPROVEN: Final = 60_000
"""Deliveries that the journal remembers, and that a broker may have in flight. Fewer than the 65 535 packet
ids: a full list would hold the id of the message after its last, and sent again with the same payload, that
one would look like the head of the list, and 65 535 messages like the list."""

MOST_SESSIONS: Final = 16
"""Of a share group. Receipt times of each are one number modulo this, so that no two processes give one time:
at more than 1 000 000 / 16 messages a second in one process, they would run ahead of the clock."""

CUT_PAYLOAD_BYTES = 4096
"""How much of a payload over the limit is kept."""

ClockFaultKind: TypeAlias = Literal["future", "ancient", "unset"]
"""Later than the accepted times; earlier; or in 1970, where a clock begins that was never set."""

PayloadFormat: TypeAlias = Literal["reading", "readings", "labels"]
"""How a route's payload is read: one reading (or an array), a batch envelope, a flat label map."""


class CutPayload(bytes):
    """The first 4 KiB of a payload too large to keep, with the length and SHA-256 of all of it."""

    total_bytes: int
    sha256: bytes

    def __new__(cls, beginning: bytes, total_bytes: int, sha256: bytes) -> Self:
        """Keep the *beginning* only as far as a dead letter stores it."""
        payload = super().__new__(cls, beginning[:CUT_PAYLOAD_BYTES])
        payload.total_bytes = total_bytes
        payload.sha256 = sha256
        return payload

    @classmethod
    def of(cls, payload: bytes) -> Self:
        """Cut *payload*, unless it is cut already."""
        return payload if isinstance(payload, cls) else cls(payload, len(payload), sha256(payload).digest())


class DescribedPayload(bytes):
    """A payload with the MQTT 5 properties of its PUBLISH: their bytes, without their length (3.3.2.3)."""

    properties: bytes

    def __new__(cls, payload: bytes, properties: bytes) -> Self:
        """Keep *properties* beside the *payload*."""
        described = super().__new__(cls, payload)
        described.properties = properties
        return described


class ClockFault(str):
    """The detail of a `bad_timestamp` that is a time, but not one to be believed."""

    kind: ClockFaultKind
    time_us: int
    """What it means, in µs since 1970-01-01 UTC."""

    __slots__ = ("kind", "time_us")

    def __new__(cls, detail: str, kind: ClockFaultKind, time_us: int) -> Self:
        """Keep what the *detail* says in words as values, too: clocks are judged by it."""
        fault = super().__new__(cls, detail)
        fault.kind = kind
        fault.time_us = time_us
        return fault


class Delivery(NamedTuple):
    """One PUBLISH packet as the broker sent it."""

    topic: str
    payload: bytes
    flags: int
    """The low four bits of the fixed header: DUP 8, QoS 6, RETAIN 1 (MQTT 3.3.1)."""
    packet_id: int
    """0 for QoS 0, which has none."""


@dataclass(frozen=True, slots=True, eq=False)
class Scope:
    """What a topic says about its readings; compared by identity, one object a topic.

    ``tenant`` is a `tenants.mqtt_topic_prefix`; ``greenhouse`` a UUID or a greenhouse_code;
    ``sensor_type`` a type name as written in the topic. None where the topic does not say.
    """

    format: PayloadFormat
    tenant: str | None = None
    greenhouse: str | None = None
    sensor_type: str | None = None
    gateway: str = ""
    """The topic as far as it says the place, `{tenant}` and `{greenhouse}` still in braces."""


@dataclass(frozen=True, slots=True, eq=False)
class Gateway:
    """Who publishes, as far as MQTT tells: the place in the topic. Compared by identity, one object a name.

    The publisher's client id does not reach a subscriber, so two devices of one place are one gateway.
    """

    name: str
    """The topic up to the place, in the catalog's spelling: `greenhouse/A1`, `GREENHOUSE/SARA/01`."""
    tenant_id: UUID | None = None
    greenhouse_id: UUID | None = None
    """None where each label says which."""


UNPLACED = Gateway("(unplaced)")
"""Everything whose place no catalog knows, under one name: invented topics make no rows of their own."""


class Reading(NamedTuple):
    """One reading by name. ``time_us`` is µs since 1970-01-01 UTC, always set."""

    field: str
    """Where it stands in the payload: "" for the whole, "[3]" in an array, the label in a map."""
    sensor: str | None
    """UUID, device code, or (flat maps) the label; None when the payload names none."""
    sensor_type: str | None
    """As the payload or else the topic writes it; None in flat maps (label rules decide)."""
    unit: str | None
    value: float
    time_us: int
    metadata: dict[str, Any] | None


class Rejection(NamedTuple):
    """One reading that becomes a dead letter; ``detail`` tells the operator what was wrong."""

    field: str
    reason: Reason
    detail: str


DETAILED_REJECTIONS = 100
"""Of one message, so many rejections are kept with field and detail; the others count by reason."""


class Decoded(NamedTuple):
    """One message after decode. Ledger: readings + rejections + nulls = decoded."""

    scope: Scope | None
    """None when the message was rejected whole before a route was found."""
    readings: Sequence[Reading] = ()
    rejections: Sequence[Rejection] = ()
    nulls: int = 0
    """Fields whose value is JSON null: no row, counted."""


@dataclass(slots=True, eq=False)
class Series:
    """Where a reading belongs, by id; one object a (scope, sensor, type, unit), compared by identity."""

    greenhouse_id: UUID
    tenant_id: UUID
    sensor_id: UUID
    sensor_type_id: int
    unit_id: int
    minimum: float
    """Lowest believable value in the series' own unit; -inf without a limit."""
    maximum: float
    origin: dict[str, str] | None = None
    """The label or device code behind a derived sensor id, stored in `metadata`; None if registered."""
    packed: bytes = b""
    """Its ids as write packs them, kept here so that they live as long as the series; empty at first."""
    packed_metadata: bytes | None = None
    """The metadata of its last row, and"""
    packed_end: bytes = b""
    """its ids with that metadata: the next row most often has the same."""
    doubted_in: int = 0
    newest_us: int = 0
    """The newest time met since write doubts that rows are new, and in which such period (`write.doubts`)."""


class Row(NamedTuple):
    """One row of `iot.sensor_readings`, ready to be packed."""

    series: Series
    time_us: int
    value: float
    metadata: bytes | None
    """JSON text for the jsonb column."""
    field: str
    """Its place in the payload, for a dead letter if the database refuses it."""


class RejectedRow(Rejection):
    """A rejection of a reading whose series is known: whose it is, and what would have been stored."""

    row: Row

    @classmethod
    def of(cls, row: Row, reason: Reason, detail: str) -> Self:
        """Refuse *row*; a Rejection in all else."""
        rejection = cls(row.field, reason, detail)
        rejection.row = row
        return rejection


class Resolved(NamedTuple):
    """One message after resolve: rows + rejections = its decoded readings."""

    rows: Sequence[Row] = ()
    rejections: Sequence[Rejection] = ()
    tenant_id: UUID | None = None
    """Whose message it is, where that is known; kept with a dead letter."""
    missing: frozenset[str] = frozenset()
    """The names that rejections lacked (`resolve.missing`): worth one refresh before the message is given
    up, and another look whenever a newer catalog has them."""
    gateway: Gateway = UNPLACED
