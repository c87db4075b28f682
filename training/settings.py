"""Training settings: defaults of a Config dataclass, a YAML file over them, the command line over that."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

C = TypeVar("C")


class SettingsError(Exception):
    """A settings file cannot be used: which key, what is wrong."""


def settings(kind: type[C], path: Path | None, epochs: int | None = None) -> C:
    """A `kind` (a dataclass of int and float) from its defaults and the file. Raises SettingsError."""
    given = _read(path) if path else {}
    known: dict[str, type] = {f.name: type(f.default) for f in fields(kind)}  # type: ignore[arg-type]  # a dataclass
    if unknown := sorted(set(given) - set(known)):
        raise SettingsError(f"{path}: unknown settings {', '.join(unknown)}; known are {', '.join(known)}")
    for name, value in given.items():
        if (
            isinstance(value, bool)
            or not isinstance(value, int if known[name] is int else (int, float))
            or value < 0
        ):
            raise SettingsError(
                f"{path}: {name} must be a number of type {known[name].__name__}, not {value!r}"
            )
    chosen = kind(**{name: known[name](value) for name, value in given.items()})
    return chosen if epochs is None else replace(chosen, epochs=epochs)  # type: ignore[type-var]


def _read(path: Path) -> dict[str, Any]:
    import yaml

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise SettingsError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise SettingsError(f"{path} must be a YAML mapping of settings")
    return found
