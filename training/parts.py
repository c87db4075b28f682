"""What the networks that `fusion` is made of say of alerts that they never saw."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models import lightcurve, shapes, stamps
from models.fusion import KINDS, SUPERNOVA, Pool
from models.manifest import Manifest, ModelError
from models.points import MOST_POINTS, points
from training import dataset, evaluate
from training.lightcurve import logits as curve_logits
from training.samples import Samples
from training.stamps import logits as stamp_logits
from training.stamps import votes


@dataclass(frozen=True)
class Parts:
    """What each part says of N alerts whose objects it never saw; who judges whom is `fold` (rows,).

    `kinds` (rows, 5) of the stamps, `types` (rows, 5) of a supernova, `shape` and `known` of the history.
    `truth` (rows,): the kinds that they are.
    """

    kinds: np.ndarray
    types: np.ndarray
    shape: np.ndarray
    known: np.ndarray
    truth: np.ndarray
    fold: np.ndarray


def check_data(manifest: Manifest, folder: Path, found: dataset.Labelled) -> None:
    """Raises ModelError where the version in `folder` learned from other data than `found` is from."""
    files: Any = manifest.data.get("files", {})
    for name, file in files.items():
        if name not in found.files or found.files[name]["sha256"] != file["sha256"]:
            raise ModelError(
                f"{folder} was trained on another {name}: which objects its members never saw cannot be "
                f"told; train {manifest.name} on this data first"
            )


def of_parts(network: Pool, found: dataset.Labelled, images: Manifest, curves: Manifest, data: Path) -> Parts:
    """Each object by the member that never saw it; of objects that no member saw, the first member's."""
    history = points(found.table, MOST_POINTS)
    shape = shapes.shapes(history)
    kind = np.where(np.isin(found.labels, KINDS), found.labels, KINDS[SUPERNOVA])
    samples = Samples.of(replace(found, labels=kind))
    fold = _folds(images, dataset.stamps(data), stamps.CLASSES)
    part = np.array([fold[str(name)] for name in found.groups])
    said = votes(network.stamps.trees, samples)
    kinds = np.empty((len(part), len(KINDS)), np.float32)
    for k, member in enumerate(network.stamps.members):
        here = np.flatnonzero(part == k)
        kinds[here] = stamp_logits(member, network.stamps, samples.take(here)) + said[k, here]
    kinds = evaluate.softmax(kinds, float(network.stamps.temperature))
    fold = _folds(curves, dataset.light_curves(data), lightcurve.CLASSES)
    judge = np.array([fold.get(str(name), 0) for name in found.groups])
    types = np.empty((len(part), len(lightcurve.CLASSES)), np.float32)
    young = lightcurve.youth(torch.from_numpy(shape)).numpy()
    for k, member in enumerate(network.types.members):
        here = judge == k
        types[here] = curve_logits(member, network.types.trees, k, network.types, shape[here])
    old, new = network.types.temperature.tolist()
    types = evaluate.tempered(types, (old, new), young)
    return Parts(kinds, types, shape, history.lengths > 1, samples.labels, part)


def _folds(manifest: Manifest, found: dataset.Labelled, classes: tuple[str, ...]) -> dict[str, int]:
    """The fold of each object when the version was trained: whose member never saw it."""
    config: Any = manifest.training["config"]
    labels = np.array([classes.index(label) for label in found.labels])
    seed: Any = manifest.training["seed"]
    fold = evaluate.folds(found.groups, labels, config["folds"], seed)
    return dict(zip(map(str, found.groups), fold.tolist(), strict=True))
