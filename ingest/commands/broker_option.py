"""The option `--broker`: another broker than the configured one, for commands that publish to it.

And what is said when somebody else is there under the same client ids.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ingest.addresses import broker_address, split_credentials
from ingest.commands.report import remark
from ingest.errors import ConfigurationError
from ingest.exposures import broker_exposure
from ingest.workers.order import is_worker

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ingest.addresses import BrokerAddress
    from ingest.settings import Settings

_OUTAGES = 3
"""What a broker or a network has in one run, well counted; who loses more connections has a rival."""


def chosen_broker(settings: Settings, url: str | None) -> BrokerAddress:
    """Give the broker at *url*, else the configured one; the login is the configured one either way.

    Remarks where messages and login would go there in clear. Raises ConfigurationError: no broker URL, or one
    with a login, which everybody could read in the list of processes.
    """
    if url is None:
        return _remarked("broker_url", settings.broker_url, settings.broker_address)
    bare, username, password = split_credentials(url)
    if username or password:
        raise ConfigurationError(
            ["--broker: may hold no login; set INGEST_BROKER__USERNAME and INGEST_BROKER__PASSWORD_FILE"]
        )
    try:
        return _remarked("--broker", bare, broker_address(bare))
    except ValueError as error:
        raise ConfigurationError([f"--broker: {error}"]) from error


def refuse_workers(client_ids: Iterable[str], settings: Settings) -> None:
    """Raise ConfigurationError where one of *client_ids*, that are to publish, is a worker's own.

    The broker would end the worker's connection, and throw its session away with all that waits in it. Asked
    of any broker: that it is another one, under whatever name, nobody can tell.
    """
    own = settings.broker.client_id
    if (taken := next((each for each in client_ids if is_worker(each, own)), None)) is not None:
        fault = (
            f"{taken!r} is to publish, and is a worker's client id: the broker would throw its session away; "
            f"if no worker there is called {own!r}, set INGEST_BROKER__CLIENT_ID to another for this command"
        )
        raise ConfigurationError([fault])


def _remarked(option: str, url: str, address: BrokerAddress) -> BrokerAddress:
    if (exposure := broker_exposure(option, url, address)) is not None:
        remark(exposure)
    return address


def remark_rivals(reconnects: int, gateways: int) -> None:
    """Say so when *gateways* lost more connections than outages explain: few brokers tell a client why."""
    if reconnects > _OUTAGES * gateways:
        remark(
            f"{reconnects} connections were lost: is somebody else connected under the same client ids, as "
            "another replay of this recording or a simulation with this seed? The broker keeps the newer one"
        )
