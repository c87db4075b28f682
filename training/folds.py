"""Cross-validation by object, some times over: each time other folds, so that luck averages out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from training import baseline, evaluate


class Folds:
    """Each member is trained without one fold of one time over; those of the first time make the version.

    `truth`, `groups`, `part` (times x rows,): the class and object of what is judged, pooled over the times,
    and the member that never saw it.
    """

    def __init__(self, labels: np.ndarray, groups: np.ndarray, count: int, times: int, seed: int) -> None:
        self.count, self.times = count, times
        self.fold = np.stack([evaluate.folds(groups, labels, count, seed + 1000 * i) for i in range(times)])
        self.truth, self.groups = np.tile(labels, times), np.tile(groups, times)
        self.part = (self.fold + count * np.arange(times)[:, None]).ravel()

    @property
    def members(self) -> int:
        return self.count * self.times

    @property
    def method(self) -> str:
        """How it is judged, for model.json."""
        return (
            f"{self.count}-fold cross-validation by object, {self.times} times over, "
            "each by the member that never saw it"
        )

    def split(self, member: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows that the member learns from, and those that it is judged on."""
        held = self.fold[member // self.count] == member % self.count
        return np.flatnonzero(~held), np.flatnonzero(held)

    def pooled(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """(times x rows, ...) from each member's answers about the rows that it is judged on."""
        found = np.empty((len(self.part), *parts[0].shape[1:]), parts[0].dtype)
        for member, answers in enumerate(parts):
            found[self.part == member] = answers
        return found

    def of_times(self, found: np.ndarray, classes: Sequence[str]) -> list[float]:
        """Macro-F1 of each time over; `found` (times x rows,) class indices."""
        pairs = zip(*(np.split(values, self.times) for values in (self.truth, found)), strict=True)
        return [round(evaluate.macro_f1(truth, called, classes), 4) for truth, called in pairs]

    def boosted(
        self, features: np.ndarray, labels: np.ndarray, classes: int, power: float, seed: int
    ) -> np.ndarray:
        """The baseline's probabilities (times x rows, classes), trained on the same folds."""
        found = [
            baseline.boosted(features, labels, fold, classes, power, seed + i)
            for i, fold in enumerate(self.fold)
        ]
        return np.concatenate(found)
