"""A deployment's configuration: one YAML file, overridden by the environment; unknown keys are refused.

`load(path)` reads the file, then `RAYFINCH_<SECTION>__<KEY>` (`RAYFINCH_BATCH__MAX_ALERTS=500`), then what
the caller sets. Under `kafka` and `source.registry`, whose keys have dots, an underscore in the variable's
name is one: `RAYFINCH_SOURCE__KAFKA__SASL_PASSWORD` sets `sasl.password`. configs/ztf.yaml has every key.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ByteSize, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsError

from rayfinch.masking import masked, masked_text
from rayfinch.problems import ConfigError, Problem, describe, read_yaml

__all__ = ["ConfigError", "Settings", "load", "shipped"]

PREFIX = "RAYFINCH_"
# librdkafka's settings whose names have an underscore of their own.
_UNDERSCORED = {"log_level"}

# Values go to librdkafka as they are.
Scalar = str | bool | int | float


def _like(pattern: str, meaning: str) -> AfterValidator:
    """A text that matches `pattern`, or a sentence that says what it should be."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"{masked_text(text)!r} is not {meaning}")
        return text

    return AfterValidator(check)


Name = Annotated[
    str, _like(r"[a-z0-9][a-z0-9._-]*", "a name of lower-case letters, digits, '.', '_' and '-'")
]
Survey = Annotated[str, _like(r"[a-z][a-z0-9_]*", "a survey's name: ztf, lsst, …")]
Prefix = Annotated[
    str, _like(r"[A-Za-z0-9._-]{1,100}", "a beginning of topics' names: letters, digits, '.', '_', '-'")
]
DatabaseURL = Annotated[
    str,
    _like(
        r"(sqlite|postgresql\+psycopg)://.*",
        "sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE",
    ),
]
RegistryURI = Annotated[
    str, _like(r"sqlite:///.+|https?://\S+", "sqlite:///FILE or an MLflow server's http(s)://HOST:PORT")
]
RayAddress = Annotated[
    str, _like(r"local|auto|ray://\S+|[^/\s]+:\d+", "local, auto, HOST:PORT or ray://HOST:PORT")
]


def _with_bootstrap(kafka: dict[str, Scalar]) -> dict[str, Scalar]:
    if not kafka.get("bootstrap.servers"):
        raise ValueError("bootstrap.servers is missing: the addresses of the cluster, HOST:PORT,HOST:PORT")
    return kafka


Kafka = Annotated[dict[str, Scalar], AfterValidator(_with_bootstrap)]


def _compiles(topic: str) -> str:
    if topic.startswith("^"):
        try:
            re.compile(topic)
        except re.error as error:
            raise ValueError(f"{topic!r} is not a regular expression: {error}") from error
    elif not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", topic):
        raise ValueError(f"{topic!r} is not a topic's name; a regular expression begins with ^")
    return topic


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, coerce_numbers_to_str=True, hide_input_in_errors=True
    )

    def __repr__(self) -> str:
        # Settings end up in logs and tracebacks; their secrets must not.
        return f"{type(self).__name__}({masked(self.model_dump(mode='json'))})"

    __str__ = __repr__


class Source(_Section):
    """Where the packets come from."""

    kafka: Kafka
    topics: list[Annotated[str, AfterValidator(_compiles)]] = Field(min_length=1)
    start: Literal["earliest", "latest"] = "earliest"
    schemas: Path | None = None
    registry: dict[str, Scalar] | None = None
    refresh_s: float = Field(default=5.0, gt=0)

    @model_validator(mode="after")
    def _one_source_of_schemas(self) -> Source:
        if self.schemas is not None and self.registry is not None:
            raise ValueError("schemas (a folder) and registry (a server) exclude each other: keep one")
        if self.registry is not None and not self.registry.get("url"):
            raise ValueError("registry.url is missing: the schema registry's address")
        return self


class Batch(_Section):
    """When a batch leaves, and how many are under way."""

    max_alerts: int = Field(default=2000, ge=1, le=100_000)
    max_bytes: ByteSize = Field(default=ByteSize(256 * 2**20), ge=2**20)
    deadline_s: float = Field(default=0.2, ge=0)
    in_flight: int = Field(default=2, ge=1, le=8)


class Model(_Section):
    """A model that scores the stream's alerts."""

    name: Name
    version: str | None = None
    replicas: int = Field(default=1, ge=1)
    timeout_s: float = Field(default=15.0, gt=0)
    gpus: float = Field(default=0.0, ge=0)


class RegistrySettings(_Section):
    """Where the versions of models are registered, and how often its aliases are looked at."""

    uri: RegistryURI = "sqlite:///rayfinch-data/registry.db"
    poll_s: float = Field(default=2.0, gt=0)


class Rule(_Section):
    """How alerts look in a topic."""

    packet: Literal["full", "no-cutouts", "slim"]
    framing: Literal["plain", "fink"] = "plain"


class Publish(_Section):
    """What goes out, and to which cluster."""

    kafka: Kafka
    prefix: Prefix = "rayfinch"
    threshold: float = Field(default=0.5, ge=0, le=1)
    thresholds: dict[str, Annotated[float, Field(ge=0, le=1)]] = {}
    all: Rule | None = Rule(packet="full")
    classes: Rule | None = Rule(packet="slim")
    topics: dict[str, Rule] = {}
    partitions: int = Field(default=4, ge=1)
    replication: int = Field(default=1, ge=-1)
    topic_config: dict[str, Scalar] = {}


class ArchiveSettings(_Section):
    """Where every alert is kept."""

    uri: str = "rayfinch-data/archive"
    storage_options: dict[str, str] = {}
    compact_every_s: float | None = Field(default=600.0, gt=0)


class DatabaseSettings(_Section):
    """Where objects, offsets and batches are kept."""

    url: DatabaseURL = "sqlite:///rayfinch-data/rayfinch.db"


class RaySettings(_Section):
    """Where the work runs."""

    address: RayAddress = "local"
    num_cpus: float | None = Field(default=None, gt=0)


class Settings(_Section):
    """One stream's whole configuration. Paths are relative to the current directory."""

    stream: Name
    survey: Survey
    source: Source
    batch: Batch = Batch()
    models: list[Model] = []
    models_dir: Path | None = None
    registry: RegistrySettings | None = None
    publish: Publish
    archive: ArchiveSettings = ArchiveSettings()
    database: DatabaseSettings = DatabaseSettings()
    ray: RaySettings = RaySettings()
    lease_ttl_s: float = Field(default=10.0, ge=1)
    watchdog_s: float = Field(default=20.0, gt=0)

    @property
    def models_folder(self) -> Path | None:
        """Where the models' folders lie (those of a registry are fetched there); None: those we ship."""
        if self.models_dir is None and self.registry is not None:
            return Path("rayfinch-data/models")
        return self.models_dir

    @model_validator(mode="after")
    def _models_differ(self) -> Settings:
        names = [m.name for m in self.models]
        if twice := {n for n in names if names.count(n) > 1}:
            raise ValueError(
                f"models: {', '.join(sorted(twice))} is listed twice; a stream runs one of a name"
            )
        return self


def load(path: str | Path, overrides: Mapping[str, Any] | None = None) -> Settings:
    """The effective configuration: the file, then the environment, then `overrides` (nested like the file).

    Raises ConfigError, which names the key (and its line or environment variable) and what to write instead.
    """
    document, lines = read_yaml(Path(path))
    environment = _environment()
    merged = _merge(_merge(document, environment), overrides or {})
    try:
        return Settings.model_validate(merged)
    except ValidationError as error:
        problems = describe(error, Settings, lines, _variables(environment))
    raise ConfigError(str(path), problems)  # outside: pydantic's own message would print the secrets


def shipped(name: str) -> Path:
    """The file of a configuration that Rayfinch brings: `ztf`, `lsst` or `demo`."""
    # Of a checkout, or where a wheel puts its data files.
    for folder in (
        Path(__file__).parents[1] / "configs",
        Path(sys.prefix) / "share" / "rayfinch" / "configs",
    ):
        if (path := folder / f"{name}.yaml").exists():
            return path
    raise FileNotFoundError(errno.ENOENT, "no such configuration", f"configs/{name}.yaml")


class _Declared(Settings, BaseSettings):  # type: ignore[misc]  # SettingsConfigDict is a ConfigDict
    """Settings as pydantic-settings wants them, to look up their variables in the environment."""


class _Variables(EnvSettingsSource):
    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """JSON, or for lists simply a,b,c."""
        if isinstance(value, str) and not value.lstrip().startswith(("[", "{", '"')) and value != "null":
            return [v.strip() for v in value.split(",")]
        return super().decode_complex_value(field_name, field, value)


def _environment() -> dict[str, Any]:
    for variable in os.environ:
        section, nested, _ = variable.removeprefix(PREFIX).lower().partition("__")
        if variable.startswith(PREFIX) and nested and section not in Settings.model_fields:
            sections = ", ".join(Settings.model_fields).upper()
            raise ConfigError(variable, [Problem("", f"no such section; there are {sections}")])
    try:
        found = _Variables(_Declared, env_prefix=PREFIX, env_nested_delimiter="__")()
    except SettingsError as error:
        raise ConfigError("environment", [Problem("", f"{error}: {error.__cause__}")]) from None
    for section, key in (("source", "kafka"), ("publish", "kafka"), ("source", "registry")):
        dotted = found.get(section, {}).get(key) if isinstance(found.get(section), dict) else None
        if isinstance(dotted, dict):
            found[section][key] = {
                k if k in _UNDERSCORED else k.replace("_", "."): v for k, v in dotted.items()
            }
    return found


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` over `below`; sections are merged key by key, everything else replaced."""
    merged = dict(below)
    for key, value in above.items():
        inner = merged.get(key)
        both = isinstance(inner, Mapping) and isinstance(value, Mapping)
        merged[key] = _merge(inner, value) if both else value  # type: ignore[arg-type]  # both are mappings
    return merged


def _variables(environment: Mapping[str, Any], path: tuple[str, ...] = ()) -> dict[tuple[str, ...], str]:
    """Key path -> the environment variable that set it."""
    found: dict[tuple[str, ...], str] = {}
    for key, value in environment.items():
        here = (*path, key)
        if isinstance(value, Mapping):
            found |= _variables(value, here)
        else:
            found[here] = PREFIX + "__".join(here).upper().replace(".", "_")
    return found
