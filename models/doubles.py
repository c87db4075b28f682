"""Models without a network: one that says what it is told to, one that fails when it is told to."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa

from models.contract import scores
from models.manifest import ModelError, read_manifest


@dataclass
class Double:
    """A model without a network: says `probabilities` of every alert, or raises what it was told to.

    `asked` holds the number of rows of each call.
    """

    name: str = "double"
    version: str = "1"
    classes: tuple[str, ...] = ("yes", "no")
    inputs: tuple[str, ...] = ("flux",)
    precondition: str = "true"
    probabilities: Sequence[float] = (0.75, 0.25)
    raises: Exception | None = None
    asked: list[int] = field(default_factory=list)

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Self:
        raise ModelError(f"{folder}: a double is made in memory, it has no folder")

    def score(self, table: pa.Table) -> pa.Table:
        self.asked.append(len(table))
        if self.raises is not None:
            raise self.raises
        return scores(self.classes, np.tile(self.probabilities, (len(table), 1)), np.ones(len(table), bool))


class Faulty(Double):
    """A version that can be loaded, and raises on every so many calls, or is slow.

    `hyperparameters` may have "every" (calls) and "seconds_per_alert".
    """

    def __init__(self, folder: Path) -> None:
        manifest = read_manifest(folder)
        super().__init__(manifest.name, manifest.version, manifest.classes, manifest.inputs)
        self.probabilities = [1 / len(self.classes)] * len(self.classes)
        self._every = int(manifest.hyperparameters.get("every", 0))
        self._pause_s = float(manifest.hyperparameters.get("seconds_per_alert", 0))

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Self:
        return cls(folder)

    def score(self, table: pa.Table) -> pa.Table:
        found = super().score(table)
        time.sleep(self._pause_s * len(table))
        if self._every and len(self.asked) % self._every == 0:
            raise RuntimeError(f"this is call {len(self.asked)}")
        return found
