"""Which connections leave this machine unprotected: in clear, or to whoever answers. Pure.

Judged from the settings alone, before anything connects; `ingest run` and `ingest check` say it once.
How a DSN is read is asyncpg's way (`connect_utils`), and libpq's: an option the DSN does not name comes
from a PG… variable. The default, sslmode=prefer, takes plain text from a server that offers no TLS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from ingest.addresses import dsn_hosts, dsn_options, is_loopback

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ingest.addresses import BrokerAddress
    from ingest.settings import Settings

_CURE: Final = "use sslmode=verify-full with sslrootcert=FILE"


def exposures(settings: Settings, environment: Mapping[str, str]) -> list[str]:
    """Give one line for each connection that is not protected, its option first; none of it is a secret."""
    of_broker = broker_exposure("broker_url", settings.broker_url, settings.broker_address)
    return [*filter(None, [of_broker]), *_of_databases(settings, environment)]


def broker_exposure(option: str, url: str, address: BrokerAddress) -> str | None:
    """Give a line if the connection to *address* is not protected; *option* is where its *url* was given."""
    if address.tls or _stays_here(address.host):
        return None
    scheme = url.partition(":")[0]
    secured = "wss" if scheme == "ws" else "mqtts"
    return f"{option}: messages and login go to {address.host} in clear; use {secured}:// for {scheme}://"


def _of_databases(settings: Settings, environment: Mapping[str, str]) -> Iterator[str]:
    for option in ("metadata_dsn", "timeseries_dsn"):
        secret = getattr(settings, option)
        if secret is None:
            continue
        dsn = secret.get_secret_value()
        hosts = dsn_hosts(dsn) or [host for host in environment.get("PGHOST", "").split(",") if host]
        far = [host for host in hosts if not _stays_here(host)]
        options = dsn_options(dsn)
        mode = options.get("sslmode") or environment.get("PGSSLMODE") or "prefer"
        verified = options.get("sslrootcert") or environment.get("PGSSLROOTCERT")
        if not far or mode in {"verify-ca", "verify-full"} or (mode == "require" and verified):
            continue
        place = ", ".join(far)
        if mode == "require":
            yield f"{option}: sslmode=require encrypts, and believes whoever answers for {place}; {_CURE}"
        else:
            yield f"{option}: with sslmode={mode} the connection to {place} may be in clear; {_CURE}"


def _stays_here(host: str) -> bool:
    """Tell whether *host* is a socket file or a loopback address; other names are not looked up."""
    bare = unquote(host).strip("[]")
    return bare.startswith(("/", "@")) or is_loopback(bare)
