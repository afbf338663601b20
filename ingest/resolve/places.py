"""Where a message belongs: the tenant and greenhouse of its topic, the greenhouse of a label. Pure.

Nothing here ever takes the first of several: what fits none or many is refused, by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ingest.errors import IngestError
from ingest.labels import greenhouse_number
from ingest.model import UNPLACED, Gateway
from ingest.resolve.missing import missing_name
from ingest.resolve.names import parse_uuid, quoted

if TYPE_CHECKING:
    from ingest.model import Reason, Scope
    from ingest.resolve.catalog import Catalog
    from ingest.resolve.rows import Greenhouse, Tenant


class Refused(IngestError):
    """A reading stays behind. Raised inside this package only: the resolver turns it into a rejection."""

    def __init__(self, reason: Reason, detail: str, missing: str | None = None) -> None:
        """Keep the dead letter's *reason* and *detail*, and the `missing_name` that would cure it."""
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.missing = missing


class Place(NamedTuple):
    """What a topic says, found in the catalog."""

    tenant: Tenant | None
    greenhouse: Greenhouse | None
    """None where the topic names none: each label then has to say."""
    refusal: Refused | None = None
    """Set when none of the topic's readings can be placed."""


def place_of(catalog: Catalog, scope: Scope) -> Place:
    """Find the tenant and greenhouse that *scope* names; both must be active.

    A greenhouse without a tenant is a UUID or a code unique over all tenants, written exactly so; with
    one, it is that tenant's. Does not raise: the refusal of a known tenant's topic still says whose it is.
    """
    tenant: Tenant | None = None
    greenhouse: Greenhouse | None = None
    try:
        tenant = _tenant_named(catalog, scope)
        if scope.greenhouse is not None:
            greenhouse = _greenhouse_named(catalog, tenant, scope.greenhouse)
            tenant = _tenant_of(catalog, greenhouse)
        if tenant is not None:
            _require_active_tenant(tenant)
        if greenhouse is not None:
            require_active(greenhouse)
    except Refused as refusal:
        return Place(tenant, greenhouse, refusal.with_traceback(None))
    return Place(tenant, greenhouse)


def gateway_of(scope: Scope, place: Place) -> Gateway:
    """Give the gateway of *scope* with the names the catalog has for its place; UNPLACED where it has none.

    In the catalog's spelling, so that one place is one gateway: codes are found in any case, UUIDs too.
    What is switched off is known, and keeps its name.
    """
    tenant, greenhouse = place.tenant, place.greenhouse
    if not scope.gateway or tenant is None or (scope.greenhouse is not None and greenhouse is None):
        return UNPLACED
    name = scope.gateway
    if scope.tenant is not None:
        name = name.replace("{tenant}", scope.tenant)
    if greenhouse is None:
        return Gateway(name, tenant.tenant_id)
    said = str(greenhouse.greenhouse_id) if parse_uuid(scope.greenhouse or "") else greenhouse.code
    return Gateway(name.replace("{greenhouse}", said), tenant.tenant_id, greenhouse.greenhouse_id)


def greenhouse_of_label(catalog: Catalog, place: Place, label: str) -> Greenhouse:
    """Give the greenhouse of an unregistered *label*: its number's, the topic's, or the only active one.

    A number that no greenhouse of the tenant has, or that contradicts the topic, is refused: it says
    that the reading belongs elsewhere, wherever that is.
    """
    tenant = place.tenant
    number = greenhouse_number(label)
    if number is None or tenant is None:
        return greenhouse_of_place(catalog, place)
    said = f"label {quoted(label)} names greenhouse {quoted(number)}"
    numbered = catalog.greenhouses_numbered(number, tenant.tenant_id)
    if len(numbered) != 1:
        count = len(numbered) or "no"
        missing = None if numbered else missing_name("greenhouse_number", number, tenant.tenant_id)
        raise Refused(
            "ambiguous_greenhouse", f"{said}, and {_named(tenant)} has {count} of that code", missing
        )
    if place.greenhouse is not None and numbered[0] != place.greenhouse:
        raise Refused("ambiguous_greenhouse", f"{said}, its topic {quoted(place.greenhouse.code)}")
    return require_active(numbered[0])


def greenhouse_of_place(catalog: Catalog, place: Place) -> Greenhouse:
    """Give the topic's greenhouse, else the tenant's only active one."""
    if place.greenhouse is not None:
        return place.greenhouse
    if place.tenant is None:
        raise Refused("ambiguous_greenhouse", "neither topic nor label names a greenhouse")
    active = [house for house in catalog.greenhouses_of(place.tenant.tenant_id) if house.is_active]
    if len(active) != 1:
        tenant = place.tenant
        detail = (
            f"neither topic nor label names one of the {len(active)} active greenhouses of {_named(tenant)}"
        )
        missing = missing_name("only_greenhouse", tenant.prefix or tenant.name, tenant.tenant_id)
        raise Refused("ambiguous_greenhouse", detail, missing)
    return active[0]


def require_active(greenhouse: Greenhouse) -> Greenhouse:
    """Give *greenhouse* back; refuse one that is switched off."""
    if not greenhouse.is_active:
        raise Refused("inactive", f"greenhouse {quoted(greenhouse.code)} is switched off in the catalog")
    return greenhouse


def _tenant_named(catalog: Catalog, scope: Scope) -> Tenant | None:
    if scope.tenant is None:
        if scope.greenhouse is None:
            raise Refused("unknown_tenant", "the topic names neither tenant nor greenhouse")
        return None
    tenant = catalog.tenant_prefixed(scope.tenant)
    if tenant is None:
        raise Refused(
            "unknown_tenant",
            f"no tenant has the topic prefix {quoted(scope.tenant)}",
            missing_name("tenant", scope.tenant),
        )
    return tenant


def _tenant_of(catalog: Catalog, greenhouse: Greenhouse) -> Tenant:
    """Give the owner; refuse a greenhouse that was given to another tenant, of which nobody has told yet."""
    tenant = catalog.tenants.get(greenhouse.tenant_id)
    if tenant is None:
        raise Refused(
            "unknown_tenant",
            f"greenhouse {quoted(greenhouse.code)} belongs to a tenant that is not in the catalog",
            missing_name("greenhouse", str(greenhouse.greenhouse_id)),
        )
    return tenant


def _require_active_tenant(tenant: Tenant) -> None:
    if not tenant.is_active:
        raise Refused("inactive", f"{_named(tenant)} is switched off in the catalog")


def _greenhouse_named(catalog: Catalog, tenant: Tenant | None, name: str) -> Greenhouse:
    """Find by UUID or code, among the greenhouses of *tenant*, or of all where the topic names none."""
    owner = "" if tenant is None else f" of {_named(tenant)}"
    owner_id = None if tenant is None else tenant.tenant_id
    greenhouse_id = parse_uuid(name)
    if greenhouse_id is not None:
        greenhouse = catalog.greenhouses.get(greenhouse_id)
        if greenhouse is None or (tenant is not None and greenhouse.tenant_id != tenant.tenant_id):
            detail = f"no greenhouse{owner} has the id {greenhouse_id}"
            missing = missing_name("greenhouse", str(greenhouse_id), owner_id)
            raise Refused("unknown_greenhouse", detail, missing)
        return greenhouse
    coded = catalog.greenhouses_coded(name, None if tenant is None else tenant.tenant_id)
    if tenant is None:
        # Only the name says whose message it is, and brokers compare names exactly: a login `a1` of one
        # tenant must not publish into the greenhouse `A1` of another.
        coded = tuple(greenhouse for greenhouse in coded if greenhouse.code == name)
    if not coded:
        missing = missing_name("greenhouse", name if tenant is None else name.strip().upper(), owner_id)
        raise Refused("unknown_greenhouse", f"no greenhouse{owner} has the code {quoted(name)}", missing)
    if len(coded) > 1:
        detail = (
            f"{len(coded)} greenhouses{owner} have the code {quoted(name)}; publish under the UUID of one"
        )
        raise Refused("ambiguous_greenhouse", detail)
    return coded[0]


def _named(tenant: Tenant) -> str:
    return f"tenant {quoted(tenant.prefix or tenant.name)}"
