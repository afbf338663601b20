"""TLS to the broker, as mqtts and wss: each certificate that must not be believed is refused, and said why.

One Mosquitto with a listener for each kind of certificate; two of them want a client certificate.
"""

from __future__ import annotations

import re
import ssl
import time
from itertools import product
from typing import TYPE_CHECKING, Literal, NamedTuple

import pytest

from ingest.receive import ConnectionLost, MqttVersion, tls
from ingest.settings import BrokerSettings
from tests.mqtt_client import VERSIONS, Client
from tests.servers import Mosquitto, free_port, port_answers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.certificates import Authority

Secure = Literal["mqtts", "wss"]
Kind = Literal["good", "other name", "expired", "wants one"]
SECURE: tuple[Secure, ...] = ("mqtts", "wss")
every_way = pytest.mark.parametrize(("transport", "version"), list(product(SECURE, VERSIONS)))


class Brokers(NamedTuple):
    """One broker's listeners, by transport and certificate."""

    ports: dict[tuple[Secure, Kind], int]

    def url(self, transport: Secure, kind: Kind, host: str = "127.0.0.1") -> str:
        return f"{transport}://{host}:{self.ports[transport, kind]}"


@pytest.fixture(scope="module")
def brokers(authority: Authority) -> Iterator[Brokers]:
    certificates: dict[Kind, tuple[Path, Path]] = {
        "good": authority.issue("good"),
        "other name": authority.issue("other", at="DNS:broker.example"),
        "expired": authority.issue("expired", days=-1),
        "wants one": authority.issue("strict"),
    }
    ports = {(transport, kind): free_port() for transport in SECURE for kind in certificates}
    lines: list[str] = []
    for (transport, kind), port in ports.items():
        certificate, key = certificates[kind]
        lines += [f"listener {port} 127.0.0.1", f"certfile {certificate}", f"keyfile {key}"]
        lines += ["protocol websockets"] if transport == "wss" else []
        lines += (
            [f"cafile {authority.certificate}", "require_certificate true"] if kind == "wants one" else []
        )
    with Mosquitto(settings={"listener": "\n".join(lines).removeprefix("listener ")}):
        deadline_s = time.monotonic() + 20
        while not all(map(port_answers, ports.values())):  # it opens one listener after another
            assert time.monotonic() < deadline_s, "not every listener is there"
            time.sleep(0.05)
        yield Brokers(ports)


async def refused(client: Client, text: str) -> None:
    with pytest.raises(ConnectionLost) as caught:
        await client.connect("a/#")
    assert re.search(text, str(caught.value)), str(caught.value)


@every_way
async def test_a_certificate_of_another_name(
    transport: Secure,
    version: MqttVersion,
    brokers: Brokers,
    authority: Authority,
    client_of: Callable[..., Client],
) -> None:
    client = client_of(brokers.url(transport, "other name"), version, ca_file=authority.certificate)
    await refused(client, r"does not verify \(IP address mismatch.*\); write the name .* broker_url$")
    client = client_of(brokers.url(transport, "good", "localhost"), version, ca_file=authority.certificate)
    await refused(client, r"does not verify \(Hostname mismatch.*\); write the name .* broker_url$")


@every_way
async def test_an_expired_certificate(
    transport: Secure,
    version: MqttVersion,
    brokers: Brokers,
    authority: Authority,
    client_of: Callable[..., Client],
) -> None:
    client = client_of(brokers.url(transport, "expired"), version, ca_file=authority.certificate)
    await refused(client, r"does not verify \(certificate has expired\); renew it, or set")


@every_way
@pytest.mark.parametrize("trusted", ["another authority", "the system's authorities"])
async def test_an_unknown_authority(
    trusted: str,
    transport: Secure,
    version: MqttVersion,
    *,
    brokers: Brokers,
    stranger: Authority,
    client_of: Callable[..., Client],
) -> None:
    ca_file = stranger.certificate if trusted == "another authority" else None
    client = client_of(brokers.url(transport, "good"), version, ca_file=ca_file)
    await refused(client, r"does not verify \(.*issuer.*\); set broker.ca_file to the authority")


@every_way
async def test_a_missing_client_certificate(
    transport: Secure,
    version: MqttVersion,
    brokers: Brokers,
    authority: Authority,
    client_of: Callable[..., Client],
) -> None:
    client = client_of(brokers.url(transport, "wants one"), version, ca_file=authority.certificate)
    await refused(client, "the broker wants a client certificate: set broker.cert_file and broker.key_file$")


@every_way
@pytest.mark.parametrize("fault", ["expired", "stranger's"])
async def test_a_client_certificate_the_broker_does_not_believe(
    fault: str,
    transport: Secure,
    version: MqttVersion,
    *,
    brokers: Brokers,
    authority: Authority,
    stranger: Authority,
    client_of: Callable[..., Client],
) -> None:
    certificate, key = (
        authority.issue("worker-expired", days=-1) if fault == "expired" else stranger.issue("worker")
    )
    client = client_of(
        brokers.url(transport, "wants one"),
        version,
        ca_file=authority.certificate,
        cert_file=certificate,
        key_file=key,
    )
    await refused(client, f"may not accept {certificate}: expired, or signed by another authority")


@every_way
async def test_both_sides_know_each_other(
    transport: Secure,
    version: MqttVersion,
    brokers: Brokers,
    authority: Authority,
    client_of: Callable[..., Client],
) -> None:
    certificate, key = authority.issue("worker")
    client = client_of(
        brokers.url(transport, "wants one"),
        version,
        ca_file=authority.certificate,
        cert_file=certificate,
        key_file=key,
    )
    await client.connect("a/#")


async def test_a_port_without_tls_is_named(authority: Authority, client_of: Callable[..., Client]) -> None:
    with Mosquitto() as plain:
        client = client_of(f"mqtts://127.0.0.1:{plain.port}", ca_file=authority.certificate)
        await refused(client, f"cannot connect to 127.0.0.1:{plain.port}: ")
    await refused(
        client_of(f"mqtts://127.0.0.1:{plain.port}", ca_file=authority.certificate), "Connection refused$"
    )


def test_no_option_turns_verification_off(authority: Authority) -> None:
    """Whatever is set, the certificate is verified and its name compared, with TLS 1.2 at least."""
    certificate, key = authority.issue("worker")
    about_tls = {name for name in BrokerSettings.model_fields if name.endswith("_file")}
    assert about_tls == {"ca_file", "cert_file", "key_file"}
    for ca_file, own in product((None, authority.certificate), (None, certificate)):
        settings = BrokerSettings(ca_file=ca_file, cert_file=own, key_file=own and key)
        context = tls.context(settings)
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


async def test_an_encrypted_key_is_an_error_and_no_question(
    authority: Authority, tmp_path: Path, client_of: Callable[..., Client]
) -> None:
    certificate, key = authority.issue("worker")
    encrypted = tmp_path / "encrypted.key"
    authority.encrypt(key, encrypted, "passphrase")
    with pytest.raises(ConnectionLost, match=r"broker\.key_file is encrypted"):
        client_of("mqtts://127.0.0.1:1", cert_file=certificate, key_file=encrypted)
