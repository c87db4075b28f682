"""Two versions on the same alerts: which classifies better, and how sure that is. Pure functions.

Every object counts once, however many alerts it has: alerts of one object are no independent evidence. The
bootstrap draws objects, and both versions are judged on the same draw (Efron & Tibshirani 1993, chapter 13).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.evaluate import calibration_error

CONFIDENCE = 0.95
DRAWS = 2000
_AT_ONCE = 100


@dataclass(frozen=True)
class Paired:
    """An `old` version against a `new` one: their macro-F1, F1 per class (classes,) and calibration error.

    `lower` and `upper` bound the difference of macro-F1, new - old, with CONFIDENCE.
    """

    old: float
    new: float
    lower: float
    upper: float
    old_f1: np.ndarray
    new_f1: np.ndarray
    old_calibration: float
    new_calibration: float
    objects: int
    rows: int

    @property
    def difference(self) -> float:
        return self.new - self.old


def paired(truth: np.ndarray, groups: np.ndarray, old: np.ndarray, new: np.ndarray, seed: int = 0) -> Paired:
    """Compare two versions.

    `truth` (rows,) of class indices, `groups` (rows,) the objects, `old` and `new` (rows, classes) their
    probabilities, NaN where a version says nothing of an alert: that counts as a miss.
    """
    before, after = confusions(truth, groups, old), confusions(truth, groups, new)
    differences = _differences(before, after, np.random.default_rng(seed))
    lower, upper = np.quantile(differences, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    old_f1, new_f1 = f1(before.sum(axis=0)), f1(after.sum(axis=0))
    return Paired(
        old=float(old_f1.mean()),
        new=float(new_f1.mean()),
        lower=float(lower),
        upper=float(upper),
        old_f1=old_f1,
        new_f1=new_f1,
        old_calibration=_calibration(truth, old),
        new_calibration=_calibration(truth, new),
        objects=len(before),
        rows=len(truth),
    )


def confusions(
    truth: np.ndarray, groups: np.ndarray, probabilities: np.ndarray, by_alert: bool = False
) -> np.ndarray:
    """float64 (objects, classes, classes + 1): what each object's alerts are, and what they are called.

    The last column is for alerts without a score. An object's alerts share a weight of one, or (`by_alert`)
    have it each.
    """
    classes = probabilities.shape[1]
    _, objects, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    scored = np.isfinite(probabilities).all(axis=1)
    found = np.where(scored, np.nan_to_num(probabilities).argmax(axis=1), classes)
    counts = np.zeros((len(sizes), classes, classes + 1))
    np.add.at(counts, (objects, truth, found), 1 if by_alert else 1 / sizes[objects])
    return counts


def f1(confusion: np.ndarray) -> np.ndarray:
    """F1 (..., classes) of confusions (..., classes, classes + 1); 0 for a class that does not occur."""
    hit = np.diagonal(confusion, axis1=-2, axis2=-1)
    either = confusion.sum(axis=-1) + confusion[..., :-1].sum(axis=-2)
    return np.divide(2 * hit, either, out=np.zeros(hit.shape), where=either > 0)


def _differences(before: np.ndarray, after: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """float64 (DRAWS,): macro-F1 of `after` minus `before`, of as many objects, drawn with replacement."""
    objects, shape = len(before), before.shape[1:]
    flat = np.concatenate([before.reshape(objects, -1), after.reshape(objects, -1)], axis=1)
    found = []
    for first in range(0, DRAWS, _AT_ONCE):
        draws = min(_AT_ONCE, DRAWS - first)
        times = draw.multinomial(objects, np.full(objects, 1 / objects), draws)
        old, new = np.split((times @ flat).reshape(draws, 2, *shape), 2, axis=1)
        found.append((f1(new) - f1(old)).mean(axis=-1)[:, 0])
    return np.concatenate(found)


def _calibration(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """The expected calibration error of the alerts that have a score; 1 if none has."""
    scored = np.isfinite(probabilities).all(axis=1)
    return calibration_error(truth[scored], probabilities[scored]) if scored.any() else 1.0
