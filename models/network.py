"""A network of ours through the contract of models, evaluated in whichever form is the fastest here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Generic, TypeVar

import torch
from torch import nn

from models import accelerator
from models.manifest import Manifest
from models.variants import Call, Measured, Variant, fastest, measured

N = TypeVar("N", bound=nn.Module)


class Network(ABC, Generic[N]):
    """A subclass says which forms there are, and scores in passes of `variant.rows` rows.

    `ROWS`: the sizes of a pass that are tried on a CPU.
    """

    ROWS: ClassVar[Sequence[int]]

    def __init__(self, manifest: Manifest, ensemble: N, device: str = "cpu", digest: str = "") -> None:
        self.name, self.version = manifest.name, manifest.version
        self.precondition = manifest.precondition
        self.manifest = manifest
        self._device = torch.device(device)
        self._ensemble = ensemble.eval().to(self._device)
        rows = accelerator.ROWS if self._device.type == "cuda" else self.ROWS
        self._variant = fastest(self._variants(rows), self._example, digest)

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
