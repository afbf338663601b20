"""The option `--report` of replay and simulate. Imported with `ingest.cli`, so it imports no driver."""

from pathlib import Path
from typing import Annotated

import typer

Report = Annotated[
    Path | None,
    typer.Option("--report", metavar="FILE", help="Write an HTML page with plots and the account."),
]
