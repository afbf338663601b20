"""Broker URLs are taken apart, and passwords masked wherever they stand."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ingest.addresses import broker_address, dsn_password, dsn_places, split_credentials, without_passwords
from tests.fuzzing import examples

SECRET = "s3cr3t-Zx"  # noqa: S105 (a value to look for in texts)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("mqtt://h", ("h", 1883, False, None)),
        ("mqtts://h:1", ("h", 1, True, None)),
        ("ws://h", ("h", 80, False, "/mqtt")),
        ("wss://[::1]:8443/x/y", ("::1", 8443, True, "/x/y")),
    ],
)
def test_broker_addresses(url: str, address: tuple[object, ...]) -> None:
    assert broker_address(url) == address


@pytest.mark.parametrize(
    "url", ["mqtt://", "mqtt://h:0", "mqtt://h:x", "mqtt://h/p", "ws://h/p?q", "h:1883", ""]
)
def test_bad_broker_urls(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        broker_address(url)


@given(text=st.text(max_size=60))
@hypothesis_settings(max_examples=examples(100), deadline=None)
def test_passwords_are_masked_whatever_they_hold(text: str) -> None:
    password = re.sub(r"\s", "", f"{SECRET}{text}{SECRET}")
    for shown in (
        without_passwords(f"cannot connect to postgresql://u:{password}@h/x now"),
        split_credentials(f"mqtt://u:{password}@h")[0],
    ):
        assert SECRET not in shown
    assert dsn_password(f"postgresql://u:{password}@h/x")


@pytest.mark.parametrize(
    ("dsn", "places"),
    [
        ("postgresql://u:p@db.example:5433/x", "db.example:5433"),
        ("postgresql://u@one,two:5434/x?sslmode=require", "one, two:5434"),
        ("postgresql:///x?host=/run/postgresql", "/run/postgresql"),
        ("postgresql://[::1]/x", "[::1]"),
        ("postgresql:///x", "the default host"),
    ],
)
def test_where_the_servers_of_a_dsn_are(dsn: str, places: str) -> None:
    assert dsn_places(dsn) == places
