"""`ingest config`: the effective value of every option and where it came from, secrets masked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ingest.commands.report import print_json, print_line, print_table
from ingest.configuration import effective, load_settings
from ingest.observe.terminal import json_line

if TYPE_CHECKING:
    from ingest.commands.invocation import Invocation


def show(invocation: Invocation, *, as_json: bool) -> int:
    """Print the settings. Raises ConfigurationError with every fault, as `ingest run` would."""
    settings = load_settings(invocation.config)
    options = effective(settings)
    file = settings.config_file
    if as_json:
        print_json({"config_file": None if file is None else str(file), "options": options})
        return 0
    print_line(f"configuration file: {'none' if file is None else file}")
    rows = [
        (name, text, each["source"]) for name, each in options.items() for text in _lines_of(each["value"])
    ]
    print_table(("option", "value", "from"), rows, empty="no options")
    return 0


def _lines_of(value: Any) -> list[str]:  # noqa: ANN401 (whatever an option holds)
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], dict):
        return [json_line({key: each for key, each in entry.items() if each is not None}) for entry in value]
    return ["(not set)" if value is None else json_line(value)]
