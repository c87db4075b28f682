"""How good probabilities are: macro-F1, per class, calibration; and the temperature that calibrates them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np


def folds(groups: np.ndarray, labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The fold (0 to count-1) of each row: objects stay together, classes spread evenly, `seed` shuffles.

    `groups` and `labels` (rows,). An object's class is that of its first row.
    """
    draw = np.random.default_rng(seed)
    names, first, row_group = np.unique(groups, return_index=True, return_inverse=True)
    fold = np.empty(len(names), np.int64)
    start = 0
    for label in np.unique(labels):
        members = draw.permutation(np.flatnonzero(labels[first] == label))
        fold[members] = (start + np.arange(len(members))) % count
        start += len(members)
    return fold[row_group]


def f1(truth: np.ndarray, found: np.ndarray, classes: Sequence[str]) -> dict[str, dict[str, float]]:
    """Per class precision, recall, F1 and count of `truth`; both (rows,) of class indices."""
    result = {}
    for i, name in enumerate(classes):
        hit = int(((truth == i) & (found == i)).sum())
        precision = hit / max(int((found == i).sum()), 1)
        recall = hit / max(int((truth == i).sum()), 1)
        result[name] = {
            "precision": round(precision, 4),
            "recall": round(recall, 4),
            "f1": round(2 * precision * recall / max(precision + recall, 1e-12), 4),
            "count": int((truth == i).sum()),
        }
    return result


def macro_f1(truth: np.ndarray, found: np.ndarray, classes: Sequence[str]) -> float:
    """The mean of the classes' F1, each class alike."""
    return float(np.mean([row["f1"] for row in f1(truth, found, classes).values()]))


def macro_f1_without(
    truth: np.ndarray, probabilities: np.ndarray, classes: Sequence[str], name: str
) -> float:
    """Macro-F1 among the other classes, of the rows that are one of them."""
    there = truth != classes.index(name)
    others = [i for i in range(len(classes)) if i != classes.index(name)]
    found = probabilities[np.ix_(there, others)].argmax(axis=1)
    return macro_f1(np.searchsorted(others, truth[there]), found, [classes[i] for i in others])


def calibration_error(truth: np.ndarray, probabilities: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error of the top class (Guo et al. 2017, arXiv:1706.04599), equal-width bins."""
    top = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    bucket = np.minimum((top * bins).astype(int), bins - 1)
    gaps = [abs(top[bucket == b].sum() - right[bucket == b].sum()) for b in range(bins)]
    return float(sum(gaps) / len(truth))


def log_loss(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean -ln p of the true class."""
    return float(-np.log(np.clip(probabilities[np.arange(len(truth)), truth], 1e-9, 1)).mean())


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Probabilities (rows, classes)."""
    scaled = logits / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def temperature(truth: np.ndarray, logits: np.ndarray) -> float:
    """The T that minimises the log loss of softmax(logits / T)."""
    return least(lambda t: log_loss(truth, softmax(logits, t)))


def temperatures(truth: np.ndarray, logits: np.ndarray, youth: np.ndarray) -> tuple[float, float]:
    """The two that minimise the log loss of softmax(logits / T), T going from one to the other with `youth`.

    `youth` (rows, 1), 0 to 1. Each is sought with the other one fixed, a few times in turns.
    """
    old = young = 1.0

    def loss(old: float, young: float) -> float:
        return log_loss(truth, tempered(logits, (old, young), youth))

    for _ in range(4):
        old = least(partial(loss, young=young))
        young = least(partial(loss, old))
    return old, young


def tempered(logits: np.ndarray, temperatures: tuple[float, float], youth: np.ndarray) -> np.ndarray:
    """Probabilities (rows, classes) at the two temperatures."""
    old, young = temperatures
    return softmax(logits / (old + (young - old) * youth))


def least(loss: Callable[[float], float]) -> float:
    """Where `loss` of a temperature is least, by golden-section search in its logarithm."""
    low, high = np.log(0.2), np.log(10.0)
    ratio = (np.sqrt(5) - 1) / 2
    for _ in range(40):
        a, b = high - ratio * (high - low), low + ratio * (high - low)
        if loss(float(np.exp(a))) < loss(float(np.exp(b))):
            high = b
        else:
            low = a
    return float(np.exp((low + high) / 2))


def tempered_loss(truth: np.ndarray, logits: np.ndarray, weights: np.ndarray) -> float:
    """Mean -ln p of the true class, weighted by row, once a temperature has made the logits honest.

    What decides when to stop: a network goes on to learn after it has begun to be too sure of itself.
    """
    chances = softmax(logits, temperature(truth, logits))
    losses = -np.log(np.clip(chances[np.arange(len(truth)), truth], 1e-9, 1))
    return float((weights * losses).sum() / weights.sum())


def held_out_temperatures(truth: np.ndarray, logits: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Per row the temperature fitted on the rows of all other folds: for honest calibration metrics."""
    result = np.empty(len(truth))
    for k in np.unique(fold):
        result[fold == k] = temperature(truth[fold != k], logits[fold != k])
    return result


def report(truth: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """All of the above as one JSON-ready object."""
    found = probabilities.argmax(axis=1)
    confusion = np.zeros((len(classes), len(classes)), int)
    np.add.at(confusion, (truth, found), 1)
    return {
        "macro_f1": round(macro_f1(truth, found, classes), 4),
        "accuracy": round(float((truth == found).mean()), 4),
        "log_loss": round(log_loss(truth, probabilities), 4),
        "calibration_error": round(calibration_error(truth, probabilities), 4),
        "rows": len(truth),
        "classes": f1(truth, found, classes),
        "confusion": {
            name: dict(zip(classes, row.tolist(), strict=True))
            for name, row in zip(classes, confusion, strict=True)
        },
    }
