"""The page of a schema as Markdown with Mermaid diagrams, made of what `schema_catalog` read.

Pure. Owns how a table is put into words, which tables belong together, and nothing of what they are: a table
that a migration adds has to be given a group here, everything else follows by itself.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docs.schema_catalog import Catalog, Column, Grant, Job, Relation, Routine

MARKER = "<!-- Below is what `make schema-docs` writes, from a live schema: change the comments there. -->"
"""What stands above it in a page is written by hand, and kept."""

GROUPS: dict[str, dict[str, tuple[str, ...]]] = {
    "metadata": {
        "Tenants and devices": ("tenants", "greenhouses", "sensors", "actuators", "alerts", "users"),
        "Catalogs": (
            "units",
            "unit_aliases",
            "sensor_types",
            "sensor_type_aliases",
            "actuator_types",
            "actuator_states",
            "alert_types",
            "alert_severities",
        ),
        "Record": (
            "audit_log",
            "actuator_command_history",
            "sensor_configuration_history",
            "alert_resolution_history",
            "greenhouse_snapshot",
            "bulk_operation_log",
            "data_quality_log",
            "schema_history",
        ),
    },
    "iot": {
        "Readings": ("sensor_readings", "sensor_types", "units", "sensor_intervals"),
        "Continuous aggregates": (
            "cagg_sensor_readings_hourly",
            "cagg_sensor_readings_daily",
            "cagg_sensor_readings_monthly",
            "cagg_greenhouse_conditions_realtime",
            "cagg_sensor_health_hourly",
        ),
        "Rollups": (
            "sensor_readings_hourly",
            "sensor_readings_daily",
            "sensor_readings_monthly",
            "greenhouse_daily_summary",
            "sensor_performance_daily",
        ),
        "Delivery": (
            "ingest_sessions",
            "ingest_counters",
            "ingest_gateway_hours",
            "ingest_written_hours",
            "ingest_dead_letters",
            "ingest_dead_letter_overflow",
            "ingest_gateway_hours",
            "ingest_written_hours",
            "ingest_late_buckets",
            "schema_history",
        ),
    },
}
"""Tables and continuous aggregates drawn together, by schema. Views need no group."""

ROLES = {
    "greenhouse_worker": "the worker",
    "greenhouse_operator": "operators",
    "greenhouse_reader": "dashboards",
    "greenhouse_migrator": "the migrator",
}
"""Group role -> who that is. The order is the pages'."""

_VERBS = {"insert": "add", "update": "change", "delete": "delete"}
# Left out of the diagrams: every table has them, and they mean the same everywhere.
_NOT_DRAWN = {"created_at", "updated_at", "computed_at"}
_REFERENCE = re.compile(r"(?:(?P<schema>\w+)\.)?(?P<table>\w+)\.id\b")


def render(catalog: Catalog) -> str:
    """Return the generated part of the page of *catalog*. Raises LookupError for a table in no group."""
    return "\n".join(_lines(catalog)) + "\n"


def _lines(catalog: Catalog) -> Iterator[str]:
    groups = GROUPS[catalog.schema]
    views = [each.name for each in catalog.relations.values() if each.kind == "view"]
    grouped = {name for names in groups.values() for name in names}
    if lost := sorted(grouped ^ (catalog.relations.keys() - set(views))):
        raise LookupError(
            f"{', '.join(lost)}: in schema {catalog.schema} or in GROUPS of docs/schema_page.py, not in both"
        )
    for title, names in groups.items():
        members = [catalog.relations[name] for name in names]
        yield from ("", f"## {title}", "")
        yield from _diagram(catalog, members)
        for member in members:
            yield from _section(catalog, member)
    yield from ("", "## Views")
    for name in views:
        yield from _section(catalog, catalog.relations[name])
    if jobs := [job for job in catalog.jobs if job.relation is None]:
        yield from _jobs(jobs)
    yield from _routines(catalog.routines)


def _diagram(catalog: Catalog, members: list[Relation]) -> Iterator[str]:
    """Yield the members with their columns, and what they refer to, as boxes without when outside."""
    yield "```mermaid"
    yield "erDiagram"
    for member in members:
        yield f"    {member.name} {{"
        for column in member.columns:
            if column.name not in _NOT_DRAWN:
                yield f"        {_drawn_type(column)} {column.name}{_drawn_key(member, column)}"
        yield "    }"
    for member in members:
        yield from (f"    {reference}" for reference in _references(catalog, member))
    yield "```"


def _references(catalog: Catalog, relation: Relation) -> Iterator[str]:
    """Yield what *relation* refers to: a solid line for a foreign key, dotted where nothing enforces it."""
    required = {column.name for column in relation.columns if column.not_null or relation.kind != "table"}
    enforced = [(key.target, key.columns) for key in relation.foreign_keys]
    keyed = {name for _, columns in enforced for name in columns}
    named = [
        (target, (column.name,))
        for column in relation.columns
        if column.name not in keyed and (target := _named_by(catalog, column)) is not None
    ]
    for line, references in (("--", enforced), ("..", named)):
        for target, columns in references:
            end = "||" if required.issuperset(columns) else "|o"
            yield f'{target} {end}{line}o{{ {relation.name} : "{", ".join(columns)}"'
    if relation.source is not None:
        yield f'{relation.source} ||..o{{ {relation.name} : "made of"'


def _named_by(catalog: Catalog, column: Column) -> str | None:
    """Return the table whose id *column* holds by its comment: "iot.units.id, …", "users.id, …"."""
    found = _REFERENCE.match(column.comment)
    if found is None or (found["schema"] or catalog.schema) != catalog.schema:
        return None
    return found["table"] if found["table"] in catalog.relations else None


def _drawn_type(column: Column) -> str:
    # Mermaid takes neither blanks nor commas.
    return re.sub(r"\(.*\)", "", _short(column.type)).replace("double precision", "double")


def _drawn_key(relation: Relation, column: Column) -> str:
    indexes = [index for index in relation.indexes if index.unique and column.name in index.columns]
    keys = {"PK" if index.primary else "UK" for index in indexes}
    if any(column.name in key.columns for key in relation.foreign_keys):
        keys.add("FK")
    return f" {', '.join(key for key in ('PK', 'FK', 'UK') if key in keys)}" if keys else ""


def _section(catalog: Catalog, relation: Relation) -> Iterator[str]:
    yield from ("", f"### {relation.name}", "", _text(relation.comment), "")
    yield from (f"- {fact}" for fact in _facts(catalog, relation))
    yield ""
    if relation.kind == "table":
        yield "| column | type | null | what it means |"
        yield "|---|---|---|---|"
        for column in relation.columns:
            null = "no" if column.not_null else "yes"
            yield f"| `{column.name}` | {_short(column.type)} | {null} | {_text(column.comment)} |"
    else:
        yield "| column | type | what it means |"
        yield "|---|---|---|"
        for column in relation.columns:
            yield f"| `{column.name}` | {_short(column.type)} | {_text(column.comment)} |"


def _facts(catalog: Catalog, relation: Relation) -> Iterator[str]:
    yield f"Read by {_who(relation, 'select') or 'its owner only'}."
    if relation.kind == "table":
        writers = _who(relation, *_VERBS)
        yield (
            f"Written by {writers}."
            if writers
            else ("Written by none of the four roles: by its owner, and what runs with the owner's rights.")
        )
    for title, *kind in (("Primary key", True, True), ("Unique", False, True), ("Index", False, False)):
        found = [
            f"`{index.definition.removeprefix('btree ')}`"
            for index in relation.indexes
            if [index.primary, index.unique] == kind
        ]
        if found:
            yield f"{title}: {_enumerated(found)}."
    for key in relation.foreign_keys:
        target = f"{key.target}.{', '.join(key.target_columns)}"
        yield f"`{', '.join(key.columns)}` refers to `{target}`, on delete {key.on_delete}."
    if relation.triggers:
        yield f"Triggers call {_enumerated([f'`{name}`' for name in relation.triggers])}."
    if relation.hypertable is not None:
        kept = relation.hypertable
        yield f"Hypertable on `{kept.on}`, in chunks of {kept.chunk}."
        segments, order = _listed(kept.segmentby), _listed(kept.orderby)
        yield f"Compressed by segments of `{segments}`, in the order `{order}`."
    if relation.source is not None:
        yield f"Made of `{relation.source}`; what is not materialised yet is read from there."
    yield from (_policy(job) for job in catalog.jobs if job.relation == relation.name)


def _who(relation: Relation, *privileges: str) -> str:
    """Say which roles have any of *privileges* on *relation*, and on which columns where not on all."""
    allowed = []
    for role, words in ROLES.items():
        mine = [grant for grant in relation.grants if grant.role == role and grant.privilege in privileges]
        if mine:
            details = [detail for privilege in privileges if (detail := _extent(relation, mine, privilege))]
            allowed.append(f"{words} ({', '.join(details)})" if details else words)
    return _enumerated(allowed)


def _extent(relation: Relation, grants: list[Grant], privilege: str) -> str:
    """Say in how far *privilege* is among *grants*; nothing for reading everything, or when it is not."""
    columns = {grant.column for grant in grants if grant.privilege == privilege}
    verb = _VERBS.get(privilege, "")
    if not columns or None in columns:
        return verb if columns else ""
    closed = [column.name for column in relation.columns if column.name not in columns]
    opened = [column.name for column in relation.columns if column.name in columns]
    word, named = ("all but", closed) if len(closed) < len(opened) else ("only", opened)
    return f"{verb} {word} {_enumerated([f'`{name}`' for name in named])}".strip()


def _policy(job: Job) -> str:
    settings = job.settings
    match job.procedure:
        case "policy_compression":
            return f"Chunks are compressed {settings['compress_after']} after their end."
        case "policy_retention":
            return f"Chunks are dropped {settings['drop_after']} after their end."
        case "policy_reorder":
            return f"Chunks that are no longer written are put in the order of `{settings['index_name']}`."
        case "policy_refresh_continuous_aggregate":
            start, end = settings["start_offset"], settings["end_offset"]
            return f"Refreshed every {job.every}, from {start} back to {end} back."
        case other:
            return f"`{other}` runs every {job.every}."


def _jobs(jobs: list[Job]) -> Iterator[str]:
    yield from ("", "## Jobs", "", "| job | every | settings |", "|---|---|---|")
    for job in jobs:
        settings = ", ".join(f"{name} {value}" for name, value in job.settings.items())
        yield f"| `{job.procedure}` | {job.every} | {settings} |"


def _routines(routines: list[Routine]) -> Iterator[str]:
    yield from ("", "## Functions and procedures", "")
    yield from ("| routine | what it does | called by |", "|---|---|---|")
    for routine in routines:
        callers = [words for role, words in ROLES.items() if role in routine.executors]
        who = "everybody" if "public" in routine.executors else _enumerated(callers) or "its owner"
        yield f"| `{_short(routine.signature)}` | {_text(routine.comment)} | {who} |"


def _short(type_name: str) -> str:
    shorter = type_name.replace("timestamp with time zone", "timestamptz")
    return shorter.replace("character varying", "varchar")


def _text(comment: str) -> str:
    """Return *comment* as Markdown shows it literally, also in a cell of a table."""
    return re.sub(r"([|*<>\\])", r"\\\1", comment)


def _listed(columns: str) -> str:
    return ", ".join(columns.split(",")).replace(" DESC", " desc")


def _enumerated(parts: list[str]) -> str:
    return " and ".join(part for part in (", ".join(parts[:-1]), *parts[-1:]) if part)
