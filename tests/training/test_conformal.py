"""Sets of classes: they hold the truth as often as promised, and no more classes than it takes."""

from __future__ import annotations

import numpy as np
import pytest

from training import conformal


def drawn(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Classes drawn from their own probabilities."""
    draw = np.random.default_rng(seed)
    probabilities = draw.dirichlet([0.4, 0.4, 0.4], rows)
    truth = (probabilities.cumsum(axis=1) > draw.random((rows, 1))).argmax(axis=1)
    return truth, probabilities


@pytest.mark.parametrize("coverage", [0.7, 0.9, 0.97])
def test_new_rows_are_covered_as_promised(coverage: float) -> None:
    least = conformal.threshold(*drawn(4000, 1), coverage)
    truth, probabilities = drawn(20000, 2)
    held = conformal.covered(truth, conformal.sets(probabilities, least))["coverage"]
    assert held == pytest.approx(coverage, abs=0.015)


def test_the_threshold_is_the_one_worked_out_by_hand() -> None:
    own = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    probabilities = np.column_stack([own, 1 - own])
    # Nine rows: the ninth greatest of ten with the new one, 0.9 of them.
    assert conformal.threshold(np.zeros(9, int), probabilities, 0.9) == pytest.approx(0.1)
    assert conformal.threshold(np.zeros(9, int), probabilities, 0.8) == pytest.approx(0.2)
    assert conformal.threshold(np.zeros(3, int), probabilities[:3], 0.9) == 0.0, "too few to promise it"


def test_a_set_may_hold_several_classes_or_none() -> None:
    found = conformal.sets(np.array([[0.4, 0.35, 0.25], [0.5, 0.48, 0.02], [0.9, 0.1, 0.0]]), 0.45)
    assert found.tolist() == [[False, False, False], [True, True, False], [True, False, False]]


def test_held_out_coverage_judges_no_fold_by_itself() -> None:
    truth, probabilities = drawn(3000, 3)
    found = conformal.held_out(truth, probabilities, np.arange(3000) % 5)
    assert found["coverage"] == pytest.approx(0.9, abs=0.03)
    assert 0.9 <= found["mean_size"] <= 3
