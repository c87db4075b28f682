"""Trees as tensors: what they say is what their library says, of missing values too."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.trees import Trees
from training import trees as growing


@pytest.fixture
def learned() -> tuple[np.ndarray, np.ndarray]:
    """Columns (rows, 8), a fifth of the values missing, and classes that depend on them."""
    draw = np.random.default_rng(0)
    values = draw.normal(size=(800, 8)).astype(np.float32)
    values[draw.random(values.shape) < 0.2] = np.nan
    return values, (np.nan_to_num(values[:, 0]) > 0) + 2 * (values[:, 1] > 0.5)


def test_a_question_is_whether_a_column_is_above_a_border_and_missing_is_above_nothing() -> None:
    trees = Trees(members=1, trees=1, depth=2, classes=2)
    trees.feature[:, 0, 0] = torch.tensor([0, 1])
    trees.border[:, 0, 0] = torch.tensor([0.5, -1.0])
    trees.leaves[0, 0] = torch.tensor([[0.0, 0], [1, 0], [2, 0], [3, 0]])
    trees.base[0] = torch.tensor([10.0, 7.0])
    asked = torch.tensor([[0.5, -1.0], [0.6, -2.0], [0.0, 5.0], [1.0, 1.0], [torch.nan, torch.nan]])
    assert trees(asked)[0, :, 0].tolist() == [10, 11, 12, 13, 10]
    assert trees(asked)[0, :, 1].tolist() == [7] * 5


def test_grown_trees_say_what_their_library_says(learned, monkeypatch) -> None:
    values, labels = learned
    boosters = []
    booster = growing.CatBoostClassifier

    def kept(**settings):
        boosters.append(booster(**settings))
        return boosters[-1]

    monkeypatch.setattr(growing, "CatBoostClassifier", kept)
    trees = Trees(members=2, trees=30, depth=4, classes=4)
    members = [
        growing.grown([values], labels, 4, trees=30, depth=4, rate=0.2, power=0, seed=seed)
        for seed in range(2)
    ]
    trees.load_state_dict(growing.joined(members))
    said = trees(torch.from_numpy(values)).numpy()
    for found, one in zip(said, boosters, strict=True):
        np.testing.assert_allclose(found, one.predict(values, prediction_type="RawFormulaVal"), atol=1e-5)
    assert np.abs(said[0] - said[1]).max() > 1e-3, "another seed, other trees"
    assert (said[0].argmax(axis=1) == labels).mean() > 0.9


def test_a_class_that_no_row_has_is_not_called(learned) -> None:
    values, labels = learned
    trees = growing.grown([values], labels, 6, trees=20, depth=3, rate=0.2, power=0, seed=1)
    assert set(trees(torch.from_numpy(values))[0].argmax(dim=1).tolist()) <= {0, 1, 2, 3}


@pytest.mark.parametrize("depth", [0, 9, 10**9])
def test_trees_that_no_byte_numbers_are_refused(depth: int) -> None:
    with pytest.raises(ValueError, match="1 to 8 questions deep"):
        Trees(members=1, trees=1, depth=depth, classes=2)
