"""Write: batches of rows and dead letters into TimescaleDB, one transaction each.

`batch` and the packing in `copy` are pure; `writer` owns the connection and the order of things.
"""

from ingest.write.batch import Batch, Counts, DeadLetter, message_bytes
from ingest.write.budget import Division
from ingest.write.journal import Claim
from ingest.write.mirrors import Mirrored
from ingest.write.writer import Outcome, Writer

__all__ = [
    "Batch",
    "Claim",
    "Counts",
    "DeadLetter",
    "Division",
    "Mirrored",
    "Outcome",
    "Writer",
    "message_bytes",
]
