"""Reads the settings' layers, and says everything that is wrong with them at once.

Precedence: `INGEST_…` variables, then secrets from files named by `INGEST_…_FILE`, then the TOML
file, then the defaults of `ingest.settings`. The only module that reads the environment; runs once,
before anything connects. A fault is one line: option, what is wrong, where it was set. No line
holds a secret's value.
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import SecretStr, ValidationError
from pydantic_settings import EnvSettingsSource

from ingest.addresses import dsn_options, dsn_password, split_credentials, without_passwords
from ingest.contradictions import contradictions
from ingest.errors import ConfigurationError
from ingest.exposures import exposures
from ingest.policy_contradictions import policy_contradictions
from ingest.settings import Settings, missing_dsn, option_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

PREFIX = "INGEST_"
CONFIG_VARIABLE = "INGEST_CONFIG"
CONFIG_FILES = (Path("config/ingest.toml"), Path("/etc/greenhouse-ingest/ingest.toml"))
"""Read when neither --config nor INGEST_CONFIG names a file; the first that exists."""

SECRETS = ("broker.password", "metadata_dsn", "timeseries_dsn")
"""Options that may come from a file of their own, named by `<variable>_FILE`."""

DSN_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
"""Options of a DSN that name files, looked at before anything connects."""

MAX_SECRET_BYTES = 65_536
"""A larger secret file is some other file (the MQTT password's own limit, 3.1.3.5)."""

SHOWN_CHARS = 80
MASK = "***"

FINDINGS = {
    "greater_than_equal": "{found} is below {ge:.15g}",
    "greater_than": "{found} is not above {gt:g}",
    "less_than_equal": "{found} is above {le:.15g}",
    "literal_error": "{found} is none of {expected}",
    "extra_forbidden": "no such option",
    "missing": "is missing",
    "int_parsing": "{found} is no whole number",
    "int_type": "{found} is no whole number",
    "int_from_float": "{found} is no whole number",
    "float_parsing": "{found} is no number",
    "float_type": "{found} is no number",
    "finite_number": "{found} is no finite number",
    "bool_parsing": "{found} is neither true nor false",
    "bool_type": "{found} is neither true nor false",
    "string_type": "{found} is no text",
    "tuple_type": "{found} is no list",
    "too_short": "is empty",
    "string_too_short": "is empty",
}
"""pydantic's error types that need other words than pydantic's."""


class _Reading:
    """What was set where, and what is wrong with it, while the layers are read."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.sources: dict[str, str] = {}
        self.faults: list[tuple[str, str]] = []
        self.faulty: set[str] = set()

    def put(self, option: str, value: object, source: str) -> None:
        """Let *source* decide *option*; a later call overrides an earlier one."""
        self.values[option] = value
        self.sources[option] = source

    def fault(self, option: str, text: str, source: str | None = None, *, place: str = "") -> None:
        """Note that *option* (at *place* within it) is wrong; its value counts as not set."""
        where = source or self.sources.get(option, "")
        name = place or option
        self.faults.append((option, f"{name}: {text}{f' ({where})' if where else ''}"))
        self.faulty.add(option)

    def nested(self) -> dict[str, Any]:
        """Return the usable values in the shape of the models."""
        tree: dict[str, Any] = {}
        for option, value in self.values.items():
            if option not in self.faulty:
                table, _, name = option.rpartition(".")
                (tree.setdefault(table, {}) if table else tree)[name] = value
        return tree


def load_settings(
    config: Path | None = None, *, require: Iterable[Literal["metadata", "timeseries"]] = ()
) -> Settings:
    """Read every layer and check every option, `require`d DSNs included.

    Raises ConfigurationError with all faults found. Reads the environment, the TOML file and the
    secret files; opens certificate files to see that they can be read; connects nowhere.
    """
    reading = _Reading()
    path = _config_file(config)
    if path is not None:
        _read_toml(path, reading)
    _read_secret_files(reading)
    _read_environment(reading)
    settings = _validated(reading)
    for contradiction in chain(contradictions(settings), policy_contradictions(settings)):
        options = [each.partition("[")[0] for each in contradiction.options]
        if not reading.faulty.intersection(options):
            source = next((reading.sources[each] for each in options if each in reading.sources), "default")
            reading.faults.append(
                (options[0], f"{contradiction.options[0]}: {contradiction.text} ({source})")
            )
    _check_files(settings, reading)
    reading.faults.extend(
        (f"{database}_dsn", missing_dsn(database))
        for database in require
        if f"{database}_dsn" not in reading.values
    )
    if reading.faults:
        order = {option: position for position, option in enumerate(option_names())}
        reading.faults.sort(key=lambda fault: order.get(fault[0], len(order)))
        raise ConfigurationError([line for _, line in reading.faults])
    settings._sources = reading.sources  # noqa: SLF001 (the settings' own record, filled by their loader)
    settings._config_file = path  # noqa: SLF001 (as above)
    return settings


def unprotected(settings: Settings) -> list[str]:
    """Say which connections leave this machine in clear, or to whoever answers; one line each."""
    return exposures(settings, os.environ)


def variable_of(option: str) -> str:
    """Return the environment variable of a dotted *option*."""
    return PREFIX + option.replace(".", "__").upper()


def effective(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return option -> {"value", "source"} for every option, JSON-ready, secrets masked."""
    tree = settings.model_dump(mode="python")
    shown: dict[str, dict[str, Any]] = {}
    for option in option_names():
        table, _, name = option.rpartition(".")
        value = tree[table][name] if table else tree[name]
        if isinstance(value, SecretStr):
            secret = value.get_secret_value()
            value = without_passwords(secret) if option.endswith("_dsn") else MASK
        elif isinstance(value, Path):
            value = str(value)
        shown[option] = {"value": value, "source": settings.source_of(option)}
    return shown


def _config_file(config: Path | None) -> Path | None:
    named = os.environ.get(CONFIG_VARIABLE)
    if config is not None:
        return config
    return Path(named) if named else next((path for path in CONFIG_FILES if path.is_file()), None)


def _read_toml(path: Path, reading: _Reading) -> None:
    source = str(path)
    try:
        tree = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        reading.faults.append(("", f"{path}: cannot be read: {error.strerror}"))
        return
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reading.faults.append(("", f"{path}: is no TOML file: {_shown_error(error)}"))
        return
    for option, value in _flattened(tree):
        if option not in option_names():
            tables = {each.partition(".")[0] for each in option_names() if "." in each}
            text = (
                f"is a table: write [{option}] and its options below it"
                if option in tables
                else f"no such option{_did_you_mean(option, option_names())}"
            )
            reading.fault(option, text, source)
            continue
        reading.put(option, value, source)
        _refuse_secret(option, value, reading)


def _refuse_secret(option: str, value: object, reading: _Reading) -> None:
    """Refuse a password in the TOML file, which is copied and committed."""
    variable = variable_of("broker.password" if option == "broker_url" else option)
    instead = f"set {variable} or {variable}_FILE instead"
    if option == "broker.password" or (
        option in SECRETS and isinstance(value, str) and dsn_password(value) is not None
    ):
        reading.fault(option, f"no password is read from the configuration file; {instead}")
    elif option == "broker_url" and isinstance(value, str) and split_credentials(value)[0] != value:
        text = f"no credentials are read from the configuration file; set broker.username, and {instead}"
        reading.fault(option, text.removesuffix(" instead"))


def _flattened(tree: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{option}", inner) for option, inner in value.items())
        else:
            yield name, value


def _read_secret_files(reading: _Reading) -> None:
    for option in SECRETS:
        variable = f"{variable_of(option)}_FILE"
        name = os.environ.get(variable)
        if not name:
            continue
        reading.put(option, None, variable)
        try:
            with Path(name).open("rb") as file:
                raw = file.read(MAX_SECRET_BYTES + 1)
            text = raw.decode()
        except OSError as error:
            reading.fault(option, f"{name} cannot be read: {error.strerror}")
            continue
        except ValueError:
            reading.fault(option, f"{name} is not UTF-8 text")
            continue
        # Editors and `echo` end a file with one line feed; anything else belongs to the secret.
        text = text.removesuffix("\n").removesuffix("\r")
        if not text or len(raw) > MAX_SECRET_BYTES or "\0" in text or "\n" in text:
            reading.fault(option, f"{name} does not hold one line of text")
            continue
        reading.put(option, text, variable)


class _Environment(EnvSettingsSource):
    """pydantic-settings' reader of variables; a list may also be written `a,b`, not only as JSON."""

    def __init__(self, reading: _Reading) -> None:
        self._reading = reading
        super().__init__(Settings)

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:  # noqa: ANN401 (the base's signature)
        _ = field
        text = str(value).strip()
        if not text.startswith(("[", "{")):
            return [each.strip() for each in text.split(",")]
        try:
            return json.loads(text)
        except ValueError as error:
            option = next(
                (each for each in option_names() if each.rpartition(".")[2] == field_name), field_name
            )
            self._reading.fault(option, f"is no JSON list: {_shown_error(error)}", variable_of(option))
            return None


def _read_environment(reading: _Reading) -> None:
    known = {variable_of(option): option for option in option_names()}
    secret_files = {f"{variable_of(option)}_FILE" for option in SECRETS}
    for name in sorted(os.environ):
        expected = name in known or name in secret_files or name == CONFIG_VARIABLE
        if name.upper().startswith(PREFIX) and not expected and not name.startswith("INGEST_TEST_"):
            reading.faults.append(("", f"{name}: no such variable{_did_you_mean(name.upper(), known)}"))
    found = dict(_flattened(_Environment(reading)()))
    url = found.get("broker_url")
    if isinstance(url, str):
        _, username, password = split_credentials(url)
        # Below the variables of their own, above the files: that is where INGEST_BROKER_URL stands.
        from_url = {"broker.username": username, "broker.password": password}
        for option, text in from_url.items():
            if text is not None:
                reading.put(option, text, variable_of("broker_url"))
    for option, value in found.items():
        if option in known.values():
            reading.put(option, value, variable_of(option))


def _validated(reading: _Reading) -> Settings:
    """Build the settings; each round leaves the faulty options out, so that the rest is judged too."""
    while True:
        try:
            return Settings(**reading.nested())
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                location = [str(each) for each in detail["loc"]]
                option = ".".join(location[:2])
                if option not in option_names():
                    option = location[0]
                place = "".join(
                    f"[{each}]" if isinstance(each, int) else f".{each}" for each in detail["loc"]
                ).removeprefix(".")
                # A list without its bad entries may be too short: that is no fault of its own.
                if place != option or option not in reading.faulty:
                    reading.fault(option, _explained(option, detail), place=place)


def _check_files(settings: Settings, reading: _Reading) -> None:
    files: list[tuple[str, str, Path]] = [
        (f"broker.{name}", "", path)
        for name in ("ca_file", "cert_file", "key_file")
        if (path := getattr(settings.broker, name)) is not None
    ]
    for option in ("metadata_dsn", "timeseries_dsn"):
        secret: SecretStr | None = getattr(settings, option)
        named = {} if secret is None else dsn_options(secret.get_secret_value())
        files += [(option, f"{name} ", Path(named[name])) for name in DSN_FILES if name in named]
    for option, name, path in files:
        try:
            with path.open("rb"):
                pass
        except OSError as error:
            reading.fault(option, f"{name}{path} cannot be read: {error.strerror}")


def _explained(option: str, detail: ErrorDetails) -> str:
    """Put pydantic's finding into the operator's words."""
    found = "the value" if option in SECRETS else _shown(detail["input"])
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind in FINDINGS:
        return FINDINGS[kind].format(found=found, **context)
    return f"{found}: {detail['msg'][:1].lower()}{detail['msg'][1:]}"


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.8)
    return f"; did you mean {close[0]}?" if close else ""


def _shown(value: object) -> str:
    text = repr(value) if not isinstance(value, (int, float)) or isinstance(value, bool) else str(value)
    text = without_passwords(text)
    return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}…"


def _shown_error(error: Exception) -> str:
    return str(error)[:SHOWN_CHARS]
