"""Names become ids: a decoded message in, its rows by id and the fields that stay behind out.

    names, units    how names are compared, which unit measures what
    catalog         immutable snapshot of the metadata database and its lookups
    places, series  which greenhouse and which sensor a reading belongs to, or why none
    stored_metadata the JSON text of a row's jsonb column
    missing         the names a refusal lacked, and whether a catalog has them by now
    resolver        the cached path every message takes
    loader          the only part with a database: reads snapshots, listens for changes

All but `loader` is pure: no clock, no logger, no await. `loader` is imported by its own name, so
that a dry run needs no database driver.
"""

from ingest.resolve.catalog import Catalog
from ingest.resolve.missing import is_known
from ingest.resolve.resolver import Resolver

__all__ = ["Catalog", "Resolver", "is_known"]
