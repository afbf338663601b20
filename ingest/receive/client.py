"""paho's client, made for one connection of a session: protocol, credentials, TLS, and our transport.

paho has two private parts that this package uses: the hook by which the socket it gets is a `Transport`,
and its clocks of keep-alive, since it reads no PUBLISH. Connecting blocks (DNS, TCP, TLS and WebSocket
handshakes), so it runs in a thread; everything else is driven from the event loop by `session`.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from ingest.receive import tls
from ingest.receive.transport import connect

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from ingest.addresses import BrokerAddress
    from ingest.receive.transport import Stream, Transport
    from ingest.settings import BrokerSettings


class SessionClient(paho.Client):
    """See the module's header."""

    def __init__(
        self,
        address: BrokerAddress,
        settings: BrokerSettings,
        *,
        mqtt5: bool,
        keep: bool,
        tls_context: ssl.SSLContext | None = None,
        make_transport: Callable[[Stream], Transport],
    ) -> None:
        """Prepare; raises OSError (ssl.SSLError is one) when the TLS files cannot be used.

        Many clients of one broker share a *tls_context*: 10 000 need not read the authorities each.
        """
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=settings.client_id,
            clean_session=None if mqtt5 else not keep,
            protocol=MQTTProtocolVersion.MQTTv5 if mqtt5 else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=False,  # paho sees no PUBLISH to acknowledge; with True it would ignore PUBREL
        )
        if settings.username is not None:
            password = settings.password.get_secret_value() if settings.password else None
            self.username_pw_set(settings.username, password)
        self._address = address
        self._session_settings = settings
        self._mqtt5 = mqtt5
        self._keep = keep
        self._tls = (tls_context or tls.context(settings)) if address.tls else None
        self._make_transport = make_transport
        self.transport_made: Transport | None = None
        """What paho has for a socket, once there is one."""

    def connect_session(self) -> None:
        """Block until the connection stands; the CONNECT packet is queued then. Raises OSError."""
        settings, address = self._session_settings, self._address
        if self._mqtt5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = settings.session_expiry_s if self._keep else 0
            properties.ReceiveMaximum = settings.receive_maximum
            self.connect(
                address.host,
                address.port,
                settings.keepalive_s,
                clean_start=not self._keep,
                properties=properties,
            )
        else:
            self.connect(address.host, address.port, settings.keepalive_s)

    def heard(self, at_s: float) -> None:
        """Count bytes that came *at_s* as paho counts those it reads: the broker is there.

        A PINGREQ before them need not be answered in time, as its PINGRESP may stand behind many PUBLISH
        packets; from then on the next one counts.
        """
        self._last_bytes_received = max(self._last_bytes_received, at_s)
        if at_s > self._ping_t:
            self._ping_t = 0.0

    def _create_socket(self) -> Any:  # noqa: ANN401 - paho's private SocketLike
        stream = connect(self._address, self._tls, self._session_settings.connect_timeout_s)
        self.transport_made = self._make_transport(stream)
        return self.transport_made


def in_thread(work: Callable[[], None]) -> asyncio.Future[None]:
    """Run *work* in a daemon thread, which a stopping process need not wait for."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def settle(error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def run() -> None:
        error: BaseException | None = None
        try:
            work()
        except BaseException as caught:  # noqa: BLE001 - handed to whoever awaits
            error = caught
        with contextlib.suppress(RuntimeError):  # the loop may be closed by now
            loop.call_soon_threadsafe(settle, error)

    threading.Thread(target=run, name="mqtt-connect", daemon=True).start()
    return done
