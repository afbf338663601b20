"""Has the operator agree to what cannot be taken back: --yes, or an answer where somebody can give one."""

from __future__ import annotations

import sys

import typer

from ingest.errors import ConfigurationError


def require_consent(question: str, what: str, done: str, *, yes: bool, may_ask: bool) -> None:
    """Return once there is consent, given as *yes* or by whoever answers *question*.

    Raises ConfigurationError, which says *what* there would be and that nothing was *done*.
    """
    if yes:
        return
    if not (may_ask and sys.stdin.isatty() and sys.stderr.isatty()):
        raise ConfigurationError([f"{what}; nothing was {done}: add --yes, or look with --dry-run"])
    if not typer.confirm(question, err=True):
        raise ConfigurationError([f"nothing was {done}"])
