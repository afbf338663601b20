"""What people call the ids of tenants, greenhouses and sensors, for reports; read, never cached."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from uuid import UUID

from ingest.errors import ConfigurationError, DatabaseFault
from ingest.operate.reading import reading_from

if TYPE_CHECKING:
    from collections.abc import Mapping

_TENANTS: Final = "select id, coalesce(mqtt_topic_prefix, name) as name from metadata.tenants"
_GREENHOUSES: Final = "select id, tenant_id, greenhouse_code from metadata.greenhouses"
_SENSORS: Final = "select id, sensor_code from metadata.sensors"


@dataclass(frozen=True, slots=True)
class Names:
    """As far as the metadata database was there to tell; an id without a name is shown as it is."""

    tenants: Mapping[UUID, str] = field(default_factory=dict)
    """Their `mqtt_topic_prefix`, else their name."""
    greenhouses: Mapping[UUID, str] = field(default_factory=dict)
    sensors: Mapping[UUID, str] = field(default_factory=dict)
    tenant_of: Mapping[UUID, UUID] = field(default_factory=dict)
    """By greenhouse."""
    remark: str | None = None
    """Why there are none."""

    def tenant(self, tenant_id: UUID | None) -> str | None:
        """Name a tenant."""
        return None if tenant_id is None else self.tenants.get(tenant_id, str(tenant_id))

    def greenhouse(self, greenhouse_id: UUID) -> str:
        """Name a greenhouse."""
        return self.greenhouses.get(greenhouse_id, str(greenhouse_id))

    def sensor(self, sensor_id: UUID) -> str:
        """Name a sensor; one that nobody registered has no name."""
        return self.sensors.get(sensor_id, str(sensor_id))

    def tenant_called(self, text: str) -> UUID:
        """Find a tenant by id or name. Raises ConfigurationError."""
        found = [tenant_id for tenant_id, name in self.tenants.items() if text in (name, str(tenant_id))]
        if len(found) == 1:
            return found[0]
        try:
            return UUID(text)
        except ValueError:
            known = ", ".join(sorted(self.tenants.values())) or f"no name is known: {self.remark}"
            raise ConfigurationError([f"--tenant: {text!r} is no id, and no one of: {known}"]) from None


async def read_names(metadata_dsn: str | None) -> Names:
    """Read them all; never raises: a report without names is still a report."""
    if metadata_dsn is None:
        return Names(remark="metadata_dsn is not set, so ids are shown in place of names")
    try:
        async with reading_from(metadata_dsn, "metadata") as connection:
            tenants = await connection.fetch(_TENANTS)
            greenhouses = await connection.fetch(_GREENHOUSES)
            sensors = await connection.fetch(_SENSORS)
    except DatabaseFault as fault:
        return Names(remark=f"ids are shown in place of names: {fault}")
    return Names(
        {each["id"]: each["name"] for each in tenants},
        {each["id"]: each["greenhouse_code"] for each in greenhouses},
        {each["id"]: each["sensor_code"] for each in sensors},
        {each["id"]: each["tenant_id"] for each in greenhouses},
    )
