"""Real versions of a model, to register, promote and spoil: the shipped network of light curves, renamed."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.contract import shipped


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
