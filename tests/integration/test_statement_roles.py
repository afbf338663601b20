"""Every statement of the package, as every group role: who has to may, and nobody else who need not.

The statements are found, not listed: a new one is missing in PERMITTED until somebody says whose it is. On
plain PostgreSQL: one without parameters is executed and rolled back, one with them is planned, which checks
the same privileges (EXPLAIN with GENERIC_PLAN, PostgreSQL 16). What the roles do beside these statements is
in test_metadata_roles.py and test_timeseries_roles.py.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import asyncpg
import pytest

import ingest
from ingest.migrate import Database, migrate
from tests.integration.plain_postgres import create_timeseries_schema
from tests.unit.test_sql import SQL_START

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

PACKAGE = Path(ingest.__file__).parent
ROLES = {
    "w": "greenhouse_worker",
    "o": "greenhouse_operator",
    "r": "greenhouse_reader",
    "m": "greenhouse_migrator",
}
OURS = re.compile(r"\b(iot|metadata)\.\w+")
BY_THE_OWNER = {
    "demo.report": "the demonstration's own database",
    "demo.run": "as above",
    "migrate": "makes the schema",
    "undo": "as above",
    "operate.maintain_sql": "compresses, refreshes, rebuilds: `ingest maintain` wants the owner's login",
    "operate.normalize_legacy": "rewrites the table: `ingest normalize` wants the owner's login",
    "operate.normalize_sql": "as above",
    "operate.policies": "changes policies: `ingest schema apply` wants the owner's login",
}
"""Modules whose statements none of the four roles is for."""

PERMITTED = {
    # the catalog snapshot, and the names that `ingest catalog` needs
    "resolve.reading.UNITS_SQL": "wor",
    "resolve.reading.SENSOR_TYPES_SQL": "wor",
    "resolve.reading.UNIT_ALIASES_SQL": "wor",
    "resolve.reading.SENSOR_TYPE_ALIASES_SQL": "wor",
    "resolve.reading.TENANTS_SQL": "wor",
    "resolve.reading.GREENHOUSES_SQL": "wor",
    "resolve.reading.NEXT_GREENHOUSES_SQL": "wor",
    "resolve.reading.OWNED_GREENHOUSES_SQL": "wor",
    # `ingest replay --verify`
    "load.account_sql.VALUES": "wor",
    "load.account_sql.SENSOR_ROWS": "wor",
    "load.account_sql.SENSOR_COUNT": "wor",
    "load.account_sql.SENSOR_VALUE": "wor",
    "load.account_sql.LETTERS": "wo",
    "load.account_sql.OVERFLOW": "wo",
    # and with --report
    "load.account_sql.ROWS_BY_TYPE": "wor",
    "load.account_sql.TIME_OF_TYPES": "wor",
    # `ingest catalog list`
    "operate.catalog.LIST_SQL[tenants]": "wor",
    "operate.catalog.LIST_SQL[greenhouses]": "wor",
    "operate.catalog.LIST_SQL[sensors]": "wor",
    "operate.catalog.LIST_SQL[sensor-types]": "wor",
    "operate.catalog.LIST_SQL[units]": "wor",
    "operate.catalog.LIST_SQL[aliases]": "wor",
    # `ingest catalog add` and `import`
    "operate.catalog_rows.UNIT_SQL": "wor",
    "operate.catalog_rows.SENSOR_TYPE_SQL": "wor",
    "operate.catalog_rows.INSERT_UNIT_SQL": "o",
    "operate.catalog_rows.INSERT_SENSOR_TYPE_SQL": "o",
    "operate.catalog_rows.TENANT_SQL": "wor",
    "operate.catalog_rows.GREENHOUSE_SQL": "wor",
    "operate.catalog_rows.SENSOR_SQL": "wor",
    "operate.catalog_rows.PREFIX_AS_CODE_SQL": "wor",
    "operate.catalog_rows.CODE_AS_PREFIX_SQL": "wor",
    "operate.catalog_rows.INSERT_TENANT_SQL": "o",
    "operate.catalog_rows.INSERT_GREENHOUSE_SQL": "o",
    "operate.catalog_rows.INSERT_SENSOR_SQL": "o",
    "operate.catalog_rows.INSERT_ALIAS_SQL[sensor-type]": "o",
    "operate.catalog_rows.INSERT_ALIAS_SQL[unit]": "o",
    "operate.catalog_rows.MAP_NAMES_SQL": "o",
    "operate.catalog_rows.NOTE_UNMAPPED_NAMES_SQL": "o",
    "operate.bulk_operations.BEGIN_SQL": "wo",
    "operate.bulk_operations.END_SQL": "wo",
    "operate.bulk_operations.ABANDONED_SQL": "o",
    # `ingest dead-letters`
    "operate.dead_letters._LIST_SQL": "wo",
    "operate.dead_letters._ONLY_COUNTED": "wo",
    "operate.dead_letters._SHOW": "wo",
    # `ingest dead-letters replay` and `purge`, and the worker's own healing
    "operate.letter_filter._SUMMARY_SQL": "wo",
    "operate.letter_filter._BY_REASON_SQL": "wo",
    "operate.letter_filter._PAGE_SQL": "wo",
    "operate.letter_filter._TENANT_SQL": "wor",
    "operate.purge_letters._DELETE_SQL": "wo",
    "write.letters._FIND": "wo",
    "write.letters._FIND_AND_LOCK": "wo",
    "write.letters._LACKING": "wo",
    "write.letters._MISSING_NAMES": "wo",
    "write.letters._READ": "wo",
    "write.backfill._BOOK": "wo",  # `ingest import` too
    "write.replay._DELETE": "wo",
    "write.replay._SHORTEN": "wo",
    # `ingest export`
    "load.exporting._TYPES": "wor",
    "load.exporting._UNITS": "wor",
    "load.exporting._READINGS": "wor",
    # `ingest reconcile`
    "operate.names._TENANTS": "wor",
    "operate.names._GREENHOUSES": "wor",
    "operate.names._SENSORS": "wor",
    "operate.gaps._REGISTERED": "wor",
    "operate.gaps._TIMES": "wor",
    "operate.gaps._TYPES": "wor",
    "operate.reconcile_sql.GATEWAYS": "wor",
    "operate.reconcile_sql.UNBALANCED": "wor",
    "operate.reconcile_sql.TOTALS": "wo",
    "operate.reconcile_sql.DEAD_LETTERS": "wo",
    "operate.reconcile_sql.SESSIONS": "wor",
    "operate.reconcile_sql.ROWS": "wor",
    # `ingest status`
    "operate.status_ledger_sql.SESSIONS": "wor",
    "operate.status_ledger_sql.RATE": "wor",
    "operate.status_ledger_sql.DEAD_LETTERS": "wor",
    "operate.status_ledger_sql.DEAD_LETTERS_IN_ALL": "wor",
    "operate.status_ledger_sql.ONLY_COUNTED": "wor",
    "operate.status_ledger_sql.COVERAGE": "or",
    "operate.status_ledger_sql.UNMAPPED": "or",
    "operate.status_ledger_sql.QUALITY": "or",
    "operate.status_rows_sql.ID_COLUMNS": "worm",
    "operate.status_rows_sql.READINGS": "wor",
    "operate.status_rows_sql.READINGS_BY_NAME": "wor",
    "operate.status_rows_sql.UNMATERIALISED": "wor",
    "operate.status_rows_sql.LATE_HOURS": "wor",
    "operate.status_rows_sql.PATIENCE": "wor",
    "operate.status_rows_sql.SILENT": "or",
    "operate.status_rows_sql.WRITTEN": "wor",
    "operate.status_rows_sql.ROLLED_UP": "or",
    # `ingest maintain`, what people review
    "operate.maintain_review.CRITICAL_CHANGES": "o",
    "operate.maintain_review.WORST_ISSUES": "or",
    # the worker's transactions
    "write.staged._INSERT_STAGED": "wo",  # the operator's: replay
    "write.staged._REPLACE_STAGED": "",  # write.conflicting_value = "replace" needs a grant of its own
    "write.staged._FIND_CONFLICTS": "wor",
    "write.journal._SUSPECT": "w",
    "write.journal._TAKE_LEAVE": "w",
    "write.journal._CLAIM": "w",
    "write.journal._RECORD": "w",
    "write.journal._FORGET": "w",
    "write.journal._STORE_FILTERS": "w",
    "write.sessions._EPOCH": "wo",
    "write.sessions._WITHOUT_PROCESS": "wo",
    "write.sessions._IS_ALONE": "wo",
    "write.sessions._LOCK_ROW": "w",
    "write.sessions._DELETE": "w",
    "write.late._NOTE": "wo",
    "write.overflow._ADD": "w",
    "write.overflow._CLEAR_UP": "w",
    "write.mirrors._UNITS": "w",
    "write.mirrors._SENSOR_TYPES": "w",
    "write.mirrors._INTERVALS": "w",
    "write.mirrors._FORGET_INTERVALS": "w",
    "write.mirrors._FORGET_GREENHOUSES": "w",
    "write.mirrors._DIGESTS": "wor",
    # what it finds wrong with the data
    "write.quality_log._WRITE": "w",
    "write.quality_log._OPEN_GAPS": "wor",
    "write.quality_log._END_GAPS": "wo",
    "write.quality_log._NAMES": "wor",
    "write.quality_log._END_NAMES": "wo",
    # COPY
    "write.copy: copy sensor_readings": "wo",
    "write.deadletters: copy ingest_dead_letters": "w",
}
"""Statement -> roles that may: those that have to, and for what only reads the others who may see it."""


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Give each module of the package, its name without the package's, and its syntax tree."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        yield (
            ".".join(part for part in parts if part != "__init__"),
            ast.parse(path.read_text(encoding="utf-8")),
        )


def strings(tree: ast.Module) -> list[str]:
    remarks = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in remarks
    ]


def literals(tree: ast.Module) -> set[str]:
    """Give the strings of a module that are statements on our tables; docstrings are none."""
    return {text for text in strings(tree) if SQL_START.match(text) and OURS.search(text)}


def constants(module: str) -> dict[str, str]:
    """Give the strings in a module's own constants, by name; those in a dict by key too."""
    found: dict[str, str] = {}
    for name, value in vars(importlib.import_module(f"ingest.{module}")).items():
        if isinstance(value, str):
            found[f"{module}.{name}"] = value
        elif isinstance(value, dict):
            found |= {f"{module}.{name}[{key}]": each for key, each in value.items() if isinstance(each, str)}
    return found


def copied_tables(tree: ast.Module) -> set[str]:
    """Give the tables that a module COPYs into, temporary ones left out."""
    return {
        node.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {"copy_to_table", "copy_records_to_table"}
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, str)
        and any(isinstance(each.value, ast.Constant) and each.value.value == "iot" for each in node.keywords)
    }


def pieces(tree: ast.Module) -> set[str]:
    """Give the constants of a module that are nothing but pieces of others."""
    added = {
        side.id
        for node in ast.walk(tree)
        if isinstance(node, ast.BinOp)
        for side in (node.left, node.right)
        if isinstance(side, ast.Name)
    }
    uses = Counter(
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    )
    return {name for name in added if uses[name] == 1}


def named(module: str, tree: ast.Module, wanted: set[str]) -> dict[str, str]:
    """Give the constants that hold the *wanted* statements; of one put together from pieces, the whole."""
    holding = {name: text for name, text in constants(module).items() if any(map(text.startswith, wanted))}
    nameless = [text for text in wanted if text not in holding.values()]
    assert nameless == [], f"{module}: make it a constant, so that it has a name here"
    return {name: text for name, text in holding.items() if name.rpartition(".")[2] not in pieces(tree)}


def statements() -> dict[str, str]:
    """Give every statement of the roles, by name; fails on one that is in no constant of its module."""
    found: dict[str, str] = {}
    for module, tree in modules():
        if module in BY_THE_OWNER:
            continue
        if wanted := literals(tree):
            found |= named(module, tree, wanted)
        found |= {f"{module}: copy {table}": f"copy iot.{table}" for table in copied_tables(tree)}
    return found


@pytest.fixture
async def admin(postgres_dsn: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """The superuser, in a database with both schemas."""
    await migrate(postgres_dsn, Database.METADATA)
    connection = await asyncpg.connect(postgres_dsn)
    await create_timeseries_schema(connection)
    yield connection
    await connection.close()


def test_every_statement_has_its_roles_and_every_owners_module_has_statements() -> None:
    assert statements().keys() == PERMITTED.keys()
    trees = dict(modules())
    assert [name for name in BY_THE_OWNER if not any("select" in each for each in strings(trees[name]))] == []


async def test_who_may_execute_which_statement(admin: asyncpg.Connection[asyncpg.Record]) -> None:
    found = {
        name: "".join([letter for letter, role in ROLES.items() if await may_execute(admin, role, text)])
        for name, text in statements().items()
    }
    assert found == PERMITTED


async def may_execute(admin: asyncpg.Connection[asyncpg.Record], role: str, statement: str) -> bool:
    """Try *statement* as *role*, and leave nothing of it behind."""
    if statement.startswith("copy "):
        table = statement.removeprefix("copy ")
        return bool(await admin.fetchval("select has_table_privilege($1, $2, 'insert')", role, table))
    planned = re.search(r"\$\d", statement) is not None
    transaction = admin.transaction()
    await transaction.start()
    try:
        await admin.execute(f"set local role {role}")
        if "pg_temp." in statement:
            await admin.execute(constants("write.staged")["write.staged._PREPARE"])
        await admin.execute(f"explain (generic_plan) {statement}" if planned else statement)
    except asyncpg.InsufficientPrivilegeError:
        return False
    else:
        return True
    finally:
        await transaction.rollback()


WITH_THE_OWNERS_RIGHTS = """
    select p.oid::regprocedure::text as function,
           coalesce(p.proconfig, '{}') && array['search_path=pg_catalog, pg_temp'] as closed,
           array(
               select r.rolname::text
               from pg_roles as r
               where (r.rolname like 'greenhouse\\_%' or r.rolname = $1)
                   and has_function_privilege(r.oid, p.oid, 'execute')
               order by 1
           ) as may_execute
    from pg_proc as p
    where p.pronamespace in ('metadata'::regnamespace, 'iot'::regnamespace) and p.prosecdef
    order by 1
"""


async def test_a_function_with_its_owners_rights_is_nobodys_tool(
    admin: asyncpg.Connection[asyncpg.Record],
) -> None:
    stranger = f"stranger_{uuid4().hex[:12]}"
    await admin.execute(f"create role {stranger} nologin")
    try:
        found = await admin.fetch(WITH_THE_OWNERS_RIGHTS, stranger)
    finally:
        await admin.execute(f"drop role {stranger}")
    assert len(found) >= 10
    assert [function for function, closed, _ in found if not closed] == []
    assert {function: roles for function, _, roles in found if roles} == {
        "metadata.take_greenhouse_snapshot(uuid,text)": ["greenhouse_operator"]
    }


async def test_nobody_forges_the_record_with_a_table_of_their_own(
    admin: asyncpg.Connection[asyncpg.Record],
) -> None:
    """A temporary table is its maker's to put triggers on; those of the record are not for it."""
    for role in ROLES.values():
        transaction = admin.transaction()
        await transaction.start()
        await admin.execute(f"set local role {role}")
        await admin.execute("create temporary table sensors (id uuid, sensor_code text)")
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match=r"function metadata\.record_change"):
            await admin.execute("""
                create trigger forged after insert on pg_temp.sensors
                    for each row execute function metadata.record_change('id')
            """)
        await transaction.rollback()
    assert await admin.fetchval("select count(*) from metadata.audit_log") == 0
