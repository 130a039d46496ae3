"""Settings: read once, whole, from ``SESSIONTAPE_…`` variables and ``sessiontape.toml``.

A variable wins over the file, the file over the default. The table of docs/reference/settings.md
is made from the fields below.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias, TypeVar

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from streams.errors import ConfigError
from streams.intervals import MINUTE_NS, interval_name, interval_ns

__all__ = ["Settings", "load"]

PREFIX = "SESSIONTAPE_"
FILE = Path("sessiontape.toml")
S = TypeVar("S", bound="Settings")
Intervals: TypeAlias = str
"""Lengths of bars, whole minutes, with commas between."""
NAMESPACE = re.compile(r"[a-zA-Z0-9_-]{1,100}")


class Settings(BaseSettings):
    """Everything that can be set from outside."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, toml_file=FILE, extra="forbid", frozen=True, validate_default=True
    )

    bootstrap_servers: str = Field(
        "", description="Kafka brokers, host:port with commas between; empty: the local broker."
    )
    namespace: str = Field("tape", description="Prefix of every topic and group.")
    partitions: int = Field(1, ge=1, le=1024, description="Shards of a namespace that is made.")
    replication: int = Field(1, ge=1, le=9, description="Replicas of the topics that are made.")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How the brokers are spoken to."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="SASL mechanism, for SASL_PLAINTEXT and SASL_SSL."
    )
    sasl_username: str = Field("", description="SASL user name.")
    sasl_password: SecretStr = Field(SecretStr(""), description="SASL password.")
    ssl_ca_location: Path | None = Field(None, description="CA certificates (PEM).")
    ssl_certificate_location: Path | None = Field(None, description="Client certificate (PEM).")
    ssl_key_location: Path | None = Field(None, description="Key of the client certificate (PEM).")
    ssl_key_password: SecretStr = Field(SecretStr(""), description="Password of that key.")
    schema_registry_url: str = Field(
        "", description="Schema Registry; with it, messages carry Confluent's wire format."
    )
    data_dir: Path = Field(
        Path(".sessiontape"), description="Folder of the local broker, chDB, logs and state files."
    )
    cache_dir: Path | None = Field(
        None, description="Folder of the broker's jars; default: the user's cache folder."
    )
    calendar: str = Field("XNYS", description="Calendar by its exchange_calendars name.")
    hours: str = Field(
        "regular",
        description="regular, extended, or HH:MM-HH:MM in the calendar's time zone.",
    )
    speed: str = Field("max", description="max, or tape seconds a wall second: 1 is real time.")
    session_timeout_s: float = Field(
        60.0, gt=0, description="Seconds without progress until a session is played incomplete."
    )
    on_timeout: Literal["go_on", "stop"] = Field(
        "go_on", description="What a replay does after a session that timed out."
    )
    lockstep_timeout_s: float = Field(
        10.0, gt=0, description="Seconds after which a silent reader is left out of lock-step."
    )
    lateness_s: float = Field(
        2.0,
        ge=0,
        le=3600,
        description="Seconds behind the end of a minute after which a live tape waits no more.",
    )
    catchup_threshold_s: float = Field(
        30.0, gt=0, description="Seconds behind the wall clock at which a live tape is inactive."
    )
    prefetch_sessions: int = Field(
        2, ge=0, le=50, description="Sessions asked for ahead of the one that plays."
    )
    trailing_sessions: int = Field(
        5,
        ge=0,
        le=1000,
        description="Sessions that stay on the session topic behind the running one.",
    )
    derived_intervals: Intervals = Field(
        "5m,15m", description="Lengths of the bars that the upkeep derives; empty for none."
    )
    historical_intervals: Intervals = Field(
        "1m,5m", description="Lengths of the bars of trailing sessions that are loaded at start."
    )
    gap_attempts: int = Field(
        5, ge=1, le=100, description="Requests for a gap until it is given up."
    )
    gap_backoff_s: float = Field(
        0.05, gt=0, description="Wait before a gap's second request; it doubles with each."
    )
    gap_timeout_s: float = Field(
        10.0, gt=0, description="Seconds until a request without an answer counts as failed."
    )
    gap_requests: int = Field(
        4, ge=1, le=1000, description="Gap requests of a shard that may be unanswered at once."
    )
    live_gap_backoff_s: float = Field(
        2.0,
        gt=0,
        description="Wait before a gap's second request in a live run; it doubles with each.",
    )
    source_timeout_s: float = Field(
        5.0,
        gt=0,
        description="Seconds a source may take for an answer to a gap until the next is asked.",
    )
    clickhouse_dsn: str = Field(
        "", description="clickhouse://user:password@host:port/database; empty: chDB in data_dir."
    )
    alpaca_key_id: SecretStr = Field(SecretStr(""), description="Key id of the Alpaca account.")
    alpaca_secret_key: SecretStr = Field(
        SecretStr(""), description="Secret key that belongs to it."
    )
    store_sessions: int = Field(
        0, ge=0, description="Sessions that the sink keeps in ClickHouse or chDB; 0 keeps all."
    )
    broker_session_timeout_s: float = Field(
        6.0, ge=1, description="Seconds after which Kafka gives a dead worker's shards away."
    )
    flush_interval_ms: int = Field(
        500, ge=10, description="How often the session_data tables are flushed."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least level that the workers log."
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="How the workers log: lines for people, or a JSON object a line."
    )
    metrics_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Port at which a worker serves /metrics and /health; 0: none. The workers of "
        "a local stack take the free ports from there on, one each.",
    )
    metrics_host: str = Field(
        "127.0.0.1", description="Address of this machine at which that port is served."
    )

    @field_validator("namespace")
    @classmethod
    def _namespace(cls, value: str) -> str:
        if not NAMESPACE.fullmatch(value):
            msg = "letters, digits, - and _, at most 100 of them"
            raise ValueError(msg)
        return value

    @field_validator("derived_intervals", "historical_intervals")
    @classmethod
    def _intervals(cls, value: str) -> str:
        try:
            lengths = [interval_ns(part.strip()) for part in value.split(",") if part.strip()]
        except ConfigError as exc:
            raise ValueError(str(exc)) from exc
        if any(length % MINUTE_NS for length in lengths):
            msg = "whole minutes, such as 5m,15m,1h"
            raise ValueError(msg)
        return ",".join(interval_name(length) for length in sorted(set(lengths)))

    @field_validator("speed")
    @classmethod
    def _speed(cls, value: str) -> str:
        if value != "max":
            try:
                factor = float(value)
            except ValueError:
                factor = 0.0
            if not 0 < factor < float("inf"):
                msg = "max or a number above 0"
                raise ValueError(msg)
        return value

    @property
    def derived(self) -> tuple[str, ...]:
        """Lengths of the bars that are derived, ascending."""
        return tuple(filter(None, self.derived_intervals.split(",")))

    @property
    def historical(self) -> tuple[str, ...]:
        """Lengths of the bars of trailing sessions that are loaded, ascending."""
        return tuple(filter(None, self.historical_intervals.split(",")))

    @property
    def speed_factor(self) -> float:
        """Tape seconds a wall second; 0 for as fast as it goes."""
        return 0.0 if self.speed == "max" else float(self.speed)

    def but(self, **changes: Any) -> Self:
        """Return a copy with some fields changed, checked as if they came from outside."""
        return _checked(type(self), self.model_dump() | changes)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read arguments first, then the environment, then the file."""
        return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls))


def _checked(cls: type[S], values: dict[str, Any]) -> S:
    try:
        return cls(**values)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        msg = f"{FILE} can't be read: {exc}"
        raise ConfigError(msg) from exc
    except ValidationError as exc:
        first = exc.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        variable = f"{PREFIX}{name.upper()}"
        allowed = cls.model_fields[name].description if name in cls.model_fields else ""
        is_secret = name in cls.model_fields and cls.model_fields[name].annotation is SecretStr
        given = "" if is_secret else f" is {first['input']!r}"
        msg = f"{variable} (or {name} in {FILE}){given}: {first['msg']}. {allowed}".strip()
        raise ConfigError(msg) from exc


@cache
def load() -> Settings:
    """Return the settings of this process, read at the first call.

    Raises
    ------
    ConfigError
        A value that can't be used: the message names variable, value and what is allowed.
    """
    return _checked(Settings, {})
