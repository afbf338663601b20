"""Which column of a file holds what of a reading: by its heading, or as the operator says. Pure.

One name a field, those that `ingest export` writes first. A column that no field is looked for in is not
read; a constant stands for the cells that say nothing.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ingest.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HEADINGS: Final[dict[str, tuple[str, ...]]] = {
    "time": ("time", "timestamp", "ts"),
    "value": ("value",),
    "sensor": ("sensor_id", "sensor"),
    "sensor_type": ("sensor_type", "type"),
    "unit": ("unit",),
    "greenhouse": ("greenhouse_id", "greenhouse"),
    "tenant": ("tenant_id", "tenant"),
    "metadata": ("metadata",),
}
"""What a field's column is called where nobody says, in any case."""
NEEDED: Final = ("time", "value")
_KEYS_TOLD: Final = 20


class Cells(NamedTuple):
    """What one record says of a reading, as it is written; None where it says nothing."""

    time: Any
    value: Any
    sensor: Any
    sensor_type: Any
    unit: Any
    greenhouse: Any
    tenant: Any
    metadata: Any


class Columns:
    """How the records of all files become Cells."""

    def __init__(self, mapped: Mapping[str, str], constants: Mapping[str, str]) -> None:
        """Take field -> column and field -> what to put where a record says nothing."""
        self._mapped = dict(mapped)
        self._candidates = [
            (mapped[field],) if field in mapped else HEADINGS[field] for field in Cells._fields
        ]
        self._constants = [constants.get(field) for field in Cells._fields]
        self._wanted = [
            (field, candidates)
            for field, candidates in zip(Cells._fields, self._candidates, strict=True)
            if field in mapped or field in NEEDED
        ]
        self._unseen: list[tuple[str, tuple[str, ...]]] | None = None
        """Of the wanted, those that no object of the file under way had; None before its first."""
        self._first_keys: list[str] = []

    def places(self, header: Sequence[str], file: str) -> list[int | None]:
        """Give for each field its position in a CSV file's *header*. ConfigurationError lists every fault."""
        found: list[int | None] = []
        faults: list[str] = []
        folded = [heading.strip().casefold() for heading in header]
        for field, candidates in zip(Cells._fields, self._candidates, strict=True):
            fitting = [name for name in candidates if name.strip().casefold() in folded]
            name = fitting[0].strip().casefold() if fitting else ""
            if fitting and folded.count(name) > 1:
                faults.append(f"{file}: {folded.count(name)} columns are called {fitting[0]!r}")
            elif not fitting and field in self._mapped:
                faults.append(f"{file}: --column {field}={self._mapped[field]}: {_there_are(header)}")
            elif not fitting and field in NEEDED:
                faults.append(
                    f"{file}: no column for the {field}: say --column {field}=NAME; {_there_are(header)}"
                )
            found.append(folded.index(name) if fitting else None)
        if faults:
            raise ConfigurationError(faults)
        return found

    def of_row(self, row: Sequence[str], places: Sequence[int | None]) -> Cells:
        """Give what a CSV row says; an empty cell says nothing."""
        return Cells._make(
            (None if at is None else row[at] or None) or constant
            for at, constant in zip(places, self._constants, strict=True)
        )

    def of_object(self, record: Mapping[str, Any]) -> Cells:
        """Give what a JSON object says; null says nothing."""
        cells = []
        for candidates, constant in zip(self._candidates, self._constants, strict=True):
            cell = constant
            for name in candidates:
                if (said := record.get(name)) is not None:
                    cell = said
                    break
            cells.append(cell)
        return Cells._make(cells)

    def note(self, record: Mapping[str, Any]) -> None:
        """Note which columns a JSON object has; null is there, too."""
        if self._unseen is None:
            self._unseen = self._wanted
            self._first_keys = list(itertools.islice(record, _KEYS_TOLD))
        if self._unseen:
            self._unseen = [each for each in self._unseen if not any(name in record for name in each[1])]

    def unseen(self, file: str) -> list[str]:
        """Give the columns that no object noted of *file* had, as faults; what comes next is another's."""
        faults = []
        for field, (name, *_) in self._unseen or ():
            if field in self._mapped:
                faults.append(f"{file}: --column {field}={name}: no record has {name!r}")
            else:
                there_are = f"the first record has {', '.join(self._first_keys) or 'nothing'}"
                faults.append(f"{file}: no record has a {field}: say --column {field}=NAME; {there_are}")
        self._unseen = None
        return faults


def read_mapping(pairs: Sequence[str]) -> dict[str, str]:
    """Read FIELD=COLUMN pairs; a field is one of HEADINGS, or a name in them. ConfigurationError."""
    fields = {name: field for field, names in HEADINGS.items() for name in (*names, field)}
    faults: list[str] = []
    mapped: dict[str, str] = {}
    for pair in pairs:
        name, equals, column = pair.partition("=")
        field = fields.get(name.strip().casefold())
        if not equals or not column.strip():
            faults.append(f"--column {pair}: write FIELD=COLUMN, as in time=ts")
        elif field is None:
            faults.append(f"--column {pair}: {name!r} is none of {', '.join(HEADINGS)}")
        elif field in mapped:
            faults.append(f"--column {pair}: the {field} has a column already")
        else:
            mapped[field] = column.strip()
    if faults:
        raise ConfigurationError(faults)
    return mapped


def _there_are(header: Sequence[str]) -> str:
    return f"its columns are {', '.join(header)}"
