"""TLS to the broker: always verified, and its refusals in words that say what to do.

There is no option that turns verification off: the certificate must be signed by an authority of
`broker.ca_file`, or else of the system, be valid now, and name the host of `broker_url`. Pure but for
the certificate files, which `context` reads.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from ingest.addresses import BrokerAddress
    from ingest.settings import BrokerSettings

# OpenSSL's X509_V_ERR_… of a certificate that is somebody's, but not this broker's today.
_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10
_OTHER_NAME: Final = frozenset({62, 64})  # host name, IP address
_CERTIFICATE_MISSING: Final = "TLSV13_ALERT_CERTIFICATE_REQUIRED"


def context(settings: BrokerSettings) -> ssl.SSLContext:
    """Give the context of each TLS connection; raise OSError (ssl.SSLError is one) for unusable files."""
    made = ssl.create_default_context(cafile=settings.ca_file)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.cert_file is not None:
        made.load_cert_chain(settings.cert_file, settings.key_file, password=_refuse_to_ask)
    return made


def explained(error: Exception, address: BrokerAddress, settings: BrokerSettings) -> str:
    """Say why no connection to *address* came about, and which option or certificate mends it."""
    place = f"{address.host}:{address.port}"
    if not isinstance(error, ssl.SSLCertVerificationError):
        hung_up = isinstance(error, (ssl.SSLEOFError, ConnectionResetError, BrokenPipeError))
        cure = certificate_hint(error, address, settings) if hung_up or "ALERT" in str(error) else ""
        return f"cannot connect to {place}: {error}{cure}"
    if error.verify_code in _OTHER_NAME:
        cure = "write the name it was issued for into broker_url"
    elif error.verify_code in {_EXPIRED, _NOT_YET_VALID}:
        cure = "renew it, or set this machine's clock"
    else:
        cure = "set broker.ca_file to the authority that signed it"
    return f"the certificate of {place} does not verify ({error.verify_message}); {cure}"


def certificate_hint(error: object, address: BrokerAddress, settings: BrokerSettings) -> str:
    """Say what a broker that hung up over TLS may have missed; empty without TLS.

    With TLS 1.3 a client learns only after its handshake that the broker refused its certificate, or
    wanted one; of a broker that closes at once it may not even hear which.
    """
    if not address.tls:
        return ""
    if settings.cert_file is not None:
        return f"; the broker may not accept {settings.cert_file}: expired, or signed by another authority?"
    wanted = "the broker wants a client certificate: set broker.cert_file and broker.key_file"
    return (
        f"; {wanted}"
        if _CERTIFICATE_MISSING in str(error)
        else f"; this port does not speak TLS, or {wanted}"
    )


def _refuse_to_ask() -> NoReturn:
    # OpenSSL would ask for the passphrase on the terminal, and wait there.
    raise OSError("broker.key_file is encrypted: decrypt it (openssl pkey), and let only the worker read it")
