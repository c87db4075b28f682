"""Two versions on the same alerts, and how nights drift: cases whose answers are known."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from broker.packets.schema import SCORES
from training.comparison import Said, compared, drift, psi, said


def entry(version: str, probabilities: list[float] | None, model: str = "m") -> dict:
    classes = None if probabilities is None else ["a", "b"]
    reason = None if probabilities else "it raised"
    about = {"model": model, "version": version, "classes": classes}
    return about | {"probabilities": probabilities, "reason": reason}


def by(version: str, rows: list[int], p: list[float]) -> Said:
    column = np.array(p)
    return Said(np.array(rows), version, ("a", "b"), np.column_stack([column, 1 - column]), {})


def test_what_a_version_said_is_found_among_others_with_its_failures():
    scores = [
        [entry("1", [0.9, 0.1]), entry("7", [0.5, 0.5], "other")],
        [],
        [entry("2", None)],
        [entry("2", [0.25, 0.75])],
    ]
    table = pa.table({"scores": pa.array(scores, SCORES)})
    found = said(table, "scores", "m")
    assert found.version == "2", "the one that scored last"
    assert found.rows.tolist() == [3]
    assert found.probabilities.tolist() == [[0.25, 0.75]]
    assert found.failed == {"it raised": 1}
    assert said(table, "scores", "nobody") is None


def test_agreement_and_what_would_enter_and_leave_a_topic():
    old, new = by("1", [0, 1, 2, 5], [0.9, 0.4, 0.8, 0.9]), by("2", [0, 1, 2, 3], [0.9, 0.9, 0.3, 0.9])
    found = compared(old, new, 0.7)
    assert found["alerts"] == 3, "those that both have scored"
    assert found["same_top_class"] == pytest.approx(1 / 3)
    assert found["largest_difference"] == pytest.approx(0.5)
    assert found["confusion"] == {"a": {"a": 1, "b": 1}, "b": {"a": 1, "b": 0}}
    assert found["topics"]["a"] == {"now": 2, "enter": 1, "leave": 1}
    assert found["topics"]["b"] == {"now": 0, "enter": 1, "leave": 0}


def test_classes_that_differ_are_not_compared():
    one = Said(np.array([0]), "1", ("a", "b"), np.array([[0.5, 0.5]]), {})
    other = Said(np.array([0]), "2", ("a", "c"), np.array([[0.5, 0.5]]), {})
    assert compared(one, other, 0.5) == {"alerts": 0, "reason": "they have other classes"}


def test_the_stability_index_is_zero_for_the_same_and_grows_with_a_shift():
    draw = np.random.default_rng(0)
    before = draw.normal(size=5000)
    assert psi(before, before) == 0
    same, shifted, lacking = draw.normal(size=5000), draw.normal(1, 1, 5000), before.copy()
    lacking[::2] = np.nan
    assert psi(before, same) < 0.02
    # Of two Gaussians a sigma apart the symmetrised divergence is 1; ten bins see most of it.
    assert 0.7 < psi(before, shifted) < 1.0
    assert psi(before, lacking) > 1
    assert psi(before[:10], before) is None


def test_a_night_that_is_not_like_those_before_is_told():
    draw = np.random.default_rng(0)
    night = np.repeat([60000.0, 60001.0, 60002.0], 200)
    flux = np.where(night > 60001.5, 10.0, 0.0) + draw.normal(size=600)
    scores = by("1", list(range(600)), draw.uniform(size=600).tolist())
    found = drift(pa.table({"mjd": night, "flux": flux}), scores, ["flux", "cutouts"])
    assert set(found) == {"60001", "60002"}
    assert found["60001"]["flux"] < 0.3 < 1 < found["60002"]["flux"]
    assert found["60002"]["score:a"] < 0.3
