"""The steps of `ingest maintain` that people read: what was changed in the catalog, which data are doubtful.

And the names that the catalog knows by now. The role greenhouse_operator is enough.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ingest.operate.catalog_rows import MAP_NAMES_SQL, NOTE_UNMAPPED_NAMES_SQL
from ingest.operate.maintain_steps import Look, Step, Task
from ingest.operate.status_ledger_sql import QUALITY, UNMAPPED

if TYPE_CHECKING:
    from ingest.operate.maintain_steps import Ground

AUDIT_DAYS: Final = 7
_SHOWN: Final = 20

# Critical is what takes something away, lets somebody in, or changes whose or what a reading is. $1 days.
CRITICAL_CHANGES: Final = """
    select
        table_name,
        operation,
        coalesce(array_to_string(changed_fields, ', '), '') as fields,
        count(*) as changes,
        string_agg(distinct changed_by_username, ', ') as who,
        max(changed_at) as last
    from metadata.audit_log
    where changed_at >= now() - make_interval(days => $1)
        and (
            operation in ('DELETE', 'TRUNCATE')
            or table_name = 'users'
            or changed_fields && array[
                'is_active',
                'mqtt_topic_prefix',
                'tenant_id',
                'greenhouse_id',
                'greenhouse_code',
                'sensor_code',
                'device_id',
                'mqtt_field_name',
                'sensor_type_id',
                'unit_id',
                'expected_interval_s',
                'min_value',
                'max_value'
            ]
        )
    group by table_name, operation, fields
    order by max(changed_at) desc
"""
WORST_ISSUES: Final = """
    select
        id,
        severity,
        quality_issue_type as type,
        description,
        detected_at
    from metadata.data_quality_log
    where status in ('OPEN', 'INVESTIGATING')
    order by array_position(array['CRITICAL', 'HIGH', 'MEDIUM', 'LOW'], severity::text), detected_at
    limit $1
"""


async def _look_at_audit(ground: Ground) -> Look:
    changes = await ground.metadata.fetch(CRITICAL_CHANGES, AUDIT_DAYS)
    told = [
        f"{each['table_name']}: {each['changes']} {each['operation']}"
        f"{' of ' + each['fields'] if each['fields'] else ''} by {each['who']}, "
        f"last {each['last']:%Y-%m-%d %H:%M} UTC"
        for each in changes[:_SHOWN]
    ]
    if len(changes) > _SHOWN:
        told.append(f"and {len(changes) - _SHOWN} kinds more: metadata.audit_log has them")
    return Look(told or [f"no critical change in {AUDIT_DAYS} days"])


async def _look_at_quality(ground: Ground) -> Look:
    counts = await ground.metadata.fetch(QUALITY)
    told = [
        f"{each['issues']} open {each['severity']} {each['type']}, the oldest of {each['oldest']:%Y-%m-%d}"
        for each in counts
    ]
    told += [
        f"issue {each['id']} ({each['severity']} {each['type']}): {each['description']}"
        for each in await ground.metadata.fetch(WORST_ISSUES, _SHOWN)
    ]
    return Look(told or ["no open issue"])


async def _look_at_names(ground: Ground) -> Look:
    lacking = [each for each in await ground.metadata.fetch(UNMAPPED) if each["mapped_to"] is None]
    told = [
        f"{each['rows']} {each['table_name']} with {each['column_name']} {each['value']!r} have no id"
        for each in lacking[:_SHOWN]
    ]
    return Look(told, [Task("give ids to the names that the catalog knows")] if lacking else [])


async def _map_names(ground: Ground, task: Task) -> str:
    _ = task
    async with ground.metadata.transaction():
        mapped = await ground.metadata.fetchval(MAP_NAMES_SQL)
        opened = await ground.metadata.fetchval(NOTE_UNMAPPED_NAMES_SQL)
    return f"{mapped} ids given; {opened} names are new among the issues"


AUDIT: Final = Step(
    "audit", f"critical changes of {AUDIT_DAYS} days", _look_at_audit, login="ingest_operator"
)
QUALITY_REVIEW: Final = Step("quality", "open data-quality issues", _look_at_quality, login="ingest_operator")
NAMES: Final = Step(
    "names", "names of sensors, actuators and alerts", _look_at_names, _map_names, "ingest_operator"
)
