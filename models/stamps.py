"""`stamps`: asteroid, SN, AGN, VS or bogus, from the three cutouts and the packet's own numbers.

A few small networks, each trained without a different part of the objects, whose probabilities are averaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from models import accelerator, columns, images
from models.contract import scores
from models.features import INPUTS, NAMES, Scaling, packet_features
from models.folders import digest
from models.manifest import Manifest, ModelError, read_manifest
from models.together import Together
from models.variants import Measured, Variant, fastest, formats, measured
from models.weights import network

CLASSES = ("asteroid", "SN", "AGN", "VS", "bogus")
ARCHITECTURE = "models.stamps:Stamps"
# Rows per pass. Fixed, the last one padded: a row's result must not depend on how many came with it; and few,
# because a stream's blocks are a few hundred alerts and larger passes are hardly faster on a CPU.
ROWS = 64


class Member(nn.Module):
    """One network: strided convolutions over the views, a perceptron over the columns, one over both."""

    def __init__(self, numbers: int, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.look = nn.Sequential(
            nn.Conv2d(images.CHANNELS, width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * width, 3 * width, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        self.see = nn.Sequential(
            nn.Flatten(), nn.Dropout(dropout), nn.Linear(3 * width * 16, hidden), nn.ReLU()
        )
        self.read = nn.Sequential(
            nn.Linear(2 * numbers, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
        )
        self.decide = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * hidden, len(CLASSES)))

    def forward(self, seen: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """Logits (rows, 5) from views (rows, 12, 31, 31) and scaled columns (rows, 2 F)."""
        return self.decide(torch.cat([self.see(self.look(seen)), self.read(numbers)], dim=1))


class Ensemble(nn.Module):
    """Members of one kind, each trained without a different part of the objects."""

    temperature: torch.Tensor

    def __init__(
        self, members: int, width: int = 16, hidden: int = 64, dropout: float = 0.3, numbers: int = len(NAMES)
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(Member(numbers, width, hidden, dropout) for _ in range(members))
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, seen: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """Calibrated probabilities (rows, 5): the mean over the members."""
        found = torch.stack([member(seen, numbers).float() for member in self.members])
        return torch.softmax(found / self.temperature, dim=2).mean(dim=0)


class Stamps:
    """The network through the contract of models."""

    classes = CLASSES
    inputs = ("cutouts", *INPUTS)

    def __init__(
        self, manifest: Manifest, ensemble: Ensemble, scaling: Scaling, device: str = "cpu", digest: str = ""
    ) -> None:
        self.name, self.version = manifest.name, manifest.version
        self.precondition = manifest.precondition
        self.manifest = manifest
        self._scaling = scaling
        # A version reads the columns that it was trained on, whatever this release could read besides.
        self._columns = [NAMES.index(name) for name in manifest.normalisation["features"]]
        self._device = torch.device(device)
        self._ensemble = ensemble.eval().to(self._device)
        rows = accelerator.ROWS if self._device.type == "cuda" else [ROWS]
        self._variant = fastest(self._variants(rows), self._example, digest)

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Self:
        manifest = read_manifest(folder)
        if manifest.classes != CLASSES:
            raise ModelError(f"{folder}: the stamps network has the classes {', '.join(CLASSES)}")
        names = manifest.normalisation.get("features", [])
        if not names or not set(names) <= set(NAMES):
            raise ModelError(
                f"{folder} was trained on packet columns that this release does not read: train it again"
            )
        try:
            scaling = Scaling.read(manifest.normalisation)
        except (TypeError, ValueError, KeyError) as error:
            raise ModelError(f"{folder}: odd normalisation in model.json: {error}") from error
        if scaling.centre.shape != (len(names),) or scaling.width.shape != (len(names),):
            raise ModelError(f"{folder}: the normalisation in model.json is not of its {len(names)} columns")
        ensemble = network(lambda: Ensemble(**manifest.hyperparameters, numbers=len(names)), folder)
        return cls(manifest, ensemble, scaling, device, digest(folder))

    @property
    def variant(self) -> Variant:
        """How the network is evaluated here."""
        return self._variant

    def measured(self, rows: Sequence[int] = (ROWS,)) -> list[Measured]:
        """What each form of the network costs on this machine, in passes of so many rows."""
        return measured(self._variants(rows), self._example)

    def _variants(self, rows: Sequence[int]) -> list[Variant]:
        calls = formats(self._ensemble)
        calls["together"] = Together(self._ensemble)
        calls["together, bf16"] = Together(self._ensemble, torch.bfloat16)
        if self._device.type == "cuda":
            calls |= {f"{name}, recorded": accelerator.Recorded(call) for name, call in calls.items()}
        return [Variant(name, n, call) for name, call in calls.items() for n in rows]

    def _example(self, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs of one pass as they look."""
        draw = torch.Generator().manual_seed(0)
        shown = torch.randn(rows, 3, 63, 63, generator=draw) * 3
        read = torch.randn(rows, 2 * len(self._columns), generator=draw)
        return images.views(shown, torch.ones_like(shown)).to(self._device), read.to(self._device)

    def score(self, table: pa.Table) -> pa.Table:
        """Null for an alert whose three cutouts have no valid pixel."""
        pixels = columns.cutouts(table)
        numbers = self._scaling.apply(packet_features(table)[:, self._columns])
        known = np.empty(len(table), bool)
        found = []
        for first in range(0, len(table), self._variant.rows):
            block = slice(first, first + self._variant.rows)
            scaled, valid = images.normalised(pixels[block])
            known[block] = valid.any(axis=(1, 2, 3))
            found.append(self._pass(scaled, valid, numbers[block]))
        return scores(CLASSES, accelerator.received(found) if found else np.empty(0), known)

    @torch.inference_mode()
    def _pass(self, *inputs: np.ndarray) -> torch.Tensor:
        """Probabilities, on the device, of normalised images, masks and scaled columns of a pass's rows."""
        rows = self._variant.rows
        tensors = (accelerator.filled(torch.from_numpy(values), rows) for values in inputs)
        shown, mask, read = (tensor.to(self._device) for tensor in tensors)
        return self._variant(images.views(shown, mask), read)[: len(inputs[0])]
