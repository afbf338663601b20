"""What a database that refuses for want of a right means to the operator: which login the work takes.

Values only; the logins are those of docs/database-logins.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from ingest.errors import IngestError

INSUFFICIENT_PRIVILEGE: Final = "42501"
"""The SQLSTATE."""
Login: TypeAlias = Literal["ingest_migrator", "ingest_operator"]


def login_wanted(login: Login) -> str:
    """Say that the work takes *login*."""
    return f"it takes the login {login}, or one with its rights (docs/database-logins.md)"


def advice(fault: IngestError, login: Login, otherwise: str) -> str:
    """Say what to do after *fault*: *otherwise*, unless a right of *login*'s was missing."""
    refused = getattr(fault, "sqlstate", None) == INSUFFICIENT_PRIVILEGE
    return login_wanted(login) if refused else otherwise
