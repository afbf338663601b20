"""The option `--broker`: another broker than the configured one, for commands that publish to it.

And what is said when somebody else is there under the same client ids.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ingest.addresses import broker_address, split_credentials
from ingest.commands.report import remark
from ingest.errors import ConfigurationError

if TYPE_CHECKING:
    from ingest.addresses import BrokerAddress
    from ingest.settings import Settings

_OUTAGES = 3
"""What a broker or a network has in one run, well counted; who loses more connections has a rival."""


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


def remark_rivals(reconnects: int, gateways: int) -> None:
    """Say so when *gateways* lost more connections than outages explain: few brokers tell a client why."""
    if reconnects > _OUTAGES * gateways:
        remark(
            f"{reconnects} connections were lost: is somebody else connected under the same client ids, as "
            "another replay of this recording or a simulation with this seed? The broker keeps the newer one"
        )
