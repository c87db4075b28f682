"""Real versions of a model, to register, promote and spoil: the shipped network of light curves, renamed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from safetensors.numpy import load_file, save_file

from models.contract import open_model, shipped
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
        shutil.copytree(shipped() / like / "1", folder)
        path = folder / "model.json"
        document = json.loads(path.read_text())
        path.write_text(json.dumps({**document, "name": self.name, "version": version, **changes}))
        return folder


def with_golden(folder: Path) -> Path:
    """The version with golden scores of made-up alerts."""
    model = open_model(folder)
    table = alerts(8).select(sorted({path.partition(".")[0] for path in model.inputs}))
    scores = model.score(table)
    for name in scores.column_names:
        table = table.append_column(f"score:{name}", scores[name])
    with pa.OSFile(str(folder / "golden.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    return folder


def with_weights(folder: Path, change: Callable[[np.ndarray], np.ndarray]) -> Path:
    """The version with other weights."""
    weights = load_file(folder / WEIGHTS)
    changed = {
        name: np.asarray(change(tensor), tensor.dtype).reshape(tensor.shape)
        for name, tensor in weights.items()
    }
    save_file(changed, folder / WEIGHTS)
    return folder
