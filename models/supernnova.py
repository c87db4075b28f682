"""SuperNNova (Möller & de Boissière 2020, arXiv:1901.06384): Ia or not, with the weights of its authors.

A version holds what they publish: `model.pt` as weights (by `rayfinch models import`), `data_norm.json` as
`normalisation`, and of `cli_args.json` the hyper-parameters `filters` (list_filters), `features`
(training_features), `hidden` (hidden_dim) and `layers` (num_layers).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from models import columns
from models import points as light_curves
from models.contract import scores
from models.manifest import Manifest, ModelError, read_manifest
from models.points import DETECTION, Points
from models.weights import network

ARCHITECTURE = "models.supernnova:SuperNNova"
FLUXCAL = 10 ** (11 - 0.4 * 31.4)  # 1 nJy in SNANA's unit, whose zero point is 27.5 (AB)
SAME_EPOCH_D = 0.33  # detections within 8 hours of an epoch's first are of that epoch
MOST_POINTS = 256
FEWEST_POINTS = 2
CHUNK = 64


class Network(nn.Module):
    """A bidirectional LSTM over epochs; the verdict is from the mean of its states."""

    def __init__(self, features: int, hidden: int, layers: int, classes: int) -> None:
        super().__init__()
        # Named as in the checkpoints.
        self.rnn_layer = nn.LSTM(features, hidden, num_layers=layers, bidirectional=True, batch_first=True)
        self.output_layer = nn.Linear(2 * hidden, classes)

    def forward(self, sequence: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Probabilities (rows, classes) of sequences (rows, epochs, features), `lengths` of them real."""
        packed = pack_padded_sequence(sequence, lengths.cpu(), batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.rnn_layer(packed)[0], batch_first=True)
        return torch.softmax(self.output_layer(states.sum(dim=1) / lengths[:, None]), dim=1)


class SuperNNova:
    """The network through the contract of models."""

    inputs = light_curves.INPUTS

    def __init__(self, manifest: Manifest, made: Network, device: str = "cpu") -> None:
        self.name, self.version, self.classes = manifest.name, manifest.version, manifest.classes
        self.precondition = manifest.precondition
        self._filters: list[str] = manifest.hyperparameters["filters"]
        self._features: list[str] = manifest.hyperparameters["features"]
        self._normalisation = manifest.normalisation
        self._device = torch.device(device)
        self._network = made.eval().to(self._device)

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Self:
        said = read_manifest(folder)
        if said.inputs != cls.inputs:
            raise ModelError(f"{folder}: SuperNNova has the inputs {', '.join(cls.inputs)}")
        features, of_network = _checked(said, folder)
        made = network(lambda: Network(len(features), **of_network, classes=len(said.classes)), folder)
        return cls(said, made, device)

    @torch.inference_mode()
    def score(self, table: pa.Table) -> pa.Table:
        """Null for an alert with fewer than two detections, its own included."""
        curves = light_curves.points(table, MOST_POINTS)
        curves = curves.where(curves.kind == DETECTION)
        flat, offsets = epochs(curves, self._filters, self._features, self._normalisation)
        known = curves.lengths >= FEWEST_POINTS
        found = np.zeros((len(table), len(self.classes)), np.float32)
        lengths = np.diff(offsets)
        order = np.argsort(lengths, kind="stable")
        order = order[known[order]]
        for first in range(0, len(order), CHUNK):
            rows = order[first : first + CHUNK]
            block = (t.to(self._device) for t in _padded(flat, offsets, rows))
            found[rows] = self._network(*block).cpu().numpy()
        return scores(self.classes, found, known)


def epochs(
    curves: Points, filters: Sequence[str], features: Sequence[str], normalisation: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """(float32 (epochs, features), offsets (rows + 1,)) of detections: what the network reads.

    An epoch has, a filter, the brightness (FLUXCAL, of either sign of the difference) with the least error, 0
    where there is none; the days since the epoch before; and which of the combinations of filters it has.
    Features that `normalisation` names are (ln(value - min + 1e-5) - mean) / std.
    """
    order = np.lexsort((curves.mjd, curves.row))
    mjd, band, row = curves.mjd[order], curves.band[order], curves.row[order]
    flux, error = np.abs(curves.flux[order]) * FLUXCAL, curves.flux_err[order] * FLUXCAL
    began = _began(mjd, curves.offsets)
    new = np.ones(len(mjd), bool)
    new[1:] = (began[1:] != began[:-1]) | (row[1:] != row[:-1])
    epoch, total = np.cumsum(new) - 1, int(new.sum())
    offsets = np.concatenate([[0], np.cumsum(np.bincount(row[new], minlength=len(curves.lengths)))])

    named: dict[str, np.ndarray] = {}
    held = np.full(total, "", object)
    worst_first = np.argsort(-error, kind="stable")
    for name in filters:
        at = worst_first[band[worst_first] == columns.BANDS.index(name)]
        for kind, values in (("FLUXCAL", flux), ("FLUXCALERR", error)):
            named[f"{kind}_{name}"] = np.zeros(total)
            named[f"{kind}_{name}"][epoch[at]] = values[at]
        there = np.zeros(total, bool)
        there[epoch[at]] = True
        held[there] += name
    start = began[new]
    named["delta_time"] = np.diff(start, prepend=start[:1])
    named["delta_time"][offsets[:-1][np.diff(offsets) > 0]] = 0
    table = np.empty((total, len(features)), np.float32)
    for i, name in enumerate(features):
        values = named.get(name, held == name)
        if norm := normalisation.get(name):
            above = np.maximum(values - norm["min"], 0) + 1e-5
            values = (np.log(above) - norm["mean"]) / norm["std"]
        table[:, i] = values
    return table, offsets


def _began(mjd: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """When the epoch of each detection began; detections are in order of time in each row."""
    lengths, began = np.diff(offsets), np.empty(len(mjd))
    last = np.full(len(lengths), -np.inf)
    for place in range(lengths.max(initial=0)):
        rows = np.flatnonzero(lengths > place)
        now = mjd[offsets[rows] + place]
        last[rows] = np.where(now - last[rows] > SAME_EPOCH_D, now, last[rows])
        began[offsets[rows] + place] = last[rows]
    return began


def _checked(said: Manifest, folder: Path) -> tuple[list[str], dict[str, int]]:
    """The features, and what else the network is made of. Raises ModelError."""
    given = dict(said.hyperparameters)
    filters, features = given.pop("filters", None), given.pop("features", None)
    if not isinstance(filters, list) or not filters or not set(filters) <= set(columns.BANDS):
        raise ModelError(f"{folder}: hyperparameters.filters must be a list of {', '.join(columns.BANDS)}")
    if not isinstance(features, list) or not all(isinstance(name, str) for name in features):
        raise ModelError(f"{folder}: hyperparameters.features must be a list of names")
    brightness = {f"{kind}_{name}" for kind in ("FLUXCAL", "FLUXCALERR") for name in filters}
    odd = [n for n in features if n not in brightness | {"delta_time"} and not set(n) <= set(filters)]
    if odd:
        raise ModelError(f"{folder}: this release cannot make the features {', '.join(odd)}")
    if set(given) != {"hidden", "layers"} or not all(isinstance(n, int) for n in given.values()):
        raise ModelError(f"{folder}: hyperparameters must be filters, features, hidden and layers")
    for name, norm in said.normalisation.items():
        if not isinstance(norm, dict) or not {"min", "mean", "std"} <= set(norm):
            raise ModelError(f"{folder}: normalisation.{name} must have min, mean and std")
    return features, given


def _padded(flat: np.ndarray, offsets: np.ndarray, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """(sequences (rows, longest, features) with zeros behind each, lengths (rows,)) of the chosen rows."""
    lengths = np.diff(offsets)[rows]
    place = np.arange(lengths.max())
    there = place < lengths[:, None]
    block = np.zeros((*there.shape, flat.shape[1]), np.float32)
    block[there] = flat[(offsets[rows][:, None] + place)[there]]
    return torch.from_numpy(block), torch.from_numpy(lengths)
