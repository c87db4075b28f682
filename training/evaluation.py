"""How good a version is on labelled alerts, and how sure that is: what `rayfinch evaluate` says.

Intervals are of a bootstrap over objects, CONFIDENCE wide: an object's alerts are no independent evidence
(Efron & Tibshirani 1993, chapter 13). An alert about which the version says nothing counts as a miss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from training import conformal
from training.evaluate import log_loss
from training.paired import CONFIDENCE, confusions, f1

DRAWS = 1000
BINS = 10
_AT_ONCE = 100


def evaluation(
    truth: np.ndarray, groups: np.ndarray, probabilities: np.ndarray, classes: Sequence[str], seed: int = 0
) -> dict[str, Any]:
    """Everything about one set of answers, JSON-ready; numbers with an interval are [value, low, high].

    `truth` (rows,) of class indices, `groups` (rows,) the objects, `probabilities` (rows, classes), NaN where
    the version says nothing. Of classes that do not occur there is no score, and macro-F1 leaves them out.
    """
    scored = np.isfinite(probabilities).all(axis=1)
    counts, bins = confusions(truth, groups, probabilities, True), _reliability(truth, groups, probabilities)
    times = _times(len(counts), seed)
    whole, drawn = counts.sum(axis=0), _sums(counts, times)
    occurs = whole.sum(axis=1) > 0
    found: dict[str, Any] = {
        "rows": len(truth),
        "objects": len(counts),
        "unscored": int((~scored).sum()),
        "confidence": CONFIDENCE,
        "macro_f1": _told(f1(whole)[occurs].mean(), f1(drawn)[:, occurs].mean(axis=1)),
        "accuracy": _told(_accuracy(whole), _accuracy(drawn)),
        "calibration_error": _told(_calibration(bins.sum(axis=0)), _calibration(_sums(bins, times))),
        "classes": {
            name: _class(i, whole, drawn, truth[scored], probabilities[scored])
            for i, name in enumerate(classes)
            if occurs[i]
        },
        "confusion": {
            name: dict(zip([*classes, "unscored"], row.astype(int).tolist(), strict=True))
            for name, row, there in zip(classes, whole, occurs, strict=True)
            if there
        },
        "reliability": _bins(bins.sum(axis=0)),
    }
    if scored.any():
        chances, right = probabilities[scored], np.eye(len(classes))[truth[scored]]
        found["log_loss"] = round(log_loss(truth[scored], chances), 4)
        found["brier"] = round(float(((chances - right) ** 2).sum(axis=1).mean()), 4)
    return found


def covered(truth: np.ndarray, probabilities: np.ndarray, least: float) -> dict[str, float]:
    """How often the version's conformal sets hold the class, and how large they are, of what it scores."""
    scored = np.isfinite(probabilities).all(axis=1)
    return conformal.covered(truth[scored], conformal.sets(probabilities[scored], least))


def seen_as(
    labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]
) -> dict[str, dict[str, int]]:
    """Of each label (rows,) that is no class, the most frequent first: what it is called, how often."""
    names, counts = np.unique(labels, return_counts=True)
    called = [*classes, "unscored"]
    scored = np.isfinite(probabilities).all(axis=1)
    found = np.where(scored, np.nan_to_num(probabilities).argmax(axis=1), len(classes))
    return {
        str(name): {
            called[i]: int(n)
            for i, n in enumerate(np.bincount(found[labels == name], minlength=len(called)))
            if n
        }
        for name in names[np.argsort(-counts, kind="stable")]
    }


def sliced(
    truth: np.ndarray,
    groups: np.ndarray,
    probabilities: np.ndarray,
    slices: Mapping[str, Mapping[str, np.ndarray]],
    seed: int = 0,
) -> dict[str, Any]:
    """Per kind and slice: how many alerts and objects, accuracy, and macro-F1 of the classes there."""
    found: dict[str, Any] = {}
    for kind, parts in slices.items():
        for name, rows in parts.items():
            counts = confusions(truth[rows], groups[rows], probabilities[rows], by_alert=True)
            whole, drawn = counts.sum(axis=0), _sums(counts, _times(len(counts), seed))
            occurs = whole.sum(axis=1) > 0
            found.setdefault(kind, {})[name] = {
                "rows": int(rows.sum()),
                "objects": len(counts),
                "accuracy": _told(_accuracy(whole), _accuracy(drawn)),
                "macro_f1": _told(f1(whole)[occurs].mean(), f1(drawn)[:, occurs].mean(axis=1)),
            }
    return found


def roc(truth: np.ndarray, chance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates (thresholds + 1,) of bool `truth` (rows,) by falling `chance` (rows,)."""
    order = np.argsort(-chance, kind="stable")
    last = np.append(np.flatnonzero(np.diff(chance[order])), len(order) - 1)  # ties share a threshold
    hit, miss = np.cumsum(truth[order])[last], np.cumsum(~truth[order])[last]
    return (
        np.concatenate([[0], miss / max(int((~truth).sum()), 1)]),
        np.concatenate([[0], hit / max(int(truth.sum()), 1)]),
    )


def area(false: np.ndarray, true: np.ndarray) -> float:
    """The area under a ROC curve, by trapezia."""
    return float((np.diff(false) * (true[1:] + true[:-1]) / 2).sum())


def _class(
    i: int, whole: np.ndarray, drawn: np.ndarray, truth: np.ndarray, probabilities: np.ndarray
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "count": int(whole[i].sum()),
        "precision": _told(_share(whole, i, -2), _share(drawn, i, -2)),
        "recall": _told(_share(whole, i, -1), _share(drawn, i, -1)),
        "f1": _told(f1(whole)[i], f1(drawn)[:, i]),
    }
    if 0 < (truth == i).sum() < len(truth):
        found["roc_auc"] = round(area(*roc(truth == i, probabilities[:, i])), 4)
    return found


def _share(confusion: np.ndarray, i: int, axis: int) -> np.ndarray:
    """Of what is called class i (axis -2), or is (-1), which share is right."""
    line = confusion[..., :, i] if axis == -2 else confusion[..., i, :]
    total = line.sum(axis=-1)
    hit = confusion[..., i, i]
    return np.divide(hit, total, out=np.zeros(np.shape(total)), where=total > 0)


def _accuracy(confusion: np.ndarray) -> np.ndarray:
    return np.diagonal(confusion, axis1=-2, axis2=-1).sum(axis=-1) / confusion.sum(axis=(-2, -1))


def _reliability(truth: np.ndarray, groups: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """float64 (objects, BINS, 3): alerts, the sum of their top classes' chances, how many were right."""
    _, objects = np.unique(groups, return_inverse=True)
    scored = np.isfinite(probabilities).all(axis=1)
    chances = np.nan_to_num(probabilities)
    top, right = chances.max(axis=1), chances.argmax(axis=1) == truth
    bucket = np.minimum((top * BINS).astype(int), BINS - 1)
    found = np.zeros((objects.max() + 1, BINS, 3))
    parts = np.stack([scored, top * scored, right & scored], axis=1)
    np.add.at(found, (objects, bucket), parts)
    return found


def _calibration(bins: np.ndarray) -> np.ndarray:
    """Expected calibration error of the top class (Guo et al. 2017, arXiv:1706.04599)."""
    gaps = np.abs(bins[..., 1] - bins[..., 2]).sum(axis=-1)
    return gaps / np.maximum(bins[..., 0].sum(axis=-1), 1)


def _bins(bins: np.ndarray) -> list[dict[str, float]]:
    """The reliability diagram: per bin alerts, mean chance of the top class, and the share that was right."""
    return [
        {"rows": int(n), "chance": round(chance / n, 4), "right": round(right / n, 4)}
        for n, chance, right in bins.tolist()
        if n
    ]


def _times(objects: int, seed: int) -> np.ndarray:
    """int64 (DRAWS, objects): how often each object is in a draw of as many, with replacement."""
    return np.random.default_rng(seed).multinomial(objects, np.full(objects, 1 / objects), DRAWS)


def _sums(per_object: np.ndarray, times: np.ndarray) -> np.ndarray:
    """(DRAWS, ...): the sums over each draw's objects."""
    flat = per_object.reshape(len(per_object), -1)
    parts = [times[at : at + _AT_ONCE] @ flat for at in range(0, len(times), _AT_ONCE)]
    return np.concatenate(parts).reshape(len(times), *per_object.shape[1:])


def _told(value: float | np.ndarray, draws: np.ndarray) -> list[float]:
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return [round(float(number), 4) for number in (value, low, high)]
