"""Broker URLs and database DSNs: what is accepted, what they say, and how they are printed.

Pure functions on text. Their errors never hold the text they refuse: it may hold a password.
Nothing here connects anywhere.
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

DEFAULT_PORTS = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
"""Port of a broker URL that names none (IANA; RFC 6455 for the two WebSocket schemes)."""

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
"""What libpq and asyncpg take for `sslmode`, weakest first."""

_PASSWORD_PAIR = re.compile(r"(?i)\b((?:ssl)?password)=[^\s&;,]+")


class BrokerAddress(NamedTuple):
    """A `broker_url` taken apart, with the scheme's port filled in."""

    host: str
    port: int
    tls: bool
    websocket_path: str | None
    """None for plain TCP or TLS; "/mqtt" where a WebSocket URL names no path."""


def broker_address(url: str) -> BrokerAddress:
    """Take a broker URL without credentials apart. Raises ValueError saying what is wrong with it."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("is no valid URL: expected something like mqtt://host:1883") from None
    if parts.scheme not in DEFAULT_PORTS:
        raise ValueError(f"must begin with {', '.join(f'{scheme}://' for scheme in DEFAULT_PORTS)}")
    if not host:
        raise ValueError("names no host")
    websocket = parts.scheme in {"ws", "wss"}
    if "?" in url or "#" in url or (parts.path.strip("/") and not websocket):
        raise ValueError("may hold scheme, host and port only (ws and wss: a path, too)")
    if port == 0:
        raise ValueError("port 0 cannot be connected to")
    path = (parts.path if parts.path.strip("/") else "/mqtt") if websocket else None
    return BrokerAddress(host, port or DEFAULT_PORTS[parts.scheme], parts.scheme in {"mqtts", "wss"}, path)


def split_credentials(url: str) -> tuple[str, str | None, str | None]:
    """Return *url* without user and password, and the two, percent-decoded; None for what is missing."""
    scheme, mark, rest = url.partition("://")
    # The last @ ends the credentials: a password somebody forgot to encode must not stay in the URL.
    credentials, at, host = rest.rpartition("@")
    if not mark or not at:
        return url, None, None
    user, _, password = credentials.partition(":")
    return f"{scheme}://{host}", unquote(user) or None, unquote(password) or None


def is_loopback(host: str) -> bool:
    """Tell whether *host* is localhost or a loopback address, in brackets or not; no name is looked up."""
    bare = host.strip("[]").partition("%")[0].lower()
    if bare == "localhost":
        return True
    try:
        return ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return False


def check_dsn(dsn: str) -> None:
    """Accept a PostgreSQL URL, several hosts included. Raises ValueError saying what is wrong."""
    if not dsn.startswith(("postgresql://", "postgres://")):
        raise ValueError("must be a URL that begins with postgresql://")
    try:
        parts = urlsplit(dsn)
    except ValueError:
        raise ValueError("is no valid URL: expected something like postgresql://user@host/name") from None
    if "#" in dsn:
        raise ValueError("holds a bare '#'; in a password it is written %23")
    # What is ambiguous here the driver reads otherwise, and would take a piece of the password for a host.
    if dsn.count("@") > 1 or "@" in dsn.partition("://")[2][len(parts.netloc) :]:
        raise ValueError("holds a bare '@' besides the one before the host; in a password it is written %40")
    if " " in dsn or not dsn.isprintable():
        raise ValueError("holds a space or a control character; in a password a space is written %20")
    for _, port in _hosts_and_ports(dsn):
        if port and not (port.isascii() and port.isdigit()):
            raise ValueError("has a port that is no number; in a password, / is written %2F and @ %40")
    mode = dsn_options(dsn).get("sslmode", SSL_MODES[0])
    if mode not in SSL_MODES:
        raise ValueError(f"has an sslmode that is none of {', '.join(SSL_MODES)}")


def dsn_hosts(dsn: str) -> list[str]:
    """Return the hosts a *dsn* names, before its path or as `?host=`; none where it names none."""
    named = [host for host, _ in _hosts_and_ports(dsn) if host]
    queried = dsn_options(dsn).get("host", "")
    return named or [_split_port(place)[0] for place in queried.split(",") if place]


def dsn_places(dsn: str) -> str:
    """Return where a *dsn* has its servers, for an operator: each host, and its port where one is named."""
    places = [f"{host}:{port}" if port else host for host, port in _hosts_and_ports(dsn) if host]
    return ", ".join(places or dsn_hosts(dsn)) or "the default host"


def dsn_options(dsn: str) -> dict[str, str]:
    """Return what a *dsn* says behind its `?`, percent-decoded; of an option given twice the last."""
    return {name: texts[-1] for name, texts in parse_qs(dsn.partition("?")[2]).items()}


def dsn_password(dsn: str) -> str | None:
    """Return the password a *dsn* holds, before its `@` or as `?password=`; None without one."""
    _, _, password = split_credentials(dsn)
    queried = parse_qs(dsn.partition("?")[2])
    return password or next((texts[0] for name, texts in queried.items() if name.endswith("password")), None)


def _hosts_and_ports(dsn: str) -> list[tuple[str, str]]:
    return [_split_port(place) for place in urlsplit(dsn).netloc.rpartition("@")[2].split(",")]


def _split_port(place: str) -> tuple[str, str]:
    """Take host and port apart; an IPv6 address has its brackets."""
    bracket = place.rfind("]") + 1
    host, _, port = place[bracket:].partition(":")
    return place[:bracket] + host, port


def without_passwords(text: str) -> str:
    """Return *text* with each password in a URL or in a `password=…` pair replaced by ``***``.

    Works on any text, log lines and driver errors included; linear in its length.
    """
    if "://" in text and "@" in text:
        text = "".join(_masked_url(word) for word in re.split(r"(\s+)", text))
    return _PASSWORD_PAIR.sub(r"\1=***", text) if "assword=" in text else text


def _masked_url(word: str) -> str:
    scheme, mark, rest = word.partition("://")
    credentials, at, host = rest.rpartition("@")
    user, colon, _ = credentials.partition(":")
    return f"{scheme}{mark}{user}:***@{host}" if mark and at and colon else word
