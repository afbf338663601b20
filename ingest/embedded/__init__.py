"""Stand-ins for the two servers, for `ingest demo` and the tests: never for production.

    broker.py     rumqttd, from the wheel `iotcore`                            EmbeddedBroker
    database.py   TimescaleDB in WebAssembly behind a Node.js front            EmbeddedDatabase
    nodejs.py     finds Node.js, installs the front's one npm package          (used by database.py)
    server.py     starting and stopping                                        (used by both)
    child.py      the process of either, which ends when this one does         (used by both)
    timescale/    the front: PostgreSQL's wire protocol over one session       (JavaScript)

Both listen on 127.0.0.1 only. Nothing here knows of the pipeline.
"""

from __future__ import annotations

from ingest.embedded.broker import EmbeddedBroker
from ingest.embedded.database import EmbeddedDatabase

__all__ = ["EmbeddedBroker", "EmbeddedDatabase"]
