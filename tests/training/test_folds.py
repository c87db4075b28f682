"""Cross-validation, some times over."""

from __future__ import annotations

import numpy as np

from training.folds import Folds

LABELS = np.arange(40) % 4
GROUPS = np.array([f"object {i // 2}" for i in range(40)])


def test_each_member_is_judged_by_objects_that_it_never_saw() -> None:
    folds = Folds(LABELS, GROUPS, 5, 3, seed=1)
    assert folds.members == 15
    for member in range(folds.members):
        learn, test = folds.split(member)
        assert sorted([*learn, *test]) == list(range(40))
        assert not set(GROUPS[learn]) & set(GROUPS[test])


def test_answers_of_all_members_are_pooled_row_by_row() -> None:
    folds = Folds(LABELS, GROUPS, 5, 3, seed=1)
    parts = [np.stack([folds.split(k)[1], np.full(len(folds.split(k)[1]), k)], axis=1) for k in range(15)]
    pooled = folds.pooled(parts)
    assert (pooled[:, 0] == np.tile(np.arange(40), 3)).all()
    assert (pooled[:, 1] == folds.part).all()
    assert (folds.truth == np.tile(LABELS, 3)).all()
    assert folds.of_times(folds.truth, "abcd") == [1.0, 1.0, 1.0]


def test_times_deal_differently_and_the_first_is_the_same_however_many_there_are() -> None:
    once, thrice = (Folds(LABELS, GROUPS, 5, times, seed=1) for times in (1, 3))
    assert (once.fold[0] == thrice.fold[0]).all()
    assert (thrice.fold[0] != thrice.fold[1]).any()
