"""The gate: who may take the champion's place, and with which sentence others are turned away."""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.doubles import Double
from models.manifest import ModelError
from models.testing import alerts
from tests.support.versions import with_golden, with_weights, without_golden
from training import dataset, frozen
from training.answers import everything, probabilities, seconds_per_alert
from training.dataset import DatasetError
from training.paired import confusions, f1, paired
from training.promotion import Margins, gate, judged

CLASSES = ("Ia", "II", "Ibc", "IIn", "SLSN-I")


def said(found: np.ndarray, classes: int = 2, sure: float = 0.9) -> np.ndarray:
    """Probabilities (rows, classes) of a version that calls row i `found[i]`."""
    rest = (1 - sure) / (classes - 1)
    return np.where(np.arange(classes) == found[:, None], sure, rest)


def coins(objects: int, right: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(truth, found) of two equally frequent classes, called rightly with probability `right`."""
    draw = np.random.default_rng(seed)
    truth = np.arange(objects) % 2
    return truth, np.where(draw.random(objects) < right, truth, 1 - truth)


def test_macro_f1_by_hand():
    """Three of class 0 (one called 1), one of class 1: F1 is 4/5 and 2/3."""
    truth, found = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])
    result = paired(truth, np.arange(4), said(found), said(truth))
    assert result.old_f1 == pytest.approx([4 / 5, 2 / 3])
    assert (result.old, result.new) == (pytest.approx((4 / 5 + 2 / 3) / 2), 1.0)
    assert result.new_calibration == pytest.approx(0.1)  # sure to 0.9, right always
    assert (result.objects, result.rows) == (4, 4)


def test_the_bound_is_that_of_theory():
    """Of two equal classes, macro-F1 is nearly accuracy, whose paired difference has a known variance."""
    objects = 4000
    truth, old = coins(objects, 0.80, 1)
    new = coins(objects, 0.85, 2)[1]
    result = paired(truth, np.arange(objects), said(old), said(new))
    gain = (new == truth).astype(float) - (old == truth)
    error = gain.std() / np.sqrt(objects)
    assert result.difference == pytest.approx(gain.mean(), abs=1e-3)
    assert result.lower == pytest.approx(gain.mean() - 1.96 * error, abs=0.1 * error)
    assert result.upper == pytest.approx(gain.mean() + 1.96 * error, abs=0.1 * error)


def test_the_same_version_twice_is_not_better():
    truth, old = coins(200, 0.8, 1)
    result = paired(truth, np.arange(200), said(old), said(old))
    assert (result.difference, result.lower, result.upper) == (0, 0, 0)
    assert "lower bound (95%, 200 objects) +0.0000, not above zero" in judged(result, (1, 1), "ab")[0]


def test_a_hundred_alerts_of_an_object_are_no_more_evidence_than_one():
    truth, old = coins(40, 0.6, 1)
    new = coins(40, 0.9, 2)[1]
    once = paired(truth, np.arange(40), said(old), said(new))
    repeated = [np.repeat(values, 100) for values in (truth, np.arange(40), old, new)]
    often = paired(repeated[0], repeated[1], said(repeated[2]), said(repeated[3]))
    assert (often.difference, often.lower) == (pytest.approx(once.difference), pytest.approx(once.lower))
    by_row = paired(repeated[0], np.arange(4000), said(repeated[2]), said(repeated[3]))
    assert by_row.lower > once.lower  # what ignoring objects would have claimed


def test_an_object_counts_once_however_many_alerts_it_has():
    """Object a has three alerts, two of them wrong; object b has one, right."""
    truth, found = np.array([0, 0, 0, 1]), np.array([1, 1, 0, 1])
    counts = confusions(truth, np.array(["a", "a", "a", "b"]), said(found))
    assert counts == pytest.approx(np.array([[[1 / 3, 2 / 3, 0], [0, 0, 0]], [[0, 0, 0], [0, 1, 0]]]))
    assert f1(counts.sum(axis=0)) == pytest.approx([2 / 4, 2 / (2 + 2 / 3)])


def test_no_score_is_a_miss():
    truth = np.array([0, 0, 1, 1])
    silent = said(truth)
    silent[0] = np.nan
    result = paired(truth, np.arange(4), said(truth), silent)
    assert result.new_f1 == pytest.approx([2 / 3, 1])
    nothing = paired(truth, np.arange(4), said(truth), np.full((4, 2), np.nan))
    assert (nothing.new, nothing.new_calibration) == (0, 1)


def test_each_reason_is_a_sentence_with_its_numbers():
    truth = np.repeat([0, 1, 2], [300, 300, 100])
    old = truth.copy()
    old[:150] = 1
    new = truth.copy()
    new[600:630] = 1
    result = paired(truth, np.arange(700), said(old, 3, 0.75), said(new, 3, 0.6))
    assert result.lower > 0
    assert judged(result, (1e-3, 10e-3), ("SN", "VS", "AGN")) == [
        "class AGN loses 0.1765 of its F1 (1.0000 to 0.8235), more than its margin of 0.05",
        "calibration error 0.3571 against 0.0357: 0.3214 worse, more than the margin of 0.02",
        "10 ms an alert against 1: 10.0 times as slow, more than 2 times",
    ]
    generous = Margins(classes={"AGN": 0.4}, calibration=0.5, slower=11)
    assert judged(result, (1e-3, 10e-3), ("SN", "VS", "AGN"), generous) == []
    assert "class SN" in judged(result, (1, 1), ("AGN", "VS", "SN"), generous)[0]


class Slow(Double):
    """Takes ten times as long as another."""

    seconds = 0.001

    def score(self, table: pa.Table) -> pa.Table:
        time.sleep(self.seconds)
        return super().score(table)


def test_versions_are_timed_in_turns_an_alert():
    quick, slow = Slow(), Slow(version="2")
    slow.seconds = 0.01
    seconds = seconds_per_alert((quick, slow), alerts(3), everything)
    assert seconds[0] * 128 >= quick.seconds
    assert seconds[1] * 128 >= slow.seconds
    assert quick.asked == slow.asked == [128] * 6


def test_a_version_is_asked_only_about_what_it_asks_for():
    model = Double(classes=("a", "b"))
    found = probabilities(
        model, ("b", "a"), alerts(600), lambda table, _: np.arange(0, len(table), 2), lambda _: None
    )
    assert model.asked == [256, 44]
    assert found[0] == pytest.approx([0.25, 0.75])  # in the champion's order of classes
    assert np.isnan(found[1]).all()
    with pytest.raises(ModelError, match="no alert fulfils the precondition 'true' of double@1"):
        probabilities(model, ("a", "b"), alerts(6), lambda table, _: np.arange(0), lambda _: None)
    failing = Double(raises=ZeroDivisionError("by chance"))
    with pytest.raises(ModelError, match="double@1 fails on a block of 6 alerts: by chance"):
        probabilities(failing, ("yes", "no"), alerts(6), everything, lambda _: None)


@pytest.fixture(scope="session")
def supernovae(shared, tmp_path_factory):
    """A frozen set of 400 real light curves in a Parquet file."""
    found = dataset.light_curves(shared / "data")
    rows = np.sort(np.concatenate([np.flatnonzero(found.labels == name)[:80] for name in CLASSES]))
    path = tmp_path_factory.mktemp("frozen") / "supernovae.parquet"
    table = found.table.drop_columns(["source"])  # without a field; Parquet has no such columns
    pq.write_table(table.take(rows).append_column("label", pa.array(found.labels[rows])), path)
    return path


def test_a_better_version_passes_and_a_worse_one_is_refused(versions, supernovae):
    """The shipped network, against one whose weights are half of what they were."""
    data = frozen.read(supernovae, CLASSES)
    good, bad = (
        with_golden(versions.make("2")),
        with_golden(with_weights(versions.make("1"), lambda w: w / 2)),
    )
    margins = Margins(calibration=0.3, slower=5)
    passed = gate(good, bad, data, everything, margins)
    assert passed.reasons == ()
    numbers = passed.written()
    assert numbers["macro_f1"]["difference"] > numbers["macro_f1"]["lower_bound"] > 0
    assert numbers["frozen"]["digest"] == frozen.digest(data)
    assert numbers["frozen"]["rows"] == numbers["frozen"]["objects"] == len(data)
    assert numbers["frozen"]["champion_trained_on"] is None
    assert numbers["seconds_per_alert"]["champion"] > 0
    assert numbers["margins"]["slower"] == 5
    refused = gate(bad, good, data, everything, margins)
    assert refused.reasons[0].startswith("macro-F1 0.")
    assert "not above zero" in refused.reasons[0]
    assert any(reason.startswith("class ") for reason in refused.reasons)


def test_a_version_that_is_ten_times_as_slow_is_refused(versions, supernovae):
    old = with_golden(versions.make("1"))
    pause = {"seconds_per_alert": 0.005}
    slow = versions.make("2", architecture="models.doubles:Faulty", hyperparameters=pause)
    with_golden(slow)
    refused = gate(slow, old, frozen.read(supernovae, CLASSES), everything)
    assert any("times as slow, more than 2 times" in reason for reason in refused.reasons)
    found = refused.written()["seconds_per_alert"]
    assert found["challenger"] > 0.005 > found["champion"]


def test_a_first_version_needs_golden_scores_and_speed(versions):
    folder = without_golden(versions.make("1"))
    bare = gate(folder, None, None, everything)
    assert bare.reasons == (
        f"{versions.name}@1 has no golden scores (golden.arrow): no machine could tell that it serves it",
    )
    with_golden(folder)
    first = gate(folder, None, None, everything, Margins(seconds_per_alert=60))
    assert first.passed
    assert first.numbers["seconds_per_alert"]["challenger"] > 0
    slow = gate(folder, None, None, everything, Margins(seconds_per_alert=1e-9))
    assert "a full batch would not be scored in time" in slow.reasons[0]


def test_what_cannot_be_compared_is_refused(versions, supernovae):
    old, new = with_golden(versions.make("1")), with_golden(versions.make("2"))
    assert "without a frozen set" in gate(new, old, None, everything).reasons[0]
    data = frozen.read(supernovae, CLASSES)
    learnt = with_golden(versions.make("3", data={"files": {"all": data.files["supernovae.parquet"]}}))
    assert (
        "@3 was trained on the frozen set (supernovae.parquet)"
        in gate(learnt, old, data, everything).reasons[0]
    )
    (old / "weights.safetensors").unlink()
    assert "the champion does not open" in gate(new, old, data, everything).reasons[0]
    with pytest.raises(ModelError, match="it has no weights"):
        gate(old, None, None, everything)


def test_a_frozen_set_in_a_folder_is_found_by_the_models_classes(little):
    stamps = frozen.read(little, ("asteroid", "SN", "AGN", "VS", "bogus"))
    curves = frozen.read(little / "lightcurves", CLASSES)
    assert "cutouts" in stamps.table.column_names
    assert frozen.digest(stamps) != frozen.digest(curves) == frozen.digest(frozen.read(little, CLASSES))


@pytest.mark.parametrize(
    ("classes", "where", "sentence"),
    [
        (("Ia", "II"), "", "labels that are no class of the model: IIn, Ibc"),
        ((*CLASSES, "KN"), "", "has no alert of class KN"),
        (("real", "fake"), "", "has no data set with the classes real, fake"),
        (CLASSES, "stamps", "has no data set with the classes Ia"),
        (CLASSES, "none", "is neither a folder nor a file"),
        (CLASSES, "stamps/stamps.npz", "cannot be read as Parquet"),
        (CLASSES, "stamps/alerts.parquet", "has no column 'object_id'; it has candid, objectId"),
    ],
)
def test_a_frozen_set_that_does_not_fit_is_told(little, classes, where, sentence):
    with pytest.raises(DatasetError, match=sentence):
        frozen.read(little / where, classes)
