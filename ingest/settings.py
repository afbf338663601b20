"""Every option, its type, its default and its limits.

These are plain values: building a `Settings` reads neither the environment nor a file
(`ingest.configuration` does, and adds where each value came from). The tables become the tables of
the TOML file; a nested option is `INGEST_<TABLE>__<OPTION>` in the environment.
A secret is a `SecretStr`, so that printing the settings never prints it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from ingest.addresses import BrokerAddress, broker_address, check_dsn, split_credentials
from ingest.defaults import DEFAULT_LABEL_RULES, DEFAULT_ROUTES
from ingest.errors import ConfigurationError
from ingest.model import MOST_SESSIONS, MOST_UNPROVEN, PayloadFormat
from ingest.operation_settings import MaintainSettings, StatusSettings
from ingest.policy_settings import (
    ChunkIntervalSettings,
    CompressAfterSettings,
    JobEverySettings,
    JobWindowSettings,
    RefreshEndSettings,
    RefreshEverySettings,
    RefreshStartSettings,
    RetainForSettings,
)


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


class BrokerSettings(_Table):
    """The MQTT side; the URL itself is the top-level `broker_url`."""

    client_id: str = Field(default="greenhouse-ingest", min_length=1, max_length=128)
    filters: tuple[str, ...] = Field(
        default=("greenhouse/+/sensors/+", "greenhouse/+/readings", "GREENHOUSE/#"), min_length=1
    )
    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    username: str | None = None
    password: SecretStr | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    keepalive_s: int = Field(default=30, ge=5, le=3600)
    session_expiry_s: int = Field(default=604_800, ge=60, le=0xFFFFFFFF)
    receive_maximum: int = Field(default=20_000, ge=1, le=MOST_UNPROVEN)
    connect_timeout_s: float = Field(default=10.0, gt=0, le=600)
    reconnect_min_s: float = Field(default=0.5, gt=0, le=3600)
    reconnect_max_s: float = Field(default=30.0, gt=0, le=3600)


class WorkersSettings(_Table):
    """Several worker processes that share the subscriptions; without count and group, one by itself."""

    count: int | None = Field(default=None, ge=1, le=MOST_SESSIONS)
    """Processes on this host; None: one, and no supervisor unless there is a group."""
    group: str | None = Field(default=None, min_length=1, max_length=128)
    """The share group, the same on all hosts; None: broker.client_id, if count is set."""
    orphan_after_s: float = Field(default=300.0, gt=0, le=7 * 86_400)
    """How long a session of the group has to be without its process before another empties and ends it."""

    @field_validator("group")
    @classmethod
    def _one_level(cls, group: str | None) -> str | None:
        if group is not None and any(sign in group for sign in "/+#\0"):
            raise ValueError(f"{group!r} holds one of / + #, which no share group may (MQTT 5, 4.8.2)")
        return group


class RouteSettings(_Table):
    """One topic pattern: levels in braces are captured, `+` matches one level unread."""

    topic: str = Field(min_length=1, max_length=1024)
    format: PayloadFormat
    tenant: str | None = None
    """The tenant of a topic that names none."""


class LabelRule(_Table):
    """A label with any one of these tokens is a reading of this type and unit."""

    tokens: tuple[str, ...] = Field(min_length=1)
    """Any one of these whole tokens is enough; compared case-insensitively."""
    sensor_type: str = Field(min_length=1)
    unit: str = Field(min_length=1)
    minimum: float | None = None
    maximum: float | None = None


class DecodeSettings(_Table):
    """Limits of a payload and of its times."""

    max_payload_bytes: int = Field(default=262_144, ge=1024, le=0x0FFFFFFF)
    max_readings: int = Field(default=10_000, ge=1, le=1_000_000)
    max_depth: int = Field(default=16, ge=2, le=200)
    max_label_chars: int = Field(default=200, ge=16, le=65_535)
    max_age_s: float = Field(default=30 * 86_400.0, gt=0, le=50 * 366 * 86_400)
    max_future_s: float = Field(default=300.0, ge=0, le=366 * 86_400)
    ignore: tuple[str, ...] = (
        "GREENHOUSE/RESPONSE/#",
        "GREENHOUSE/STATUS/#",
        "GREENHOUSE/MOBILE/#",
        "SYSTEM/#",
    )
    ignore_retained: bool = True


class ResolveSettings(_Table):
    """How names become ids, and what becomes of values nobody believes."""

    out_of_range: Literal["quarantine", "flag", "accept"] = "quarantine"
    refresh_interval_s: float = Field(default=300.0, gt=0, le=86_400)
    miss_refresh_min_interval_s: float = Field(default=5.0, ge=0, le=3600)
    miss_memory_s: float = Field(default=60.0, ge=0, le=86_400)
    miss_memory_names: int = Field(default=10_000, ge=1, le=10_000_000)


class WriteSettings(_Table):
    """Batching, conflicts and patience with the database."""

    max_batch_rows: int = Field(default=20_000, ge=1, le=1_000_000)
    max_buffered_messages: int = Field(default=40_000, ge=1, le=10_000_000)
    max_buffered_rows: int = Field(default=100_000, ge=1, le=100_000_000)
    max_buffered_bytes: int = Field(default=64 * 1024 * 1024, ge=1024 * 1024)
    conflicting_value: Literal["dead_letter", "keep_first", "replace"] = "dead_letter"
    dead_letters_per_topic_per_hour: int = Field(default=1_200, ge=1, le=1_000_000)
    """Past it they are counted and sampled; a tenant has ten times as many for all its topics."""
    connect_timeout_s: float = Field(default=10.0, gt=0, le=600)
    commit_timeout_s: float = Field(default=60.0, gt=0, le=3600)
    retry_min_s: float = Field(default=0.1, gt=0, le=3600)
    retry_max_s: float = Field(default=15.0, gt=0, le=3600)
    drain_timeout_s: float = Field(default=25.0, gt=0, le=3600)
    """How long a stopping worker waits for its last COMMIT before it leaves the rest to the broker."""


class QualitySettings(_Table):
    """What in the stream of readings becomes an issue in `metadata.data_quality_log`."""

    enabled: bool = True
    window_s: float = Field(default=300.0, gt=0, le=86_400)
    spike_factor: float = Field(default=10.0, ge=2, le=10_000)
    gap_factor: float = Field(default=5.0, ge=1.5, le=10_000)
    min_gap_s: float = Field(default=60.0, ge=1, le=30 * 86_400)
    resolve_after_s: float = Field(default=3600.0, ge=0, le=30 * 86_400)


class ObserveSettings(_Table):
    """Logs, metrics and health."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "console"] = "auto"
    http_host: str = Field(default="127.0.0.1", min_length=1)
    http_port: int | None = Field(default=9108, ge=0, le=65_535)
    """Port of /metrics, /healthz and /readyz; 0 picks a free one, "off" (None) has no server."""
    http_page: bool = False
    """Whether the port also has a page for people, at /; on a loopback address only."""
    stall_s: float = Field(default=60.0, gt=0, le=86_400)
    """Messages waiting this long without a COMMIT make the worker not ready."""
    clock_skew_s: float = Field(default=120.0, ge=1, le=86_400)
    """A gateway whose clock is off by more is named in the log."""
    hang_s: float = Field(default=120.0, ge=1, le=3600)
    """An event loop that stands still for this long ends the process."""

    @field_validator("http_port", mode="before")
    @classmethod
    def _off(cls, value: object) -> object:
        """TOML and the environment have no null: "off" says it."""
        return None if value == "off" else value


class Settings(BaseSettings):
    """All options. Raises pydantic's ValidationError for a bad value; see also `ingest.contradictions`."""

    model_config = SettingsConfigDict(
        env_prefix="INGEST_",
        env_nested_delimiter="__",
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    broker_url: str = "mqtt://127.0.0.1:1883"
    metadata_dsn: SecretStr | None = None
    timeseries_dsn: SecretStr | None = None
    broker: BrokerSettings = BrokerSettings()
    workers: WorkersSettings = WorkersSettings()
    decode: DecodeSettings = DecodeSettings()
    resolve: ResolveSettings = ResolveSettings()
    write: WriteSettings = WriteSettings()
    quality: QualitySettings = QualitySettings()
    observe: ObserveSettings = ObserveSettings()
    status: StatusSettings = StatusSettings()
    maintain: MaintainSettings = MaintainSettings()
    chunk_interval: ChunkIntervalSettings = ChunkIntervalSettings()
    compress_after: CompressAfterSettings = CompressAfterSettings()
    retain_for: RetainForSettings = RetainForSettings()
    refresh_every: RefreshEverySettings = RefreshEverySettings()
    refresh_start: RefreshStartSettings = RefreshStartSettings()
    refresh_end: RefreshEndSettings = RefreshEndSettings()
    job_every: JobEverySettings = JobEverySettings()
    job_window: JobWindowSettings = JobWindowSettings()
    route: tuple[RouteSettings, ...] = Field(
        default=tuple(RouteSettings.model_validate(route) for route in DEFAULT_ROUTES), min_length=1
    )
    label_rule: tuple[LabelRule, ...] = tuple(LabelRule.model_validate(rule) for rule in DEFAULT_LABEL_RULES)

    _sources: dict[str, str] = PrivateAttr(default_factory=dict)
    """Option -> where its value came from; an option not named here has its default."""
    _config_file: Path | None = PrivateAttr(default=None)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 (the signature is pydantic-settings' own)
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 (as above)
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 (as above)
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 (as above)
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take arguments only: `ingest.configuration` reads the layers, and knows which is which."""
        return (init_settings,)

    @model_validator(mode="before")
    @classmethod
    def _credentials_out_of_url(cls, data: Any) -> Any:  # noqa: ANN401 (pydantic hands over raw input)
        """Move the user and password of a broker URL to their own options: URLs are printed."""
        url = data.get("broker_url") if isinstance(data, dict) else None
        broker = data.get("broker", {}) if isinstance(data, dict) else None
        if isinstance(broker, BrokerSettings):
            broker = broker.model_dump(exclude_unset=True)
        if not isinstance(url, str) or not isinstance(broker, dict):
            return data
        bare, username, password = split_credentials(url)
        moved = {option: text for option, text in (("username", username), ("password", password)) if text}
        return data | {"broker_url": bare, "broker": moved | broker} if moved else data

    @field_validator("broker_url")
    @classmethod
    def _known_broker_url(cls, url: str) -> str:
        broker_address(url)
        return url

    @field_validator("metadata_dsn", "timeseries_dsn")
    @classmethod
    def _known_dsn(cls, dsn: SecretStr | None) -> SecretStr | None:
        if dsn is not None:
            check_dsn(dsn.get_secret_value())
        return dsn

    @property
    def broker_address(self) -> BrokerAddress:
        """The `broker_url` taken apart."""
        return broker_address(self.broker_url)

    @property
    def share_group(self) -> str | None:
        """The group whose sessions share the subscriptions; None for a worker by itself."""
        return self.workers.group or (self.broker.client_id if self.workers.count is not None else None)

    def dsn(self, database: Literal["metadata", "timeseries"]) -> str:
        """Return one database's DSN in clear. Raises ConfigurationError when it is not set."""
        secret: SecretStr | None = getattr(self, f"{database}_dsn")
        if secret is None:
            raise ConfigurationError([missing_dsn(database)])
        return secret.get_secret_value()

    @property
    def config_file(self) -> Path | None:
        """The TOML file that was read; None without one."""
        return self._config_file

    def source_of(self, option: str) -> str:
        """Say where the value of a dotted *option* came from: a variable, a file, or "default"."""
        return self._sources.get(option, "default")


def option_names() -> tuple[str, ...]:
    """Return every option as `name` or `table.name`, in the order of the models; no values."""
    names: list[str] = []
    for name, field in Settings.model_fields.items():
        table = field.annotation
        if isinstance(table, type) and issubclass(table, BaseModel):
            names.extend(f"{name}.{option}" for option in table.model_fields)
        else:
            names.append(name)
    return tuple(names)


def missing_dsn(database: str) -> str:
    """Return the fault line of a DSN that a command needs and nobody set."""
    return (
        f"{database}_dsn: not set; set INGEST_{database.upper()}_DSN or INGEST_{database.upper()}_DSN_FILE "
        f"to postgresql://user:password@host:5432/greenhouse_{database}"
    )
