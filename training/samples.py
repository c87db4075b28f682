"""What the `stamps` network learns from: images, masks and columns of alerts, turned, noisy, with gaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from models import columns, images
from models.features import COMMON, NAMES, packet_features
from models.stamps import CLASSES, EARLY
from training.dataset import Labelled

SOURCE = np.arange(len(NAMES)) >= len(COMMON)  # the survey's own columns


@dataclass(frozen=True)
class Samples:
    """What the network sees of N alerts: normalised images, masks, raw packet features; class indices."""

    images: torch.Tensor
    valid: torch.Tensor
    features: np.ndarray
    labels: np.ndarray
    groups: np.ndarray

    @classmethod
    def of(cls, data: Labelled) -> Samples:
        scaled, valid = images.normalised(columns.cutouts(data.table))
        labels = np.array([CLASSES.index(label) for label in data.labels])
        features = packet_features(data.table)
        return cls(torch.from_numpy(scaled), torch.from_numpy(valid), features, labels, data.groups)

    @classmethod
    def joined(cls, parts: Sequence[Samples]) -> Samples:
        return cls(
            torch.cat([part.images for part in parts]),
            torch.cat([part.valid for part in parts]),
            np.concatenate([part.features for part in parts]),
            np.concatenate([part.labels for part in parts]),
            np.concatenate([part.groups for part in parts]),
        )

    def take(self, rows: np.ndarray) -> Samples:
        return Samples(
            self.images[rows], self.valid[rows], self.features[rows], self.labels[rows], self.groups[rows]
        )


@dataclass(frozen=True)
class Gaps:
    """Chances that an alert lacks all of the survey's own columns, the late ones, any one column."""

    source: float
    late: float
    column: float

    def made(self, features: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        """A copy of the columns (rows, len(NAMES)) with NaN where there are gaps."""
        rows = len(features)
        features = features.copy()
        features[draw.random(features.shape) < self.column] = np.nan
        features[np.ix_(draw.random(rows) < self.source, SOURCE)] = np.nan
        features[draw.random(rows) < self.late, EARLY:] = np.nan
        return features


def turned(samples: Samples, shift: int, noise: float, draw: np.random.Generator) -> torch.Tensor:
    """Views of the images: all moved by at most `shift` pixels, `noise` in sigmas of the sky, each turned."""
    shown, valid = samples.images, samples.valid
    by = tuple(draw.integers(-shift, shift + 1, 2))
    shown, valid = (torch.roll(t, by, (2, 3)) for t in (shown, valid))
    turns = torch.from_numpy(draw.integers(0, 8, len(shown)))
    seen = images.views(shown + noise * torch.randn(shown.shape) * valid, valid)
    for quarter in range(8):
        chosen = turns == quarter
        there = torch.rot90(seen[chosen], quarter % 4, (2, 3))
        seen[chosen] = there.flip(3) if quarter >= 4 else there
    return seen
