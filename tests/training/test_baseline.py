"""The baseline is trained without what it is judged on, and the comparison says which one is better."""

from __future__ import annotations

import numpy as np

from training.baseline import against, boosted

CLASSES = ("a", "b")


def test_trees_learn_what_there_is_to_learn_and_nothing_of_what_is_held_out() -> None:
    draw = np.random.default_rng(0)
    labels, fold = draw.integers(0, 2, 600), np.arange(600) % 3
    telling = (labels + draw.normal(0, 0.2, 600))[:, None]
    telling[::7] = np.nan
    assert (boosted(telling, labels, fold, 2, 0.5, 1).argmax(axis=1) == labels).mean() > 0.9
    blind = boosted(np.arange(600.0)[:, None], labels, fold, 2, 0.5, 1)
    assert abs((blind.argmax(axis=1) == labels).mean() - 0.5) < 0.08


def test_a_class_that_a_fold_lacks_is_no_error() -> None:
    labels = np.arange(150) % 3
    found = boosted(
        np.arange(150.0)[:, None], labels, np.where(labels == 2, 1, np.arange(150) // 3 % 2), 3, 0.5, 1
    )
    assert np.allclose(found.sum(axis=1), 1)
    assert (found[labels == 2, 2] == 0).all(), "it was never shown one"


def test_the_gain_is_positive_where_the_network_is_better() -> None:
    truth = np.arange(400) % 2
    right, half = np.eye(2)[truth], np.eye(2)[np.where(np.arange(400) % 4 == 0, 1 - truth, truth)]
    found = against(truth, np.arange(400), half, right, CLASSES)
    assert found["gain"][1] > 0.1
    assert found["macro_f1"] < 0.8
