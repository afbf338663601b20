"""The option `--broker`: another broker than the configured one, for commands that publish to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ingest.addresses import broker_address, split_credentials
from ingest.errors import ConfigurationError

if TYPE_CHECKING:
    from ingest.addresses import BrokerAddress
    from ingest.settings import Settings


def chosen_broker(settings: Settings, url: str | None) -> BrokerAddress:
    """Give the broker at *url*, else the configured one; the login is the configured one either way.

    Raises ConfigurationError: no broker URL, or one with a login, which everybody could read in the list of
    processes.
    """
    if url is None:
        return settings.broker_address
    bare, username, password = split_credentials(url)
    if username or password:
        raise ConfigurationError(
            ["--broker: may hold no login; set INGEST_BROKER__USERNAME and INGEST_BROKER__PASSWORD_FILE"]
        )
    try:
        return broker_address(bare)
    except ValueError as error:
        raise ConfigurationError([f"--broker: {error}"]) from error
