"""`model.json`: what a version says of itself. Read strictly, because it names code that will be run."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FILE = "model.json"
WEIGHTS = "weights.safetensors"
MAX_BYTES = 1 << 20

_NAME = re.compile(r"[a-z][a-z0-9-]{0,63}")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ARCHITECTURE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


class ModelError(Exception):
    """A model version cannot be used. The message says which folder or table, what is wrong, what to do."""


@dataclass(frozen=True)
class Manifest:
    """The fields of `model.json`.

    `architecture` is "module:Class"; `inputs` are column paths of the alert table ("flux", "history",
    "source.magpsf"); `precondition` is a SQL predicate over the alert table, evaluated by the caller;
    `calibration` holds the temperature that was fitted on held-out objects; `data` holds, per file the
    version was trained on, its sha256 and size; `training` the command line, seed and configuration.
    """

    name: str
    version: str
    architecture: str
    classes: tuple[str, ...]
    inputs: tuple[str, ...]
    precondition: str = "true"
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    normalisation: Mapping[str, Any] = field(default_factory=dict)
    calibration: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    code_revision: str = "unknown"
    created: str = ""

    def write(self, folder: Path) -> None:
        """Write `model.json` into an existing folder."""
        (folder / FILE).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> Manifest:
    """Read and check `folder`/model.json. Raises ModelError with one sentence for anything odd in it."""
    path = folder / FILE
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ModelError(f"{path} is larger than {MAX_BYTES} bytes: this is not a model.json")
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{folder} is not a model version: it has no {FILE}") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(raw, dict):
        raise ModelError(f"{path} must be a JSON object")
    known = set(Manifest.__dataclass_fields__)
    if unknown := sorted(set(raw) - known):
        raise ModelError(
            f"{path} has unknown keys {', '.join(unknown)}: it was written by another version of Rayfinch"
        )
    for key in ("name", "version", "architecture", "precondition", "code_revision", "created"):
        if not isinstance(raw.get(key, ""), str):
            raise ModelError(f"{path}: {key} must be a string")
    for key, pattern in (("name", _NAME), ("version", _VERSION), ("architecture", _ARCHITECTURE)):
        if not pattern.fullmatch(raw.get(key, "")):
            raise ModelError(f"{path}: {key} {raw.get(key)!r} is not of the form {pattern.pattern}")
    for key in ("classes", "inputs"):
        values = raw.get(key)
        if not isinstance(values, list) or not values or not all(isinstance(v, str) and v for v in values):
            raise ModelError(f"{path}: {key} must be a list of names")
        if len(set(values)) != len(values):
            raise ModelError(f"{path}: {key} names something twice")
        raw[key] = tuple(values)
    for key in ("hyperparameters", "normalisation", "calibration", "training", "data", "metrics"):
        if not isinstance(raw.get(key, {}), dict):
            raise ModelError(f"{path}: {key} must be an object")
    return Manifest(**raw)


def check_version(version: str, folder: Path) -> str:
    """The version itself. Raises ModelError when it cannot be a version's name."""
    if not _VERSION.fullmatch(version):
        raise ModelError(f"{folder}: {version!r} cannot be a version: use letters, digits, '.', '_' and '-'")
    return version
