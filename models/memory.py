"""A registry in memory, for tests: it says and refuses what the one on MLflow does."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.folders import RegistryError, digest
from models.history import SET, Book, Move, Registered, author, now, numbers
from models.manifest import read_manifest


class MemoryRegistry(Book):
    """Versions stay in the folders that they were registered from, unopened, until `fetch` copies them."""

    uri = "memory"

    def __init__(self) -> None:
        self._versions: dict[str, list[Registered]] = {}
        self._folders: dict[tuple[str, str], Path] = {}
        self._aliases: dict[str, dict[str, str]] = {}
        self._history: dict[str, list[Move]] = {}

    def register(self, folder: Path, note: str = "") -> Registered:
        manifest = read_manifest(folder)
        name, version = manifest.name, manifest.version
        known = self._versions.setdefault(name, [])
        for other in known:
            if other.version == version:
                if other.digest != digest(folder):
                    raise RegistryError(f"{other} is registered with other files: versions never change")
                return other
        made = Registered(
            name, version, len(known) + 1, digest(folder), author(), now(), note, numbers(manifest.metrics)
        )
        known.append(made)
        self._folders[name, version] = folder
        return made

    def names(self) -> list[str]:
        return sorted(self._versions)

    def versions(self, name: str) -> list[Registered]:
        if name not in self._versions:
            raise RegistryError(f"no model {name!r} is registered in memory; there are {self.names()}")
        return list(self._versions[name])

    def aliases(self, name: str) -> dict[str, str]:
        self.versions(name)
        return dict(self._aliases.get(name, {}))

    def alias(
        self,
        name: str,
        alias: str,
        version: str | None,
        note: str = "",
        how: str = SET,
        decision: Mapping[str, Any] | None = None,
    ) -> Move:
        after = None if version is None else self.find(name, version).version
        aliases = self._aliases.setdefault(name, {})
        move = Move(alias, aliases.get(alias), after, author(), now(), note, how, dict(decision or {}))
        self._history.setdefault(name, []).append(move)
        if after is None:
            aliases.pop(alias, None)
        else:
            aliases[alias] = after
        return move

    def history(self, name: str) -> list[Move]:
        self.versions(name)
        return list(self._history.get(name, []))

    def fetch(self, name: str, version: str, into: Path) -> Path:
        known = self.find(name, version)
        target = into / known.version
        if not target.exists():
            shutil.copytree(self._folders[name, known.version], target)
        if digest(target) != known.digest:
            raise RegistryError(f"{target} is not {known} as it was registered")
        return target
