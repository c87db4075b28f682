"""How well simulated alerts pass for real ones: whether a classifier tells them apart, and by which numbers.

A two-sample test by classification (Lopez-Paz & Oquab 2017, arXiv:1610.06545): an area of .5 under its ROC
curve says that it cannot, 1 that it always can.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from models import columns, images
from models.features import NAMES as COLUMNS
from models.features import packet_features
from training.dataset import Labelled
from training.evaluate import folds
from training.evaluation import area, roc
from training.fitting import THREADS

CUTOUTS = ("science", "template", "difference")
STATISTICS = ("peak", "trough", "core", "asymmetry", "bright", "smoothness", "missing")
IMAGES = tuple(f"{cutout} {statistic}" for cutout in CUTOUTS for statistic in STATISTICS)
NAMES = (*COLUMNS, *IMAGES)
FOLDS = 5
FEWEST = 50  # objects of a class, real and simulated each
DRAWS = 200
TELLING = 15


@dataclass(frozen=True)
class Told:
    """Alerts of one origin: `numbers` (rows, len(NAMES)), their classes and objects (rows,)."""

    numbers: np.ndarray
    labels: np.ndarray
    groups: np.ndarray

    @classmethod
    def of(cls, data: Labelled) -> Told:
        scaled, valid = images.normalised(columns.cutouts(data.table))
        numbers = np.concatenate([packet_features(data.table), statistics(scaled, valid)], axis=1)
        return cls(numbers, data.labels, data.groups)

    def of_class(self, name: str, most: int) -> Told:
        rows = np.flatnonzero(self.labels == name)[:most]
        return Told(self.numbers[rows], self.labels[rows], self.groups[rows])

    @classmethod
    def joined(cls, parts: list[Told]) -> Told:
        return cls(
            np.concatenate([part.numbers for part in parts]),
            np.concatenate([part.labels for part in parts]),
            np.concatenate([part.groups for part in parts]),
        )


def statistics(scaled: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """float32 (rows, len(IMAGES)) from models.images.normalised's images and masks (rows, 3, 63, 63).

    The greatest and least of the inner 9 x 9 pixels (ln of sigmas); the share of its light in the inner
    3 x 3; how much it changes when turned by 180 degrees; the share of pixels above 5 sigma; how like
    neighbouring pixels of the sky are (their correlation); the share of pixels without a value.
    """
    inner = scaled[:, :, 27:36, 27:36]
    size = np.abs(inner).sum(axis=(2, 3)) + 1e-6
    sky = np.clip(scaled, -3, 3)
    found = [
        np.log1p(np.maximum(inner.max(axis=(2, 3)), 0)),
        np.log1p(np.maximum(-inner.min(axis=(2, 3)), 0)),
        inner[:, :, 3:6, 3:6].sum(axis=(2, 3)) / size,
        np.abs(inner - inner[:, :, ::-1, ::-1]).sum(axis=(2, 3)) / size,
        (scaled > 5).mean(axis=(2, 3)),
        (sky[..., 1:] * sky[..., :-1]).mean(axis=(2, 3)) / ((sky**2).mean(axis=(2, 3)) + 1e-6),
        1 - valid.mean(axis=(2, 3)),
    ]
    return np.stack(found, axis=2).reshape(len(scaled), -1).astype(np.float32)


def compared(real: Told, simulated: Told, seed: int = 0) -> dict[str, Any]:
    """JSON-ready: the areas [value, low, high] (95 %), of all, by kind of number and by class, and by what.

    Each class is there as often among the real as among the simulated alerts, so that the mixture does not
    tell. A class with less than FEWEST objects on either side has no area.
    """
    classes: dict[str, Any] = {}
    pairs: list[tuple[Told, Told]] = []
    for name in np.unique(real.labels).tolist():
        most = min((real.labels == name).sum(), (simulated.labels == name).sum())
        pair = real.of_class(name, most), simulated.of_class(name, most)
        classes[name] = {"alerts": int(most), "objects": [len(set(part.groups)) for part in pair]}
        if min(classes[name]["objects"]) >= FEWEST:
            classes[name]["area"] = _told_apart(*pair, slice(None), seed)
            pairs.append(pair)
    if not pairs:
        return {"classes": classes}
    both = Told.joined([a for a, _ in pairs]), Told.joined([b for _, b in pairs])
    return {
        "area": _told_apart(*both, slice(None), seed),
        "area_of_columns": _told_apart(*both, slice(0, len(COLUMNS)), seed),
        "area_of_images": _told_apart(*both, slice(len(COLUMNS), None), seed),
        "classes": classes,
        "telling": telling(*both),
    }


def telling(real: Told, simulated: Told) -> list[dict[str, Any]]:
    """The numbers that tell most by themselves: the area of each, of alerts that have it, and which way.

    `missing`: the shares of real and simulated alerts that do not have it.
    """
    found = []
    truth = np.repeat([False, True], [len(real.numbers), len(simulated.numbers)])
    for i, name in enumerate(NAMES):
        values = np.concatenate([real.numbers[:, i], simulated.numbers[:, i]])
        known = np.isfinite(values)
        if not (known & truth).any() or not (known & ~truth).any():
            continue
        by_this = area(*roc(truth[known], values[known]))
        found.append(
            {
                "name": name,
                "area": round(max(by_this, 1 - by_this), 4),
                "simulated": "larger" if by_this > 0.5 else "smaller",
                "missing": [round(float((~known[truth == side]).mean()), 4) for side in (False, True)],
            }
        )
    return sorted(found, key=lambda each: -float(each["area"]))[:TELLING]  # type: ignore[arg-type]


def _told_apart(real: Told, simulated: Told, kept: slice, seed: int) -> list[float]:
    """The area under the ROC curve of trees that never saw the object, with its interval over objects."""
    both = Told.joined([real, simulated])
    truth = np.repeat([0, 1], [len(real.labels), len(simulated.labels)])
    groups = np.char.add(np.where(truth == 1, "s ", "r "), both.groups.astype(str))
    fold = folds(groups, truth, FOLDS, seed)
    chance = np.empty(len(truth))
    values = both.numbers[:, kept]
    for k in range(FOLDS):
        learn, test = fold != k, fold == k
        there = np.isfinite(values[learn]).any(axis=0)
        trees = HistGradientBoostingClassifier(max_iter=50, max_leaf_nodes=8, random_state=seed)
        with threadpool_limits(THREADS):
            trees.fit(values[learn][:, there], truth[learn])
            chance[test] = trees.predict_proba(values[test][:, there])[:, 1]
    draw, drawn = np.random.default_rng(seed), []
    names, place = np.unique(groups, return_inverse=True)
    for _ in range(DRAWS):
        times = np.bincount(draw.integers(0, len(names), len(names)), minlength=len(names))[place]
        rows = np.repeat(np.arange(len(truth)), times)
        drawn.append(area(*roc(truth[rows] == 1, chance[rows])))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return [round(float(x), 4) for x in (area(*roc(truth == 1, chance)), low, high)]
