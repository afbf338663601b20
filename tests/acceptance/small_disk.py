"""A disk that a test fills and frees: PostgreSQL's readings on a file system of 16 MiB.

A tmpfs, where this process may mount one; elsewhere a trigger that raises what a full disk does. Owns the
mount and the tablespace, and gives both back.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import asyncpg

    from tests.servers import PostgresCluster

_REFUSE = """
create function iot.refuse() returns trigger language plpgsql as $$
begin
    raise sqlstate '53100' using message = 'could not extend file: No space left on device';
end $$;
create trigger refuse before insert on iot.sensor_readings for each row execute function iot.refuse();
"""


class Disk(Protocol):
    async def fill(self) -> None: ...
    async def free(self) -> None: ...


class _SmallFileSystem:
    def __init__(self, ballast: Path) -> None:
        self._ballast = ballast

    async def fill(self) -> None:
        with self._ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(65_536))

    async def free(self) -> None:
        self._ballast.unlink()


class _Trigger:
    def __init__(self, operator: asyncpg.Connection) -> None:
        self._operator = operator

    async def fill(self) -> None:
        await self._operator.execute(_REFUSE)

    async def free(self) -> None:
        await self._operator.execute("drop function iot.refuse cascade")


@contextlib.asynccontextmanager
async def small_disk(server: PostgresCluster, operator: asyncpg.Connection) -> AsyncIterator[Disk]:
    """Give the disk that ``iot.sensor_readings`` of the *operator*'s database is on from now on."""
    place = server.directory / "small"
    place.mkdir()
    if await _exit_code("mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)) != 0:
        yield _Trigger(operator)
        return
    try:
        folder = place / "tablespace"
        folder.mkdir()
        server.own(folder)
        await operator.execute(f"create tablespace small location '{folder}'")
        await operator.execute("alter table iot.sensor_readings set tablespace small")
        yield _SmallFileSystem(place / "ballast")
        await operator.execute("alter table iot.sensor_readings set tablespace pg_default")
        await operator.execute("drop tablespace small")
    finally:
        assert await _exit_code("umount", "--lazy", str(place)) == 0


async def _exit_code(*command: str) -> int:
    try:
        process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
    except FileNotFoundError:
        return 127
    return await process.wait()
