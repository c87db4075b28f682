"""Sets of classes that hold the true one as often as promised: split conformal prediction.

Vovk et al. 2005; the sets are those of Sadinle, Lei & Wasserman 2019 (arXiv:1609.00451): every class whose
probability is at least a threshold, which held-out objects fixed. The promise is about alerts like those of
the data set, on average, not about each class. A set may be empty: then the version is less sure than it is
of nine in ten of the alerts it knows, and no class should be believed.
"""

from __future__ import annotations

import numpy as np

COVERAGE = 0.9


def threshold(truth: np.ndarray, probabilities: np.ndarray, coverage: float = COVERAGE) -> float:
    """The least probability with which a class is in the set. Both by row."""
    own = np.sort(probabilities[np.arange(len(truth)), truth])
    # The ceil((n + 1) coverage)-th greatest: so many of n + 1 exchangeable rows are at or above it.
    place = len(own) - int(np.ceil((len(own) + 1) * coverage))
    return float(own[place]) if place >= 0 else 0.0


def sets(probabilities: np.ndarray, least: float) -> np.ndarray:
    """bool (rows, classes): which classes are in each row's set."""
    return probabilities >= least


def covered(truth: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """How often the sets hold the truth, and of how many classes they are on average."""
    held = found[np.arange(len(truth)), truth]
    return {"coverage": round(float(held.mean()), 4), "mean_size": round(float(found.sum(axis=1).mean()), 3)}


def held_out(truth: np.ndarray, probabilities: np.ndarray, fold: np.ndarray) -> dict[str, float]:
    """`covered` with each fold's threshold from all other folds."""
    found = np.zeros(probabilities.shape, bool)
    for k in np.unique(fold):
        here = fold == k
        found[here] = sets(probabilities[here], threshold(truth[~here], probabilities[~here]))
    return covered(truth, found)
