"""What is wrong with a configuration, where, and what was probably meant."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from rayfinch.masking import is_secret, masked_text

Keys = tuple[str, ...]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong. `where`: the key's path (`source.topics`), in a file's line or a variable."""

    where: str
    what: str
    line: int | None = None
    variable: str | None = None

    def __str__(self) -> str:
        place = self.variable or (f"line {self.line}" if self.line else "")
        return ": ".join(part for part in (place, self.where, self.what) if part)


class ConfigError(ValueError):
    """A configuration that cannot be used. `problems` lists everything that is wrong with it."""

    def __init__(self, path: str, problems: Sequence[Problem]) -> None:
        self.path, self.problems = path, tuple(problems)
        super().__init__(f"{path}: " + "; ".join(str(p) for p in self.problems))


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[Keys, int]]:
    """The document, and the line of each of its keys."""
    try:
        text = path.read_text()
    except OSError as error:
        raise ConfigError(str(path), [Problem("", f"cannot be read: {error.strerror}")]) from error
    try:
        document, node = yaml.safe_load(text), yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or "cannot be parsed"
        problem = Problem("", f"is not YAML: {what}", mark.line + 1 if mark else None)
        raise ConfigError(str(path), [problem]) from error
    if not isinstance(document, dict):
        raise ConfigError(str(path), [Problem("", "is empty or not a mapping of keys; see configs/ztf.yaml")])
    lines: dict[Keys, int] = {}
    for key, line in _lines(node, ()):
        if key in lines:
            first = f"written twice, in lines {lines[key]} and {line}; keep one"
            raise ConfigError(str(path), [Problem(".".join(key), first)])
        lines[key] = line
    return document, lines


def describe(
    error: ValidationError, model: type[BaseModel], lines: Mapping[Keys, int], variables: Mapping[Keys, str]
) -> list[Problem]:
    """One problem for each of pydantic's errors, in our words."""
    problems: list[Problem] = []
    for e in error.errors(include_url=False):
        path = tuple(str(part) for part in e["loc"] if part not in ("[key]", "str", "bool", "int", "float"))
        what = _sentence(e["type"], e["msg"], e.get("input"), path, model)
        variable = next((v for k, v in variables.items() if k[: len(path)] == path), None) if path else None
        line = next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), None)
        if any(p.where == ".".join(path) for p in problems):
            continue  # a union's other members: one sentence is enough
        problem = Problem(".".join(path), what, None if e["type"] == "missing" else line, variable)
        problems.append(problem)
    return sorted(problems, key=lambda p: p.line or 0)


def _sentence(kind: str, message: str, given: Any, path: Keys, model: type[BaseModel]) -> str:
    if kind == "extra_forbidden":
        return f"unknown key{_meant(path, model)}"
    if kind == "missing":
        return "is missing"
    if kind == "value_error":
        return message.removeprefix("Value error, ")
    if kind in ("string_type", "bool_type", "int_type", "float_type") and "kafka" in path:
        return "should be a text, a number, true or false"
    plain = isinstance(given, str | int | float | bool) and not any(is_secret(part) for part in path)
    shown = f", not {masked_text(repr(given))}" if plain else ""
    return message[0].lower() + message[1:] + shown


def _meant(path: Keys, model: type[BaseModel]) -> str:
    """The nearest known key: beside the unknown one, else one of the same name elsewhere."""
    known = list(_keys(model, ()))
    parents = [part for part in path[:-1] if not part.isdigit()]
    beside = [k for k in known if list(k[:-1]) == parents]
    near = difflib.get_close_matches(path[-1], [k[-1] for k in beside], n=1)
    if near:
        return f"; did you mean {'.'.join([*path[:-1], near[0]])}?"
    leaves = difflib.get_close_matches(path[-1], {k[-1] for k in known}, n=1, cutoff=0.8)
    if leaves:
        elsewhere = next(".".join(k) for k in known if k[-1] == leaves[0])
        return f"; did you mean {elsewhere}?"
    return f"; known here: {', '.join(sorted(k[-1] for k in beside))}" if beside else ""


def _keys(model: type[BaseModel], path: Keys) -> Iterator[Keys]:
    for name, field in model.model_fields.items():
        yield (*path, name)
        for inner in _models(field.annotation):
            yield from _keys(inner, (*path, name))


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections inside an annotation: of X, X | None, list[X], dict[str, X]."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        if issubclass(annotation, BaseModel):
            yield annotation
        return
    for argument in typing.get_args(annotation):
        yield from _models(argument)


def _lines(node: yaml.Node | None, path: Keys) -> Iterator[tuple[Keys, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*path, str(key.value))
            if key.value != "<<":
                yield here, key.start_mark.line + 1
                yield from _lines(value, here)
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            yield (*path, str(i)), value.start_mark.line + 1
            yield from _lines(value, (*path, str(i)))
