"""`stamps`: asteroid, SN, AGN, VS or bogus, from the three cutouts and the packet's own numbers.

A few small networks and boosted trees, each trained without a different part of the objects, whose
probabilities are averaged.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from models import accelerator, columns, images
from models.contract import scores
from models.encoding import Encoding
from models.features import INPUTS, LATE, NAMES, packet_features
from models.network import Network
from models.perceptron import perceptron
from models.together import Together
from models.trees import Trees
from models.variants import Call, formats

CLASSES = ("asteroid", "SN", "AGN", "VS", "bogus")
ARCHITECTURE = "models.stamps:Stamps"
EARLY = len(NAMES) - len(LATE)


class Member(nn.Module):
    """Strided convolutions over the views, and two perceptrons over the columns; their logits add up.

    Each has two heads, real or bogus, and which real source. The columns' first perceptron, which decides
    whether it is real, does not read the late columns.
    """

    def __init__(self, early: int, late: int, width: int, looked: int, neurons: int, dropout: float) -> None:
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
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(3 * width * 16, looked),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(looked, len(CLASSES)),
        )
        self.real = perceptron(early, neurons, 1, dropout)
        self.kind = perceptron(early + late, neurons, len(CLASSES) - 1, dropout)

    def forward(self, seen: torch.Tensor, early: torch.Tensor, late: torch.Tensor) -> torch.Tensor:
        """ln p (3, rows, 5): of the views, of the columns, of both.

        From views (rows, 12, 31, 31) and the encoded columns.
        """
        looked = self.see(self.look(seen))
        read = torch.cat([self.kind(torch.cat([early, late], dim=1)), self.real(early)], dim=1)
        return verdict(torch.stack([looked, read, looked + read]))


def verdict(found: torch.Tensor) -> torch.Tensor:
    """ln p (…, 5) from logits of the four kinds and, last, of bogus: p(kind) = p(real) p(kind | real)."""
    kinds, bogus = found[..., :-1].log_softmax(dim=-1), found[..., -1:]
    real = nn.functional.logsigmoid(-bogus)
    return torch.cat([kinds + real, nn.functional.logsigmoid(bogus)], dim=-1)


class Ensemble(nn.Module):
    """Members of one kind, each trained without a different part of the objects.

    Trees, which read the columns but for the late ones, err differently than perceptrons do: logits add up.
    """

    temperature: torch.Tensor

    def __init__(
        self,
        members: int,
        bins: int = 8,
        width: int = 8,
        looked: int = 32,
        neurons: int = 96,
        dropout: float = 0.4,
        trees: int = 200,
        depth: int = 4,
    ) -> None:
        super().__init__()
        self.early = Encoding(EARLY, bins)
        self.late = Encoding(len(LATE), bins)
        self.members = nn.ModuleList(
            Member(self.early.size, self.late.size, width, looked, neurons, dropout) for _ in range(members)
        )
        self.trees = Trees(members, trees, depth, len(CLASSES))
        self.register_buffer("temperature", torch.ones(()))

    def encoded(self, numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Both parts of the columns (rows, len(NAMES)), as the members read them."""
        return self.early(numbers[:, :EARLY]), self.late(numbers[:, EARLY:])

    def forward(self, seen: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """Calibrated probabilities (rows, 5): the mean over the members."""
        encoded = self.encoded(numbers)
        return self.decided(
            torch.stack([member(seen, *encoded)[-1].float() for member in self.members]), numbers
        )

    def decided(self, found: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """Probabilities from what the networks say (members, rows, 5)."""
        found = found + self.trees(numbers[:, :EARLY])
        return torch.softmax(found / self.temperature, dim=2).mean(dim=0)


class Stamps(Network[Ensemble]):
    """The network through the contract of models."""

    classes = CLASSES
    inputs = ("cutouts", *INPUTS)
    MODULE = Ensemble
    READS = (("features", "packet columns", NAMES),)
    # Fixed, the last pass padded: a row's result must not depend on how many came with it; and few, because a
    # stream's blocks are a few hundred alerts and larger passes are hardly faster on a CPU.
    ROWS = (64,)

    def _forms(self) -> dict[str, Call]:
        return {
            **formats(self._ensemble),
            "together": Together(self._ensemble, verdict),
            "together, bf16": Together(self._ensemble, verdict, torch.bfloat16),
        }

    def _example(self, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        draw = torch.Generator().manual_seed(0)
        shown = torch.randn(rows, 3, 63, 63, generator=draw) * 3
        read = torch.randn(rows, len(NAMES), generator=draw)
        return images.views(shown, torch.ones_like(shown)).to(self._device), read.to(self._device)

    def score(self, table: pa.Table) -> pa.Table:
        """Null for an alert whose three cutouts have no valid pixel."""
        pixels = columns.cutouts(table)
        numbers = packet_features(table)
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
        """Probabilities, on the device, of normalised images, masks and columns of a pass's rows."""
        rows = self._variant.rows
        tensors = (accelerator.filled(torch.from_numpy(values), rows) for values in inputs)
        shown, mask, read = (tensor.to(self._device) for tensor in tensors)
        return self._variant(images.views(shown, mask), read)[: len(inputs[0])]
