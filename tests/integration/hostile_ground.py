"""Databases that stand right before a given migration file, for what may go wrong with that file.

A ground is a database and the files it takes: all of them, or on plain PostgreSQL those of schema iot
without what is TimescaleDB's. It climbs: tests in the order of the files find the one before applied, and
one that comes alone has it applied first. What is applied is asked of the database, and kept nowhere else.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from typing import TYPE_CHECKING

import asyncpg

from ingest.migrate import Database, migrate, schema_folder, status
from ingest.migration_files import load_migrations, split_statements, version_key
from tests.integration.plain_postgres import without_timescale
from tests.statements import execute

if TYPE_CHECKING:
    from pathlib import Path

    from ingest.migration_files import Migration

CUT = "cut here"
"""In the file of a half-way run, for a proxy to cut the connection at."""
COMMENTS = """
select format('comment %s %s %s', c.relname, d.objsubid, d.description) as line
from pg_description as d
join pg_class as c on c.oid = d.objoid and d.classoid = 'pg_class'::regclass
where c.relnamespace = to_regnamespace($1)
"""


class Ground:
    """See the module's header; *scratch* is a directory of its own."""

    def __init__(self, dsn: str, database: Database, scratch: Path, *, plain: bool) -> None:
        self.dsn = dsn
        self.database = database
        self.plain = plain
        self._scratch = scratch
        self.folder = self._files(plain=plain)
        self._straight: dict[str, list[str]] = {}

    def _files(self, *, plain: bool) -> Path:
        given = schema_folder(self.database)
        if self.database is Database.METADATA or not plain:
            return given
        folder = self._scratch / "plain" / self.database
        folder.mkdir(parents=True)
        for path in given.glob("*.sql"):
            sql = without_timescale(path.read_text(encoding="utf-8"))
            (folder / path.name).write_text(sql, encoding="utf-8")
        verify = folder.parent / "verify"
        shutil.copytree(given.parent / "verify", verify)
        (verify / f"{self.database}.sql").write_text("select null::text as line where false;\n")
        return folder

    def file(self, version: str) -> Migration:
        (found,) = (file for file in load_migrations(self.folder) if file.version == version)
        return found

    def folder_through(self, version: str, text: str | None = None) -> Path:
        """Make a folder with the files up to *version*, with *text* in place of that one's."""
        folder = self._scratch / "through"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for file in load_migrations(self.folder):
            if version_key(file.version) <= version_key(version):
                shutil.copyfile(file.path, folder / file.path.name)
        if text is not None:
            (folder / self.file(version).path.name).write_text(text, encoding="utf-8")
        return folder

    def folder_before(self, version: str) -> Path:
        """Make a folder with the files before *version*; its parent may hold none."""
        folder = self.folder_through(version)
        (folder / self.file(version).path.name).unlink()
        return folder

    async def stand_before(self, version: str) -> None:
        """Have every file before *version* applied, that one and those after not."""
        files = [file.version for file in load_migrations(self.folder)]
        if files[: len(applied := await self.applied())] != applied or version in applied:
            await self.clear()
        folder = self.folder_before(version)
        if any(folder.iterdir()):
            await migrate(self.dsn, self.database, folder=folder)

    async def complete(self) -> None:
        """Have every file applied."""
        await migrate(self.dsn, self.database, folder=self.folder)

    async def straight(self, version: str) -> list[str]:
        """Return what is there when every file up to *version* has been run undisturbed."""
        if not self._straight:
            await self.clear()
            for file in load_migrations(self.folder):
                await migrate(self.dsn, self.database, folder=self.folder_through(file.version))
                self._straight[file.version] = await self.described()
        return self._straight[version]

    async def applied(self) -> list[str]:
        states = await status(self.dsn, self.database, folder=self.folder)
        return [state.version for state in states if state.state == "applied"]

    async def described(self) -> list[str]:
        """Return what is there, comments and, where their tables are ours, catalog rows and jobs included.

        The history itself is the runner's, made before the first file; only grants on it are told.
        """
        queries = self.folder.parent / "verify"
        connection = await asyncpg.connect(self.dsn)
        try:
            objects = (queries / "objects.sql").read_text(encoding="utf-8")
            lines = await connection.fetch(objects, self.database.schema)
            lines += await connection.fetch(COMMENTS, self.database.schema)
            with contextlib.suppress(asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError):
                # Not where a table of them is still to be made, or is somebody else's.
                lines += await connection.fetch((queries / f"{self.database}.sql").read_text("utf-8"))
        finally:
            await connection.close()
        told = (str(line["line"]) for line in lines)
        return sorted(line for line in told if line.startswith("grant ") or "schema_history" not in line)

    async def clear(self) -> None:
        """Drop our schema with all that is in it."""
        await self.execute(f"drop schema if exists {self.database.schema} cascade")

    async def execute(self, *statements: str) -> None:
        await execute(self.dsn, *statements)

    async def fetchval(self, query: str, *arguments: object) -> object:
        connection = await asyncpg.connect(self.dsn)
        try:
            return await connection.fetchval(query, *arguments)
        finally:
            await connection.close()


def half_way(file: Migration, at: str = f"select '{CUT}'") -> list[str]:
    """Return *file* with the statement *at* put in at each place worth a try, one text a place.

    In a transaction two will do: in the middle, and after its last statement. Without one every statement
    stays by itself, so each place counts but for those between two comments.
    """
    statements = [statement.text for statement in split_statements(file.path.read_text(encoding="utf-8"))]
    places = [len(statements) // 2, len(statements)]
    if not file.transactional:
        places = [place for place, sql in enumerate(statements, 1) if _bare(sql)[:7] != "comment"]
    header = file.path.read_text(encoding="utf-8").split("\n\n", 1)[0]
    return [
        f"{header}\n\n" + "".join(f"{sql};\n" for sql in (*statements[:place], at, *statements[place:]))
        for place in sorted(set(places))
    ]


def made_by(file: Migration) -> list[str]:
    """Return the tables and views that *file* makes, in its order."""
    sql = _bare(file.path.read_text(encoding="utf-8"))
    return re.findall(r"^create (?:table|(?:materialized )?view|or replace view)(?: if not exists)? ([\w.]+)",
                      sql, re.MULTILINE)  # fmt: skip


def _bare(sql: str) -> str:
    return re.sub(r"--[^\n]*\n", "", sql).lstrip()
