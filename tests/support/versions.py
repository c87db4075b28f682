"""Real versions of a model, to register, promote and spoil: the shipped network of light curves, renamed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from models.contract import open_model, shipped_version
from models.golden import FILE, write_golden
from models.manifest import WEIGHTS
from models.testing import alerts


@dataclass
class Versions:
    """`make("2")` writes version 2 of the model `name` under `root` and returns its folder."""

    name: str
    root: Path

    def make(self, version: str, like: str = "lightcurve", **changes: Any) -> Path:
        """A copy of a shipped version; `changes` are keys of its model.json."""
        folder = self.root / version
        shutil.copytree(shipped_version(like), folder)
        path = folder / "model.json"
        document = json.loads(path.read_text())
        path.write_text(json.dumps({**document, "name": self.name, "version": version, **changes}))
        return folder


def with_golden(folder: Path) -> Path:
    """The version with golden scores of made-up alerts."""
    write_golden(open_model(without_golden(folder)), alerts(8), folder)
    return folder


def without_golden(folder: Path) -> Path:
    """The version without golden scores."""
    (folder / FILE).unlink(missing_ok=True)
    return folder


def with_weights(folder: Path, change: Callable[[np.ndarray], np.ndarray]) -> Path:
    """The version with other weights, and without golden scores."""
    without_golden(folder)
    weights = load_file(folder / WEIGHTS)
    changed = {
        name: np.asarray(change(tensor), tensor.dtype).reshape(tensor.shape)
        for name, tensor in weights.items()
    }
    save_file(changed, folder / WEIGHTS)
    return folder
