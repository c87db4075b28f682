"""What a registry knows of versions and of their aliases' moves, and the rules of both, wherever kept."""

from __future__ import annotations

import getpass
import os
import socket
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from models.folders import CHALLENGER, CHAMPION, RegistryError

LATEST = "latest"
# How an alias came to move.
PROMOTED, FORCED, ROLLED_BACK, CHALLENGED, SET = "promote", "force", "rollback", "challenge", "set"


@dataclass(frozen=True)
class Registered:
    """A version as the registry has it. `number` is MLflow's, `metrics` the numbers of `model.json`'s."""

    name: str
    version: str
    number: int
    digest: str  # sha256 over its files (models.folders.digest)
    who: str
    when: str  # UTC, ISO 8601
    note: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True)
class Move:
    """An alias was moved, from version `before` to `after` (or None); `decision` is the gate's."""

    alias: str
    before: str | None
    after: str | None
    who: str
    when: str  # UTC, ISO 8601
    note: str = ""
    how: str = SET
    decision: Mapping[str, Any] = field(default_factory=dict)

    @property
    def forced(self) -> bool:
        return self.how == FORCED

    def written(self) -> dict[str, Any]:
        """As a JSON-ready object."""
        return asdict(self)


class Book(ABC):
    """What every registry does with its versions, aliases and moves. A subclass keeps them."""

    uri: str

    @abstractmethod
    def versions(self, name: str) -> list[Registered]:
        """The versions of a model, in the order in which they were registered. Raises RegistryError."""

    @abstractmethod
    def aliases(self, name: str) -> dict[str, str]:
        """Alias -> version. Raises RegistryError."""

    @abstractmethod
    def history(self, name: str) -> list[Move]:
        """Every move of an alias, the oldest first. Raises RegistryError."""

    @abstractmethod
    def alias(
        self,
        name: str,
        alias: str,
        version: str | None,
        note: str = "",
        how: str = SET,
        decision: Mapping[str, Any] | None = None,
    ) -> Move:
        """Move an alias to `version` (None takes it away) and keep who did it, when, why and on what ground.

        Raises RegistryError when the version is not registered.
        """

    def find(self, name: str, version: str) -> Registered:
        """One version; `version` may also be champion, challenger or latest (the one registered last)."""
        found = self.versions(name)
        if version in (CHAMPION, CHALLENGER):
            aliases = self.aliases(name)
            if version not in aliases:
                raise RegistryError(f"{name} has no {version}: see rayfinch models list")
            version = aliases[version]
        for known in found:
            if known.version == version or (version == LATEST and known is found[-1]):
                return known
        there = ", ".join(known.version for known in found) or "none"
        raise RegistryError(f"{name}@{version} is not registered in {self.uri}; of {name} there are {there}")

    def promote(
        self,
        name: str,
        version: str,
        note: str = "",
        how: str = PROMOTED,
        decision: Mapping[str, Any] | None = None,
    ) -> Move:
        """Make a version the champion. It challenges no longer, if it did."""
        move = self.alias(name, CHAMPION, version, note, how, decision)
        if self.aliases(name).get(CHALLENGER) == version:
            self.alias(name, CHALLENGER, None, "it is the champion now", how)
        return move

    def rollback(self, name: str, note: str = "") -> Move:
        """Make the champion before the champion again. Raises RegistryError when there was none."""
        now_champion = self.aliases(name).get(CHAMPION)
        before = champions(self.history(name), now_champion)[:-1]
        if not before:
            raise RegistryError(f"{name} has no champion before {now_champion}: nothing to roll back to")
        return self.alias(name, CHAMPION, before[-1], note, ROLLED_BACK)


def champions(history: Iterable[Move], current: str | None) -> list[str]:
    """The champions up to the current one, without those that were rolled back: the last is `current`."""
    stack: list[str] = []
    for move in history:
        if move.alias != CHAMPION or move.after is None:
            continue
        if move.how == ROLLED_BACK and move.after in stack:
            while stack[-1] != move.after:
                stack.pop()
        elif stack[-1:] != [move.after]:
            stack.append(move.after)
    while stack and stack[-1] != current:  # written down, but the alias did not follow any more
        stack.pop()
    return stack


def main_metric(metrics: Mapping[str, float]) -> tuple[str, float] | None:
    """The metric by which versions are compared: macro-F1 or, where it is not told, the first there is."""
    name = "macro_f1" if "macro_f1" in metrics else next(iter(metrics), None)
    return None if name is None else (name, metrics[name])


def numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """What is a plain number in the metrics of a `model.json`: of held-out data, where it has them."""
    held = metrics.get("held_out", metrics)
    found = held if isinstance(held, dict) else {}
    return {
        name: float(value)
        for name, value in found.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def author() -> str:
    """Who acts: user@host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def now() -> str:
    """UTC to the microsecond; texts sort as times do."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
