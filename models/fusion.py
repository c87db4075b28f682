"""`fusion`: one verdict from an alert's images, its packet's numbers and its history; any of them may lack.

It holds the networks `stamps` and `lightcurve` and boosted trees that tell from a history what kind of source
it is of. What each says is weighed by how much it tells (a logarithmic opinion pool: Genest & Zidek 1986),
and what a part cannot say for want of its input counts as if it had said how frequent the classes are. The
supernovae among them are then told apart by `lightcurve`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from models import accelerator, columns, features, images, lightcurve, shapes, stamps
from models import points as light_curves
from models.contract import scores
from models.features import packet_features
from models.network import Network
from models.together import Together
from models.trees import Trees
from models.variants import Call

ARCHITECTURE = "models.fusion:Fusion"
KINDS = stamps.CLASSES
SUPERNOVA = KINDS.index("SN")
OTHERS = tuple(i for i in range(len(KINDS)) if i != SUPERNOVA)
CLASSES = (*(KINDS[i] for i in OTHERS), *lightcurve.CLASSES)
# What a history tells apart, and which of it each kind is: galaxies that vary look like stars that do.
PASTS = ("asteroid", "SN", "variable", "bogus")
PAST = tuple(PASTS.index({"AGN": "variable", "VS": "variable"}.get(name, name)) for name in KINDS)
LEAST = 1e-6  # probability


class Pool(nn.Module):
    """The parts, and how they are weighed.

    `usual`: how frequent the parts say the kinds are, on average; `weight` of the stamps and of the history,
    where there are both.
    """

    usual_kinds: torch.Tensor
    usual_pasts: torch.Tensor
    past_temperature: torch.Tensor
    weight: torch.Tensor

    def __init__(
        self, members: int, trees: int, depth: int, of_stamps: dict[str, Any], of_lightcurve: dict[str, Any]
    ) -> None:
        super().__init__()
        self.stamps = stamps.Ensemble(**of_stamps)
        self.types = lightcurve.Ensemble(**of_lightcurve)
        self.past = Trees(members, trees, depth, len(PASTS))
        self.register_buffer("past_temperature", torch.ones(()))
        self.register_buffer("usual_kinds", torch.full((len(KINDS),), 1 / len(KINDS)))
        self.register_buffer("usual_pasts", torch.full((len(PASTS),), 1 / len(PASTS)))
        self.register_buffer("weight", torch.ones(2))

    def forward(
        self,
        seen: torch.Tensor,
        numbers: torch.Tensor,
        shape: torch.Tensor,
        imaged: torch.Tensor,
        known: torch.Tensor,
    ) -> torch.Tensor:
        """Calibrated probabilities (rows, 9).

        From what `stamps` reads (`seen`, `numbers`) and `lightcurve` (`shape`); bool (rows, 1) whether there
        are images, and whether there is a history.
        """
        return self.decided(self.stamps(seen, numbers), self.types(shape), shape, imaged, known)

    def decided(
        self,
        kinds: torch.Tensor,
        types: torch.Tensor,
        shape: torch.Tensor,
        imaged: torch.Tensor,
        known: torch.Tensor,
    ) -> torch.Tensor:
        """Probabilities (rows, 9) from those of both networks, (rows, 5) each."""
        pasts = torch.softmax(self.past(shape) / self.past_temperature, dim=2).mean(dim=0)
        return nine(self.pooled(kinds, pasts, imaged, known), types)

    def pooled(
        self, kinds: torch.Tensor, pasts: torch.Tensor, imaged: torch.Tensor, known: torch.Tensor
    ) -> torch.Tensor:
        """Probabilities of the kinds (rows, 5) from what the stamps and the history say."""
        told = torch.where(imaged, kinds, self.usual_kinds).clamp_min(LEAST).log()
        evidence = (pasts.clamp_min(LEAST) / self.usual_pasts).log()[:, PAST]
        seen, past = self.weight
        told = torch.where(imaged & known, told * seen + evidence * past, told)
        return torch.softmax(torch.where(imaged, told, told + evidence), dim=1)


def nine(kinds: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
    """Probabilities of CLASSES from those of the kinds and of a supernova's types."""
    return torch.cat([kinds[:, OTHERS], kinds[:, SUPERNOVA, None] * types], dim=1)


class PoolTogether:
    """The Pool that it is made from, its networks' members as one."""

    def __init__(self, pool: Pool, dtype: torch.dtype = torch.float32) -> None:
        self._pool = pool
        self._stamps = Together(pool.stamps, stamps.verdict, dtype)
        self._types = lightcurve.Together(pool.types)

    def __call__(
        self, seen: torch.Tensor, numbers: torch.Tensor, shape: torch.Tensor, *there: torch.Tensor
    ) -> torch.Tensor:
        """Calibrated probabilities (rows, 9), float32."""
        return self._pool.decided(self._stamps(seen, numbers), self._types(shape), shape, *there)


class Fusion(Network[Pool]):
    """The network through the contract of models."""

    classes = CLASSES
    inputs = tuple(dict.fromkeys(("cutouts", *features.INPUTS, *light_curves.INPUTS)))
    MODULE = Pool
    READS = (*stamps.Stamps.READS, *lightcurve.LightCurve.READS)
    ROWS = (64,)

    def _forms(self) -> dict[str, Call]:
        return {
            "fp32": self._ensemble,
            "together": PoolTogether(self._ensemble),
            "together, bf16": PoolTogether(self._ensemble, torch.bfloat16),
        }

    def _example(self, rows: int) -> tuple[torch.Tensor, ...]:
        draw = torch.Generator().manual_seed(0)
        shown = torch.randn(rows, 3, 63, 63, generator=draw) * 3
        read = torch.randn(rows, len(features.NAMES), generator=draw)
        shape = torch.randn(rows, len(shapes.NAMES), generator=draw)
        there = torch.rand(2, rows, 1, generator=draw) < 0.8
        inputs = (images.views(shown, torch.ones_like(shown)), read, shape, *there)
        return tuple(each.to(self._device) for each in inputs)

    def score(self, table: pa.Table) -> pa.Table:
        """Null for an alert that has neither a valid pixel nor a point before its own."""
        pixels = columns.cutouts(table)
        numbers = packet_features(table)
        curves = light_curves.points(table, light_curves.MOST_POINTS)
        shape = shapes.shapes(curves)
        known = curves.lengths > 1
        imaged = np.empty(len(table), bool)
        found = []
        for first in range(0, len(table), self._variant.rows):
            block = slice(first, first + self._variant.rows)
            scaled, valid = images.normalised(pixels[block])
            imaged[block] = valid.any(axis=(1, 2, 3))
            there = imaged[block, None], known[block, None]
            found.append(self._pass(scaled, valid, numbers[block], shape[block], *there))
        answers = accelerator.received(found) if found else np.empty(0)
        return scores(CLASSES, answers, imaged | known)

    @torch.inference_mode()
    def _pass(self, *inputs: np.ndarray) -> torch.Tensor:
        """Probabilities, on the device, of a pass's rows: images, masks, columns, shapes, what there is."""
        rows = self._variant.rows
        tensors = (accelerator.filled(torch.from_numpy(values), rows) for values in inputs)
        shown, mask, *rest = (tensor.to(self._device) for tensor in tensors)
        return self._variant(images.views(shown, mask), *rest)[: len(inputs[0])]
