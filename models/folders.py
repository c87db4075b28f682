"""A model's folder on this machine: a folder for each version, and `aliases.json`, which says who serves.

A stream reads these folders and never asks the registry; `sync` brings them up to date.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from models.manifest import FILE, ModelError

ALIASES = "aliases.json"
CHAMPION, CHALLENGER = "champion", "challenger"
# What a version may consist of: data. Nothing that is code, or that is code once it is unpickled.
DATA = {".json", ".safetensors", ".onnx", ".arrow", ".md", ".txt"}


class RegistryError(Exception):
    """The registry, or what it holds, cannot be used: which one, what is wrong, what to do."""


class Source(Protocol):
    """What `sync` asks of a registry."""

    def aliases(self, name: str) -> dict[str, str]:
        """Alias -> version. Raises RegistryError."""
        ...

    def fetch(self, name: str, version: str, into: Path) -> Path:
        """Make `into`/<version> and return it. Raises RegistryError."""
        ...


@dataclass(frozen=True)
class Synced:
    """What `sync` did for one model: the aliases that its folder has now, and what could not be fetched."""

    name: str
    aliases: Mapping[str, str]
    problems: tuple[str, ...] = field(default=())


def contents(folder: Path) -> list[Path]:
    """The files of the version in `folder`, by name. Raises ModelError for what is not plain data."""
    if not (folder / FILE).is_file():
        raise ModelError(f"{folder} is not a model version: it has no {FILE}")
    found = sorted(folder.iterdir(), key=lambda path: path.name)
    for path in found:
        if path.is_symlink() or not path.is_file():
            raise ModelError(f"{path} is not a plain file: a version holds files only, no links or folders")
        if path.suffix not in DATA or path.name.startswith("."):
            raise ModelError(
                f"{path} does not belong to a version, which holds {', '.join(sorted(DATA))}: "
                "take it away (`rayfinch models import` makes a version of other formats)"
            )
    return found


def digest(folder: Path) -> str:
    """sha256 (hex) over the version's files: what `sha256sum * | sha256sum` prints. Raises ModelError."""
    lines = [f"{_sha256(path)}  {path.name}\n" for path in contents(folder)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_aliases(folder: Path) -> dict[str, str]:
    """Alias -> version of the model in `folder`; empty where there is no aliases.json. Raises ModelError."""
    path = folder / ALIASES
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
        raise ModelError(f"{path} must be a JSON object of aliases and versions: delete it and sync again")
    return found


def write_aliases(folder: Path, aliases: Mapping[str, str]) -> None:
    """Replace `folder`/aliases.json in one step: a reader sees the old one or the new one."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=folder, prefix=f".{ALIASES}-", delete=False) as file:
        json.dump(dict(sorted(aliases.items())), file)
    os.chmod(file.name, 0o644)  # a temporary file is its owner's alone
    os.replace(file.name, folder / ALIASES)


def sync(registry: Source, names: Iterable[str], folder: Path) -> list[Synced]:
    """Fetch champion and challenger of each name into `folder`/<name>/, then write its aliases.json.

    An alias whose version cannot be fetched stays where it was, and the reason is told; the others move.
    Raises RegistryError when the registry itself does not answer.
    """
    return [_sync(registry, name, folder / name) for name in names]


def _sync(registry: Source, name: str, folder: Path) -> Synced:
    before = read_aliases(folder)
    after: dict[str, str] = {}
    problems = []
    wanted = registry.aliases(name)
    for alias in (CHAMPION, CHALLENGER):
        if alias not in wanted:
            continue
        try:
            registry.fetch(name, wanted[alias], folder)
            after[alias] = wanted[alias]
        except (RegistryError, ModelError, OSError) as error:
            problems.append(f"{alias} {name}@{wanted[alias]}: {error}")
            if alias in before:
                after[alias] = before[alias]
    if after != before:
        write_aliases(folder, after)
    return Synced(name, after, tuple(problems))
