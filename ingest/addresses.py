"""Broker URLs and database DSNs: what is accepted, what they say, and how they are printed.

Pure functions on text. Their errors never hold the text they refuse: it may hold a password.
Nothing here connects anywhere.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

DEFAULT_PORTS = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
"""Port of a broker URL that names none (IANA; RFC 6455 for the two WebSocket schemes)."""

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
    for host in parts.netloc.rpartition("@")[2].split(","):
        port = host.rpartition("]")[2].partition(":")[2]
        if port and not (port.isascii() and port.isdigit()):
            raise ValueError("has a port that is no number; in a password, / is written %2F and @ %40")


def dsn_password(dsn: str) -> str | None:
    """Return the password a *dsn* holds, before its `@` or as `?password=`; None without one."""
    _, _, password = split_credentials(dsn)
    queried = parse_qs(dsn.partition("?")[2])
    return password or next((texts[0] for name, texts in queried.items() if name.endswith("password")), None)


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
