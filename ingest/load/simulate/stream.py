"""All gateways of a plan: their messages in the order of time, and the catalog that knows them. Pure.

Lazy: each gateway is a generator that holds one message, so ten thousand take the memory of ten thousand
gateways, however long the plan.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any

from ingest.load.simulate.gateway import Gateway, interval_of
from ingest.load.simulate.installation import catalog, installation
from ingest.load.simulate.weather import Weather

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingest.load.recording import Recorded
    from ingest.load.simulate.gateway import Plan


def messages(plan: Plan) -> Iterator[Recorded]:
    """Give what all gateways publish, oldest first."""
    return heapq.merge(*(gateway.messages() for gateway in gateways(plan)))


def gateways(plan: Plan) -> Iterator[Gateway]:
    """Set up every gateway; those of a site share its weather."""
    weathers: dict[str, Weather] = {}
    for number in range(plan.gateways):
        site = installation(plan.seed, number, plan.formats).site
        if site not in weathers:
            weathers[site] = Weather(plan.seed, site, plan.latitude_deg)
        yield Gateway(plan, number, weathers[site])


def catalog_of(plan: Plan) -> dict[str, Any]:
    """Give what `ingest catalog import` takes: the tenants, greenhouses and sensors of *plan*, no other."""
    return catalog(
        (installation(plan.seed, number, plan.formats) for number in range(plan.gateways)),
        {number: interval_of(plan, number) for number in range(plan.gateways)},
    )
