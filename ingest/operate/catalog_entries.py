"""What `ingest catalog add` and `import` are given: the entries, their limits, and how files hold them.

Pure but for reading the file. Lengths are those of the columns in `schema/metadata/V11`, `V12` and `V12_1`,
the interval's limits those of `V13`.
A fault is one line that starts with its place: `tenants[0].greenhouses[2].code: …`, `line 7: …`.
"""

from __future__ import annotations

import csv
import io
import json
import zoneinfo
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from ingest.errors import ConfigurationError
from ingest.resolve.names import parse_uuid

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEFAULT_TIMEZONE = "Europe/Madrid"


class AliasKind(StrEnum):
    """What an alias is another name of."""

    SENSOR_TYPE = "sensor-type"
    UNIT = "unit"


def _topic_level(code: str) -> str:
    if any(character in code for character in "/+#"):
        raise ValueError("a greenhouse code is a topic level: it cannot hold / + or #")
    if parse_uuid(code) is not None:
        raise ValueError("a greenhouse code of the form of a UUID would be taken for an id")
    return code


def _known_timezone(name: str) -> str:
    known = zoneinfo.available_timezones()
    if known and name not in known:  # a machine without a time zone database cannot tell
        raise ValueError("not an IANA time zone such as Europe/Madrid")
    return name


_PRINTABLE = r"^[^\x00-\x1f\x7f]*$"
_Text50: TypeAlias = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=50, pattern=_PRINTABLE)
]
_Text100: TypeAlias = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100, pattern=_PRINTABLE)
]
_Text255: TypeAlias = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255, pattern=_PRINTABLE)
]
DataType: TypeAlias = Literal["DECIMAL", "INTEGER", "BOOLEAN"]
_Symbol: TypeAlias = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=20, pattern=_PRINTABLE)
]
_TypeName: TypeAlias = Annotated[
    str, StringConstraints(strip_whitespace=True, to_upper=True, pattern=r"^[A-Za-z][A-Za-z0-9_]{0,49}$")
]
_Limit: TypeAlias = Annotated[Decimal, Field(max_digits=12, decimal_places=2)]
_Prefix: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9_]{1,20}$")]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class UnitEntry(_Entry):
    """A unit of measurement; its id is the next one."""

    symbol: _Symbol
    name: _Text50
    """In words."""
    description: _Text255 | None = None


class SensorTypeEntry(_Entry):
    """What a sensor measures; its id is the next one."""

    name: _TypeName
    unit: _Symbol
    """Its default unit, by symbol or alias, in which the limits are."""
    minimum: _Limit | None = None
    maximum: _Limit | None = None
    data_type: DataType | None = None
    """DECIMAL where none is given."""

    @model_validator(mode="after")
    def _limits_in_order(self) -> Self:
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError("the minimum is greater than the maximum")
        return self


class TenantEntry(_Entry):
    """A customer; its prefix is the second level of its flat-map topics."""

    name: _Text100
    prefix: _Prefix
    email: _Text255 | None = None
    company: Annotated[_Text255, Field(max_length=200)] | None = None
    tenant_id: UUID | None = None
    """A new one where none is given, as of a greenhouse: for two databases to agree, give it."""


class GreenhouseEntry(_Entry):
    """A greenhouse of the tenant with that prefix."""

    tenant: _Prefix
    code: Annotated[_Text50, AfterValidator(_topic_level)]
    name: _Text100 | None = None
    """The code where none is given."""
    timezone: Annotated[_Text50, AfterValidator(_known_timezone)] = DEFAULT_TIMEZONE
    greenhouse_id: UUID | None = None


class AliasEntry(_Entry):
    """Another name of a sensor type or a unit."""

    kind: AliasKind
    alias: _Text100
    name: _Text100


class SensorEntry(_Entry):
    """A sensor; code, device id and label are the names a gateway may give it."""

    tenant: _Prefix
    greenhouse: _Text50
    sensor_type: _Text50
    unit: _Text100 | None = None
    code: _Text50 | None = None
    device_id: _Text100 | None = None
    label: _Text100 | None = None
    name: _Text100 | None = None
    sensor_id: UUID | None = None
    expected_interval_s: Annotated[int, Field(ge=1, le=7 * 86_400)] | None = None


Entry: TypeAlias = UnitEntry | SensorTypeEntry | TenantEntry | GreenhouseEntry | AliasEntry | SensorEntry
EntryClass: TypeAlias = type[Entry]
Place: TypeAlias = str

LISTS: dict[str, EntryClass] = {
    "units": UnitEntry,
    "sensor_types": SensorTypeEntry,
    "tenants": TenantEntry,
    "greenhouses": GreenhouseEntry,
    "aliases": AliasEntry,
    "sensors": SensorEntry,
}
"""Each list of an import file, in the order in which they are written: sensors may use what is new."""


def checked(entry_class: EntryClass, fields: dict[str, Any], place: Place = "") -> Entry:
    """Validate *fields*; raise ConfigurationError with one line for each fault, its place first."""
    try:
        return entry_class.model_validate(fields)
    except ValidationError as error:
        raise ConfigurationError(list(_faults(error, place))) from error


def read_entries(path: Path) -> tuple[list[tuple[Place, Entry]], list[str]]:
    """Read the entries of a .json or .csv file with their places, in writing order, and the faults found.

    Raises ConfigurationError for a file that cannot be read as a whole.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigurationError([f"{path}: cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError([f"{path}: is not UTF-8 text; save it as UTF-8"]) from error
    match path.suffix.lower():
        case ".json":
            raw = list(_json_entries(text, path))
        case ".csv":
            raw = list(_csv_entries(text, path))
        case _:
            raise ConfigurationError([f"{path}: is neither .json nor .csv"])
    entries: list[tuple[Place, Entry]] = []
    faults: list[str] = []
    for place, entry_class, fields in raw:
        if not isinstance(fields, dict):
            faults.append(f"{place}: is not an object")
            continue
        try:
            entries.append((place, checked(entry_class, fields, place)))
        except ConfigurationError as error:
            faults += error.faults
    order = tuple(LISTS.values())
    entries.sort(key=lambda placed: order.index(type(placed[1])))
    return entries, faults


def _json_entries(text: str, path: Path) -> Iterator[tuple[Place, EntryClass, Any]]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError([f"{path}: is not JSON: {error}"]) from error
    if not isinstance(document, dict) or not document.keys() <= LISTS.keys():
        raise ConfigurationError([f"{path}: must be an object with the lists {', '.join(LISTS)}, no other"])
    for name, items in document.items():
        yield from _json_list(name, LISTS[name], items, {})


def _json_list(
    place: Place, entry_class: EntryClass, items: object, owner: dict[str, Any]
) -> Iterator[tuple[Place, EntryClass, Any]]:
    """Give the entries of one list; those inside a tenant or greenhouse get its names from *owner*."""
    if not isinstance(items, list):
        yield place, entry_class, items
        return
    for position, item in enumerate(items):
        here = f"{place}[{position}]"
        if not isinstance(item, dict):
            yield here, entry_class, item
            continue
        fields = {**item}
        if entry_class is TenantEntry:
            inner = fields.pop("greenhouses", [])
            yield here, entry_class, fields
            inner_owner = {"tenant": fields.get("prefix")}
            yield from _json_list(f"{here}.greenhouses", GreenhouseEntry, inner, inner_owner)
        elif entry_class is GreenhouseEntry:
            inner = fields.pop("sensors", [])
            fields = {**fields, **owner}
            yield here, entry_class, fields
            inner_owner = {"tenant": fields.get("tenant"), "greenhouse": fields.get("code")}
            yield from _json_list(f"{here}.sensors", SensorEntry, inner, inner_owner)
        else:
            yield here, entry_class, {**fields, **owner}


def _csv_entries(text: str, path: Path) -> Iterator[tuple[Place, EntryClass, Any]]:
    """Give the rows of a CSV file of one kind, told by its header; empty cells are left out."""
    first_line = text.partition("\n")[0]
    delimiter = ";" if first_line.count(";") > first_line.count(",") else ","
    rows = csv.DictReader(io.StringIO(text), delimiter=delimiter, strict=True)
    columns = {column.strip() for column in rows.fieldnames or ()}
    fitting = [entry_class for entry_class in LISTS.values() if _fits(entry_class, columns)]
    if len(fitting) != 1:
        known = "; ".join(f"{name}: {','.join(LISTS[name].model_fields)}" for name in LISTS)
        raise ConfigurationError([f"{path}: the first line fits no kind of entry ({known})"])
    try:
        for row in rows:
            place = f"line {rows.line_num}"
            cells = {name: cell for name, cell in row.items() if cell or name is None}
            if None in cells:
                yield place, fitting[0], None
            elif cells:
                yield place, fitting[0], {name.strip(): cell for name, cell in cells.items()}
    except csv.Error as error:
        raise ConfigurationError([f"{path}: line {rows.line_num}: {error}"]) from error


def _fits(entry_class: EntryClass, columns: set[str]) -> bool:
    fields = entry_class.model_fields
    required = {name for name, field in fields.items() if field.is_required()}
    return required <= columns <= fields.keys()


def _faults(error: ValidationError, place: Place) -> Iterator[str]:
    for fault in error.errors(include_url=False, include_context=False):
        where = ".".join(part for part in (place, *(str(part) for part in fault["loc"])) if part)
        yield f"{where}: {fault['msg']}"
