"""`lightcurve`: which kind of supernova, from any length of light curve, by its shape.

Perceptrons and boosted trees read the same numbers (models.shapes): they err differently, and their logits
add up. A few members of both, each trained without a different part of the objects, are averaged.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from models import accelerator
from models import points as light_curves
from models.contract import scores
from models.encoding import Encoding
from models.network import Network
from models.perceptron import Perceptrons, perceptron
from models.shapes import NAMES, shapes
from models.trees import Trees
from models.variants import Call

CLASSES = ("Ia", "II", "Ibc", "IIn", "SLSN-I")
ARCHITECTURE = "models.lightcurve:LightCurve"
SPAN = NAMES.index("span")
YOUNG = 10.0  # days in which the youth of a light curve falls to 1/e


class Ensemble(nn.Module):
    """Members of one kind, each trained without a different part of the objects.

    `temperature`: of light curves of all ages, and of those of no days. Young ones tell little, and nature's
    mixture would have all of them called Ia: `rarity` lifts the logits of rare classes by their youth.
    """

    temperature: torch.Tensor
    rarity: torch.Tensor

    def __init__(
        self,
        members: int,
        bins: int = 8,
        neurons: int = 128,
        dropout: float = 0.4,
        trees: int = 250,
        depth: int = 5,
    ) -> None:
        super().__init__()
        self.encoding = Encoding(len(NAMES), bins)
        self.members = nn.ModuleList(
            perceptron(self.encoding.size, neurons, len(CLASSES), dropout) for _ in range(members)
        )
        self.trees = Trees(members, trees, depth, len(CLASSES))
        self.register_buffer("rarity", torch.zeros(len(CLASSES)))
        self.register_buffer("temperature", torch.ones(2))

    def forward(self, shape: torch.Tensor) -> torch.Tensor:
        """Calibrated probabilities (rows, 5): the mean over the members. `shape` (rows, len(NAMES))."""
        encoded = self.encoding(shape)
        return self.decided(torch.stack([member(encoded) for member in self.members]), shape)

    def decided(self, read: torch.Tensor, shape: torch.Tensor) -> torch.Tensor:
        """Probabilities from what the perceptrons say (members, rows, 5)."""
        young = youth(shape)
        found = read + self.trees(shape) + young * self.rarity
        old, new = self.temperature
        return torch.softmax(found / torch.lerp(old, new, young), dim=2).mean(dim=0)


def youth(shape: torch.Tensor) -> torch.Tensor:
    """(rows, 1): 1 on the day of the first detection, then falling."""
    days = torch.nan_to_num(shape[:, SPAN, None]).expm1()
    return torch.exp(-days / YOUNG)


class Together:
    """The Ensemble that it is made from, with all perceptrons as one."""

    def __init__(self, ensemble: Ensemble) -> None:
        self._ensemble = ensemble
        self._read = Perceptrons([cast(nn.Sequential, member) for member in ensemble.members])

    def __call__(self, shape: torch.Tensor) -> torch.Tensor:
        """Calibrated probabilities (rows, 5), float32."""
        return self._ensemble.decided(self._read(self._ensemble.encoding(shape)), shape)


class LightCurve(Network[Ensemble]):
    """The network through the contract of models."""

    classes = CLASSES
    inputs = light_curves.INPUTS
    MODULE = Ensemble
    READS = (("shape", "numbers of a light curve", NAMES),)
    ROWS = (64, 128, 256)

    def _forms(self) -> dict[str, Call]:
        return {"fp32": self._ensemble, "together": Together(self._ensemble)}

    def _example(self, rows: int) -> tuple[torch.Tensor, ...]:
        draw = torch.Generator().manual_seed(0)
        return (torch.randn(rows, len(NAMES), generator=draw).to(self._device),)

    @torch.inference_mode()
    def score(self, table: pa.Table) -> pa.Table:
        """Null for an alert without one usable point, its own detection included."""
        curves = light_curves.points(table, light_curves.MOST_POINTS)
        shape = torch.from_numpy(shapes(curves))
        parts = shape.split(self._variant.rows) if len(table) else ()
        found = accelerator.received([self._pass(part) for part in parts]) if parts else np.empty(0)
        return scores(CLASSES, found, curves.lengths > 0)

    def _pass(self, shape: torch.Tensor) -> torch.Tensor:
        """Probabilities, on the device, of a pass's rows."""
        rows = len(shape)
        if self._device.type == "cuda":  # one shape, recorded once
            shape = accelerator.filled(shape, self._variant.rows)
        return self._variant(shape.to(self._device))[:rows]
