"""What the broker answered to CONNECT and to SUBSCRIBE, read out of what paho makes of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ingest.errors import BrokerRefused
from ingest.receive.losses import ProtocolUnsupported

if TYPE_CHECKING:
    from collections.abc import Sequence

    import paho.mqtt.client as paho
    from paho.mqtt.reasoncodes import ReasonCode

GRANTED_QOS: Final = 1
"""Of each subscription; less loses messages, and more takes twice the packets."""
_FAILURE: Final = 0x80
_UNSUPPORTED_PROTOCOL: Final = frozenset({0x01, 0x84})  # MQTT 3.1.1 3.2.2.3, MQTT 5 3.2.2.2
_LOGIN_REFUSED: Final = frozenset({0x86, 0x87})
"""MQTT 5 3.2.2.2; paho gives these for the codes 4 and 5 of MQTT 3.1.1, too."""
_LOGIN_ADVICE: Final = "; see broker.username and INGEST_BROKER__PASSWORD_FILE, and who may connect to it"
_MOST_IN_FLIGHT: Final = 65_535
"""What the broker takes where it names no Receive Maximum (MQTT 5 3.2.2.3.3): every packet id."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What the broker answered to CONNECT."""

    session_present: bool
    session_expiry_s: int | None
    """The broker's own choice where it overrides ours (MQTT 5 3.2.2.3.2), else None."""
    shares: bool
    """Whether it has shared subscriptions (MQTT 5 3.2.2.3.13); 3.1.1 cannot say."""
    receive_maximum: int = _MOST_IN_FLIGHT
    """How many QoS 1 messages of ours it takes before it has acknowledged the first (MQTT 5 3.2.2.3.3)."""
    packet_bytes: int | None = None
    """The longest packet it takes (MQTT 5 3.2.2.3.6); None without a limit."""


def opened(client_id: str, flags: paho.ConnectFlags, reason: ReasonCode, properties: object) -> Opened:
    """Read a CONNACK. Raises ProtocolUnsupported, BrokerRefused where it is a no."""
    if reason.is_failure:
        kind = ProtocolUnsupported if reason.value in _UNSUPPORTED_PROTOCOL else BrokerRefused
        advice = _LOGIN_ADVICE if reason.value in _LOGIN_REFUSED else ""
        raise kind(f"the broker refused client {client_id!r}: {reason}{advice}")
    return Opened(
        bool(flags.session_present),
        getattr(properties, "SessionExpiryInterval", None),
        bool(getattr(properties, "SharedSubscriptionAvailable", True)),
        getattr(properties, "ReceiveMaximum", _MOST_IN_FLIGHT),
        getattr(properties, "MaximumPacketSize", None),
    )


def not_granted(filters: Sequence[str], granted: Sequence[int], *, any_qos: bool) -> list[str]:
    """Name each of *filters* that was not *granted* at QoS 1 (or *any_qos*), with what SUBACK says of it."""
    return [
        f"{name!r} ({'refused' if code >= _FAILURE else f'granted QoS {code}'}, code {code:#04x})"
        for name, code in zip(filters, granted, strict=True)
        if code >= _FAILURE or (code != GRANTED_QOS and not any_qos)
    ]
