"""What a network has to beat: gradient boosting on the same numbers, trained on the same folds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from training.evaluate import macro_f1
from training.fitting import THREADS, class_weights
from training.paired import CONFIDENCE, paired

ROUNDS, RATE, LEAVES = 150, 0.06, 15


def boosted(
    features: np.ndarray, labels: np.ndarray, fold: np.ndarray, classes: int, power: float, seed: int
) -> np.ndarray:
    """float64 (rows, classes): each row's probabilities by the trees that never saw its object.

    `features` (rows, F), NaN where missing; `fold` (rows,); `power` weighs rare classes.
    """
    found = np.zeros((len(labels), classes))
    for k in np.unique(fold):
        learn = fold != k
        known = features[learn]
        telling = np.nanmax(known, axis=0, initial=-np.inf) > np.nanmin(known, axis=0, initial=np.inf)
        weights = class_weights(labels[learn], classes, power)
        trees = HistGradientBoostingClassifier(
            max_iter=ROUNDS,
            learning_rate=RATE,
            max_leaf_nodes=LEAVES,
            min_samples_leaf=10,
            l2_regularization=3,
            max_features=0.2,
            early_stopping=False,
            random_state=seed,
        )
        with threadpool_limits(THREADS):
            trees.fit(known[:, telling], labels[learn], sample_weight=weights[labels[learn]])
            chances = trees.predict_proba(features[~learn][:, telling])
        found[np.ix_(~learn, trees.classes_)] = chances
    return found


def against(
    truth: np.ndarray, groups: np.ndarray, trees: np.ndarray, network: np.ndarray, classes: Sequence[str]
) -> dict[str, Any]:
    """JSON-ready: macro-F1 of both, and the network's gain with its interval, by a bootstrap over objects."""
    found = paired(truth, groups, trees, network)
    return {
        "method": f"gradient boosting, {ROUNDS} rounds of {LEAVES} leaves",
        "macro_f1": round(macro_f1(truth, trees.argmax(axis=1), classes), 4),
        "gain": [round(float(number), 4) for number in (found.difference, found.lower, found.upper)],
        "confidence": CONFIDENCE,
    }
