"""Folds, scores and calibration, on cases that one can check by hand."""

from __future__ import annotations

import numpy as np
import pytest

from training import evaluate


def test_folds_keep_objects_together_and_spread_classes() -> None:
    groups = np.repeat([f"object {i}" for i in range(50)], 3)
    labels = np.repeat(np.arange(50) % 2, 3)
    fold = evaluate.folds(groups, labels, 5, seed=1)
    for name in np.unique(groups):
        assert len(set(fold[groups == name])) == 1
    for k in range(5):
        assert (labels[fold == k] == 0).sum() == (labels[fold == k] == 1).sum() == 15
    assert (fold == evaluate.folds(groups, labels, 5, seed=1)).all()
    assert (fold != evaluate.folds(groups, labels, 5, seed=2)).any()


def test_f1_by_hand() -> None:
    truth, found = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 1, 0])
    scores = evaluate.f1(truth, found, ("a", "b", "c"))
    assert scores["a"] == {"precision": 0.6667, "recall": 0.6667, "f1": 0.6667, "count": 3}
    assert scores["b"]["f1"] == 0.8
    assert scores["c"]["f1"] == 0.0
    assert evaluate.macro_f1(truth, found, ("a", "b", "c")) == pytest.approx((0.6667 + 0.8) / 3)


def test_the_temperature_undoes_overconfidence() -> None:
    draw = np.random.default_rng(0)
    logits = draw.normal(0, 2, (20000, 4))
    chances = evaluate.softmax(logits)
    truth = (chances.cumsum(axis=1) > draw.random((20000, 1))).argmax(axis=1)
    assert evaluate.temperature(truth, logits) == pytest.approx(1, abs=0.05)
    assert evaluate.temperature(truth, 3 * logits) == pytest.approx(3, abs=0.15)
    assert (
        evaluate.calibration_error(truth, chances)
        < 0.02
        < evaluate.calibration_error(truth, evaluate.softmax(3 * logits))
    )


def test_held_out_temperatures_do_not_see_their_own_fold() -> None:
    draw = np.random.default_rng(0)
    logits, truth, fold = draw.normal(size=(300, 3)), draw.integers(0, 3, 300), np.arange(300) % 3
    wanted = evaluate.temperature(truth[fold != 1], logits[fold != 1])
    truth_changed = np.where(fold == 1, 0, truth)
    assert (evaluate.held_out_temperatures(truth_changed, logits, fold)[fold == 1] == wanted).all()


def test_the_report_counts_every_row() -> None:
    chances = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    report = evaluate.report(np.array([0, 1, 1]), chances, ("a", "b"))
    assert report["confusion"] == {"a": {"a": 1, "b": 0}, "b": {"a": 1, "b": 1}}
    assert report["rows"] == 3
    assert report["accuracy"] == 0.6667


def test_being_too_sure_costs_nothing_where_a_temperature_mends_it() -> None:
    draw = np.random.default_rng(0)
    truth = draw.integers(0, 3, 500)
    logits = draw.normal(size=(500, 3)) + np.eye(3)[truth] * 2
    even = np.ones(500)
    plain = evaluate.tempered_loss(truth, logits, even)
    assert evaluate.tempered_loss(truth, logits * 4, even) == pytest.approx(plain, abs=1e-4)
    assert evaluate.tempered_loss(truth, draw.normal(size=(500, 3)), even) > plain
    heavy = np.where(logits.argmax(axis=1) == truth, 1.0, 5.0)
    assert evaluate.tempered_loss(truth, logits, heavy) > plain


def test_two_temperatures_are_found_where_confidence_depends_on_youth() -> None:
    draw = np.random.default_rng(0)
    right = draw.normal(size=(6000, 3)) * 2
    chances = evaluate.softmax(right)
    truth = (draw.random((6000, 1)) > chances.cumsum(axis=1)).sum(axis=1).clip(0, 2)
    youth = draw.random((6000, 1))
    too_sure = right * (1.5 + (3.0 - 1.5) * youth)
    old, young = evaluate.temperatures(truth, too_sure, youth)
    assert (old, young) == (pytest.approx(1.5, rel=0.1), pytest.approx(3, rel=0.1))
    np.testing.assert_allclose(evaluate.tempered(too_sure, (1.5, 3.0), youth), chances, atol=1e-9)
    assert evaluate.calibration_error(truth, evaluate.tempered(too_sure, (old, young), youth)) < 0.02
