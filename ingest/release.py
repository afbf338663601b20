"""Which release of this package is running."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def release() -> str:
    """Return the installed version; "unknown" in a checkout that was never installed."""
    try:
        return version("greenhouse-ingest")
    except PackageNotFoundError:
        return "unknown"
