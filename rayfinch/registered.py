"""Which registry a command means, and the versions that it names: folders, or NAME@VERSION."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from models.registry import Registry
    from rayfinch.config import Settings

Config = Annotated[
    Path | None, typer.Option("--config", help="The deployment's YAML file: its `registry` is meant.")
]
Uri = Annotated[
    str | None,
    typer.Option(
        "--registry",
        help="The registry: sqlite:///FILE or an MLflow server's URL. "
        "Without it and --config: ./rayfinch-data/registry.db.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
Version = Annotated[str, typer.Argument(metavar="NAME@VERSION", help="A registered version.")]
Either = Annotated[str, typer.Argument(metavar="FOLDER|NAME@VERSION", help="A version.")]
Note = Annotated[str, typer.Option("--note", help="Why; it is kept in the history.")]


def opened(config: Path | None, uri: str | None) -> tuple[Registry, Settings | None]:
    """The registry at `uri`, the configuration's, or the one in ./rayfinch-data; and the configuration."""
    from models.registry import Registry
    from rayfinch.config import RegistrySettings, load
    from rayfinch.problems import ConfigError, Problem

    settings = load(config) if config else None
    if uri is None and settings is not None:
        if settings.registry is None:
            what = "is null: set registry.uri there, or say which one with --registry URI"
            raise ConfigError(str(config), [Problem("registry", what)])
        uri = settings.registry.uri
    return Registry(uri or RegistrySettings().uri), settings


def named(text: str) -> tuple[str, str]:
    """NAME@VERSION in its two parts. Raises RegistryError."""
    from models.folders import RegistryError

    name, _, version = text.partition("@")
    if not name or not version:
        raise RegistryError(
            f"{text!r} is not NAME@VERSION; VERSION may be champion, challenger or latest: stamps@latest"
        )
    return name, version


@contextmanager
def folders(registry: Registry, *texts: str) -> Iterator[list[Path]]:
    """The folders of versions, each given as a folder or as NAME@VERSION (fetched, for this while)."""
    with tempfile.TemporaryDirectory(prefix="rayfinch-versions-") as room:
        found = []
        for text in texts:
            if Path(text).is_dir():
                found.append(Path(text))
            else:
                name, version = named(text)
                found.append(registry.fetch(name, version, Path(room, name)))
        yield found
