"""A network of ours through the contract of models, evaluated in whichever form is the fastest here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

import torch
from torch import nn

from models import accelerator
from models.folders import digest
from models.manifest import Manifest, ModelError, read_manifest
from models.variants import Call, Measured, Variant, fastest, measured
from models.weights import network

N = TypeVar("N", bound=nn.Module)


class Network(ABC, Generic[N]):
    """A subclass says which forms there are, and scores in passes of `variant.rows` rows.

    `MODULE` is made from a version's hyperparameters. `READS`: under which names its normalisation lists
    numbers, what these are, and those that this release makes. `ROWS`: sizes of a pass to be tried on a CPU.
    """

    MODULE: ClassVar[type[nn.Module]]
    READS: ClassVar[Sequence[tuple[str, str, Sequence[str]]]]
    ROWS: ClassVar[Sequence[int]]
    classes: tuple[str, ...]

    def __init__(self, manifest: Manifest, ensemble: N, device: str = "cpu", digest: str = "") -> None:
        self.name, self.version = manifest.name, manifest.version
        self.precondition = manifest.precondition
        self.manifest = manifest
        self._device = torch.device(device)
        self._ensemble = ensemble.eval().to(self._device)
        rows = accelerator.ROWS if self._device.type == "cuda" else self.ROWS
        self._variant = fastest(self._variants(rows), self._example, digest)

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Self:
        """Raises ModelError."""
        manifest = read_manifest(folder)
        if manifest.classes != cls.classes:
            raise ModelError(f"{folder}: {cls.__name__} has the classes {', '.join(cls.classes)}")
        for name, what, numbers in cls.READS:
            if manifest.normalisation.get(name) != list(numbers):
                raise ModelError(f"{folder} was trained on other {what} than are read here: train it again")
        module: Any = network(lambda: cls.MODULE(**manifest.hyperparameters), folder)
        return cls(manifest, module, device, digest(folder))

    @property
    def variant(self) -> Variant:
        """How the network is evaluated here."""
        return self._variant

    def measured(self, rows: Sequence[int] = ()) -> list[Measured]:
        """What each form of the network costs on this machine, in passes of so many rows."""
        return measured(self._variants(rows or self.ROWS), self._example)

    def _variants(self, rows: Sequence[int]) -> list[Variant]:
        calls = self._forms()
        if self._device.type == "cuda":
            calls |= {f"{name}, recorded": accelerator.Recorded(call) for name, call in calls.items()}
        return [Variant(name, n, call) for name, call in calls.items() for n in rows]

    @abstractmethod
    def _forms(self) -> dict[str, Call]:
        """The plain network first."""

    @abstractmethod
    def _example(self, rows: int) -> tuple[torch.Tensor, ...]:
        """Inputs of one pass as they look."""
