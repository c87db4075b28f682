"""What is said of a version: numbers that can be worked out by hand, and intervals that hold."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from models import columns
from models.testing import alerts
from training.epochs import at_age, has_history
from training.evaluation import area, evaluation, roc, seen_as, sliced
from training.slices import slices

CLASSES = ("Ia", "II")


def said(found: np.ndarray, sure: float = 0.9) -> np.ndarray:
    """Probabilities (rows, 2) of a version that calls row i `found[i]`."""
    return np.where(np.arange(2) == found[:, None], sure, 1 - sure)


def test_the_numbers_are_those_worked_out_by_hand():
    truth, found = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])
    result = evaluation(truth, np.arange(4), said(found), CLASSES)
    assert result["macro_f1"][0] == pytest.approx((4 / 5 + 2 / 3) / 2, abs=1e-4)
    assert result["accuracy"][0] == 0.75
    assert (result["classes"]["Ia"]["count"], result["classes"]["II"]["count"]) == (3, 1)
    assert result["classes"]["Ia"]["roc_auc"] == pytest.approx(5 / 6, abs=1e-4)
    assert [result["classes"]["II"][key][0] for key in ("precision", "recall", "f1")] == [0.5, 1.0, 0.6667]
    assert result["calibration_error"][0] == pytest.approx(0.15)  # sure to 0.9, right three times of four
    assert result["brier"] == pytest.approx((3 * 2 * 0.1**2 + 2 * 0.9**2) / 4)
    assert result["confusion"]["Ia"] == {"Ia": 2, "II": 1, "unscored": 0}
    assert result["reliability"] == [{"rows": 4, "chance": 0.9, "right": 0.75}]


def test_what_is_of_no_class_is_seen_as_something():
    labels = np.array(["IIb", "IIb", "IIb", "Iax"])
    found = said(np.array([0, 1, 1, 0]))
    found[3] = np.nan
    assert seen_as(labels, found, CLASSES) == {"IIb": {"Ia": 1, "II": 2}, "Iax": {"unscored": 1}}


def test_nine_intervals_of_ten_and_more_hold_the_true_accuracy():
    draw, held = np.random.default_rng(1), 0
    for seed in range(60):
        truth = draw.integers(0, 2, 150)
        found = np.where(draw.random(150) < 0.8, truth, 1 - truth)
        _, low, high = evaluation(truth, np.arange(150), said(found), CLASSES, seed)["accuracy"]
        held += low <= 0.8 <= high
    assert held >= 54


def test_alerts_of_one_object_are_no_independent_evidence():
    draw = np.random.default_rng(2)
    truth = draw.integers(0, 2, 100)
    found = np.where(draw.random(100) < 0.8, truth, 1 - truth)
    alone = evaluation(truth, np.arange(100), said(found), CLASSES)["accuracy"]
    often = evaluation(np.tile(truth, 9), np.tile(np.arange(100), 9), said(np.tile(found, 9)), CLASSES)
    assert often["objects"] == 100
    assert often["accuracy"] == alone


def test_an_alert_without_a_score_is_a_miss():
    probabilities = said(np.array([0, 1]))
    probabilities[1] = np.nan
    result = evaluation(np.array([0, 1]), np.arange(2), probabilities, CLASSES)
    assert (result["accuracy"][0], result["unscored"]) == (0.5, 1)
    assert result["confusion"]["II"]["unscored"] == 1


def test_a_class_that_does_not_occur_is_left_out():
    result = evaluation(np.zeros(4, int), np.arange(4), said(np.zeros(4, int)), CLASSES)
    assert list(result["classes"]) == ["Ia"]
    assert result["macro_f1"][0] == 1.0


@pytest.mark.parametrize(
    ("chance", "expected"),
    [([0.9, 0.8, 0.2, 0.1], 1.0), ([0.1, 0.2, 0.8, 0.9], 0.0), ([0.5, 0.5, 0.5, 0.5], 0.5)],
)
def test_the_area_under_the_curve(chance, expected):
    assert area(*roc(np.array([True, True, False, False]), np.array(chance))) == expected


def test_slices_divide_the_alerts():
    table = alerts(200)
    truth, groups = np.arange(200) % 2, np.arange(200)
    parts = slices(table)
    assert {"band", "magnitude", "galactic latitude"} <= set(parts)
    assert parts["band"]["g"].sum() + parts["band"]["r"].sum() == 200
    result = sliced(truth, groups, said(truth), parts)
    assert result["band"]["g"]["rows"] == parts["band"]["g"].sum()
    assert result["band"]["g"]["accuracy"] == [1.0, 1.0, 1.0]


def test_stamps_at_an_edge_and_with_invalid_pixels_are_slices():
    table = alerts(60)
    pixels = columns.cutouts(table).copy()
    pixels[:20, 0, 0, 0] = np.nan
    flat = pa.FixedSizeListArray.from_arrays(pa.array(pixels.ravel()), 3 * 63 * 63)
    cutouts = pa.ExtensionArray.from_storage(table.schema.field("cutouts").type, flat)
    shapes = np.full((60, 2), 63, np.int32)
    shapes[40:, 1] = 50
    table = table.set_column(table.schema.get_field_index("cutouts"), "cutouts", cutouts)
    at = table.schema.get_field_index("cutout_shape")
    lengths = pa.FixedSizeListArray.from_arrays(pa.array(shapes.ravel()), 2)
    table = table.set_column(at, "cutout_shape", lengths)
    assert {name: rows.sum() for name, rows in slices(table)["stamps"].items()} == {
        "whole": 20,
        "with invalid pixels": 20,
        "at an edge": 20,
    }


def test_an_alert_as_it_was_some_days_after_the_first_detection():
    point = table_of_points()
    young = at_age(point, 5.0).to_pylist()
    assert young[0] == {"mjd": 104.0, "band": "r", "flux": 3.0, "flux_err": 1.0, "history": KEPT}
    assert young[1]["mjd"] == 201.0  # its own detection is as early: it stays, with all before it
    assert [p["mjd"] for p in young[1]["history"]] == [200.0]
    assert at_age(point, 1e4).equals(point)
    assert has_history(point)


def history(*points: tuple[float, str, float | None, str]) -> list[dict[str, object]]:
    return [
        {"mjd": mjd, "band": band, "flux": flux, "flux_err": 1.0, "kind": kind}
        for mjd, band, flux, kind in points
    ]


KEPT = history((98.0, "g", None, "limit"), (100.0, "g", 2.0, "detection"), (103.0, "g", None, "limit"))


def table_of_points() -> pa.Table:
    """An alert at day 130 (first detected at 100), and one at day 201 (200)."""
    late = history(
        (104.0, "r", 3.0, "detection"), (106.0, "g", 4.0, "detection"), (110.0, "r", None, "limit")
    )
    rows = [[*KEPT, *late], history((200.0, "g", 1.0, "detection"))]
    kinds = alerts(2).schema
    return pa.table(
        {
            "mjd": pa.array([130.0, 201.0]),
            "band": pa.array(["g", "g"], kinds.field("band").type),
            "flux": pa.array([5.0, 6.0]),
            "flux_err": pa.array([1.0, 1.0]),
            "history": pa.array(rows, kinds.field("history").type),
        }
    )
