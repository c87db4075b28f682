"""`lightcurve`: which kind of supernova, from any length of light curve: by its shape and by its points."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from models import accelerator
from models import points as light_curves
from models.contract import scores
from models.curves_together import CurvesTogether
from models.encoding import Encoding
from models.folders import digest
from models.manifest import Manifest, ModelError, read_manifest
from models.sequences import FEATURES, padded, sequences
from models.shapes import NAMES, shapes
from models.variants import Call, Measured, Variant, fastest, measured
from models.weights import network

CLASSES = ("Ia", "II", "Ibc", "IIn", "SLSN-I")
ARCHITECTURE = "models.lightcurve:LightCurve"
# Rows a pass may have: more to multiply at once, and more padding behind the shorter ones. How much, real ZTF
# packets tell: quantiles of their numbers of points, in whose order a block of so many is scored.
ROWS = (32, 64, 128)
BLOCK = 256
QUANTILES, POINTS = (0, 0.25, 0.5, 0.75, 0.9, 0.99, 1), (1, 12, 19, 23, 39, 66, 92)


class Member(nn.Module):
    """Two readers, whose logits add up: a perceptron of the curve's shape, and a recurrent one of its points.

    The second is a gated recurrent unit (Cho et al. 2014), judged by its last, mean and greatest state.
    """

    def __init__(self, encoded: int, neurons: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.read = nn.Sequential(
            nn.Dropout(dropout / 4),
            nn.Linear(encoded, neurons),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(neurons, neurons),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(neurons, len(CLASSES)),
        )
        self.lift = nn.Sequential(nn.Linear(FEATURES, hidden), nn.ReLU())
        self.run = nn.GRU(hidden, hidden, batch_first=True)
        self.decide = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(3 * hidden, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, len(CLASSES)),
        )

    def forward(self, sequence: torch.Tensor, lengths: torch.Tensor, encoded: torch.Tensor) -> torch.Tensor:
        """Logits (3, rows, 5): of the shape, of the points, of both.

        From sequences (rows, points, FEATURES), of which the first `lengths` count, and the encoded shape.
        """
        states, _ = self.run(self.lift(sequence))
        counts = (torch.arange(sequence.shape[1], device=lengths.device) < lengths[:, None])[:, :, None]
        mean = (states * counts).sum(dim=1) / lengths[:, None]
        greatest = states.masked_fill(~counts, -1).amax(dim=1)
        last = states[torch.arange(len(states), device=lengths.device), lengths - 1]
        by_points = self.decide(torch.cat([last, mean, greatest], dim=1))
        by_shape = self.read(encoded)
        return torch.stack([by_shape, by_points, by_shape + by_points])


class Ensemble(nn.Module):
    """Members of one kind, each trained without a different part of the objects."""

    temperature: torch.Tensor

    def __init__(
        self, members: int, bins: int = 8, neurons: int = 128, hidden: int = 64, dropout: float = 0.4
    ) -> None:
        super().__init__()
        self.encoding = Encoding(len(NAMES), bins)
        self.members = nn.ModuleList(
            Member(self.encoding.size, neurons, hidden, dropout) for _ in range(members)
        )
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, sequence: torch.Tensor, lengths: torch.Tensor, shape: torch.Tensor) -> torch.Tensor:
        """Calibrated probabilities (rows, 5): the mean over the members. `shape` (rows, len(NAMES))."""
        encoded = self.encoding(shape)
        found = torch.stack([member(sequence, lengths, encoded)[-1] for member in self.members])
        return torch.softmax(found / self.temperature, dim=2).mean(dim=0)


class LightCurve:
    """The network through the contract of models."""

    classes = CLASSES
    inputs = light_curves.INPUTS

    def __init__(self, manifest: Manifest, ensemble: Ensemble, device: str = "cpu", digest: str = "") -> None:
        self.name, self.version = manifest.name, manifest.version
        self.precondition = manifest.precondition
        self.manifest = manifest
        self._device = torch.device(device)
        self._ensemble = ensemble.eval().to(self._device)
        rows = accelerator.ROWS if self._device.type == "cuda" else ROWS
        self._variant = fastest(self._variants(rows), self._example, digest)

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Self:
        manifest = read_manifest(folder)
        if manifest.classes != CLASSES:
            raise ModelError(f"{folder}: the lightcurve network has the classes {', '.join(CLASSES)}")
        if manifest.normalisation.get("shape") != list(NAMES):
            raise ModelError(f"{folder} reads a light curve's shape as another release did: train it again")
        ensemble = network(lambda: Ensemble(**manifest.hyperparameters), folder)
        return cls(manifest, ensemble, device, digest(folder))

    @property
    def variant(self) -> Variant:
        """How the network is evaluated here."""
        return self._variant

    def measured(self, rows: Sequence[int] = ROWS) -> list[Measured]:
        """What each form of the network costs on this machine, in passes of so many rows."""
        return measured(self._variants(rows), self._example)

    def _variants(self, rows: Sequence[int]) -> list[Variant]:
        calls: dict[str, Call] = {"fp32": self._ensemble, "together": CurvesTogether(self._ensemble)}
        if self._device.type == "cuda":
            calls |= {f"{name}, recorded": accelerator.Recorded(call) for name, call in calls.items()}
        return [Variant(name, n, call) for name, call in calls.items() for n in rows]

    def _example(self, rows: int) -> tuple[torch.Tensor, ...]:
        """Inputs of one pass as it looks on average: as long as the longest of its rows."""
        block = np.interp(np.linspace(0, 1, BLOCK), QUANTILES, POINTS)
        longest = [block[min(first + rows, BLOCK) - 1] for first in range(0, BLOCK, rows)]
        points = round(float(np.mean(longest)))
        lengths = torch.linspace(1, points, rows).long().to(self._device)
        draw = torch.Generator().manual_seed(0)
        sequence = torch.randn(rows, points, FEATURES, generator=draw)
        shape = torch.randn(rows, len(NAMES), generator=draw)
        return sequence.to(self._device), lengths, shape.to(self._device)

    @torch.inference_mode()
    def score(self, table: pa.Table) -> pa.Table:
        """Null for an alert without one usable point, its own detection included."""
        curves = light_curves.points(table, light_curves.MOST_POINTS)
        lengths = curves.lengths
        # Rows of like length go together, so that little of a block is padding.
        order = np.argsort(lengths, kind="stable")
        order = order[lengths[order] > 0]
        flat, shape = sequences(curves), torch.from_numpy(shapes(curves))
        passes = np.split(order, range(self._variant.rows, len(order), self._variant.rows))
        answers = [
            self._pass(*padded(flat, curves.offsets, rows), shape[rows]) for rows in passes if len(rows)
        ]
        found = np.zeros((len(table), len(CLASSES)), np.float32)
        if answers:
            found[order] = accelerator.received(answers)
        return scores(CLASSES, found, lengths > 0)

    def _pass(self, sequence: torch.Tensor, lengths: torch.Tensor, shape: torch.Tensor) -> torch.Tensor:
        """Probabilities, on the device, of a pass's rows."""
        rows = len(lengths)
        if self._device.type == "cuda":  # few shapes, each recorded once
            behind = accelerator.rounded(sequence.shape[1]) - sequence.shape[1]
            sequence = nn.functional.pad(sequence, (0, 0, 0, behind))
            sequence, lengths, shape = (
                accelerator.filled(each, self._variant.rows) for each in (sequence, lengths, shape)
            )
        return self._variant(*(each.to(self._device) for each in (sequence, lengths, shape)))[:rows]
