"""Scores are gathered alert by alert; a model that fails costs its own scores, with the reason."""

import numpy as np
import pyarrow as pa
import pytest

from broker.packets.schema import CUTOUT_TENSOR, SCORES
from serve import scorer
from serve.scorer import COOL_OFF_S, REST_S, Pinned, ServeScorer, _by_alert, eligible, entries
from serve.scoring import Deployed
from serve.versions import ServedModels

STAMPS = Pinned("stamps", "2", "true", ("flux",), 5.0, "app")
CURVE = Pinned("lightcurve", "1", "true", ("flux",), 5.0, "app")


def table(n: int) -> pa.Table:
    pixels = pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((n, 3, 63, 63), np.float32))
    assert pixels.type == CUTOUT_TENSOR
    return pa.table(
        {
            "survey": ["ztf" if i % 2 else "lsst" for i in range(n)],
            "flux": pa.array([None if i == 3 else float(i) for i in range(n)]),
            "source": pa.array([{"fid": i} for i in range(n)]),
            "cutouts": pixels,
        }
    )


@pytest.mark.parametrize(
    ("precondition", "rows"),
    [
        ("true", [0, 1, 2, 3, 4]),
        ("survey = 'ztf'", [1, 3]),
        ("flux > 1", [2, 4]),  # a null is not greater
        ("false", []),
    ],
)
def test_a_precondition_is_a_sql_predicate_over_the_alert_table(precondition, rows):
    assert eligible(table(5), precondition).tolist() == rows


def test_scores_of_several_models_end_up_with_their_alerts():
    stamps = entries(STAMPS, np.array([0, 2]), pa.table({"SN": [0.75, 0.25], "VS": [0.25, 0.75]}))
    curve = entries(CURVE, np.array([0, 1, 2]), "no answer within 5 s")
    scores = _by_alert(4, [stamps, curve])
    assert scores.type == SCORES
    silent = {
        "model": "lightcurve",
        "version": "1",
        "classes": None,
        "probabilities": None,
        "reason": "no answer within 5 s",
    }
    first = {
        "model": "stamps",
        "version": "2",
        "classes": ["SN", "VS"],
        "probabilities": [0.75, 0.25],
        "reason": None,
    }
    assert scores.to_pylist() == [
        [first, silent],
        [silent],
        [first | {"probabilities": [0.25, 0.75]}, silent],
        [],
    ]


def test_a_row_about_which_a_model_cannot_say_anything_is_null_with_a_reason():
    answer = pa.table({"SN": pa.array([0.5, None], pa.float32()), "VS": pa.array([0.5, None], pa.float32())})
    [[good], [silent]] = _by_alert(2, [entries(STAMPS, np.arange(2), answer)]).to_pylist()
    assert good["reason"] is None
    assert silent["probabilities"] is None
    assert silent["reason"] == "the model could not say"


def test_an_answer_of_another_length_is_not_believed():
    [[entry], _] = _by_alert(2, [entries(STAMPS, np.arange(2), pa.table({"SN": [1.0]}))]).to_pylist()
    assert entry["probabilities"] is None
    assert entry["reason"] == "answered 1 rows for 2 alerts"


def test_the_newest_version_serves_unless_one_is_named(tmp_path):
    for version in ("2", "10", "9"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "model.json").write_text("{}")
    assert Deployed("m", tmp_path).current() == "10"
    assert Deployed("m", tmp_path, version="2").current() == "2"


def test_a_model_that_left_the_configuration_scores_nothing(tmp_path):
    scorer = ServedModels("s", {}).scorer({"gone": "1"})
    assert [p.precondition for p in scorer.pinned] == ["false"]


class Late:
    """A replica's handle, and its reply, which never comes; `asked` counts the questions."""

    def __init__(self) -> None:
        self.asked = 0
        self.score = self

    def remote(self, version, alerts):
        self.asked += 1
        return self

    def result(self, timeout_s):
        raise TimeoutError

    def cancel(self):
        pass


def test_a_late_challenger_rests_a_quarter_of_the_time_of_a_champion(monkeypatch):
    """The first question of a process makes a router, and is late whoever is asked."""
    now, late = [1000.0], Late()
    monkeypatch.setattr(scorer.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(scorer, "_handle", lambda app: late)
    monkeypatch.setattr(scorer, "_stalled", {})
    ask = ServeScorer((Pinned("stamps", "3", "true", ("flux",), 5.0, "shadow", shadow=True),))
    for after, asked in ((0.0, 1), (REST_S - 0.1, 1), (0.2, 2)):
        now[0] += after
        [[entry]] = ask.score(table(1))["shadow"].to_pylist()
        assert late.asked == asked
        assert entry["probabilities"] is None
    assert REST_S == COOL_OFF_S / 4
