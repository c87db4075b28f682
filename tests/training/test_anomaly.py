"""The forest that asks: it finds more by asking, and its file says what the forest says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from coniferest.aadforest import AADForest
from typer.testing import CliRunner

from models.contract import open_model
from models.manifest import read_manifest
from models.prepare import MISSING
from models.testing import alerts, check
from rayfinch.commands.train import app
from training import anomaly, dataset
from training.anomaly import filled, logistic
from training.forest import as_onnx


@pytest.fixture(scope="module")
def version(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small forest of the real light curves."""
    out = tmp_path_factory.mktemp("anomaly") / "7"
    settings = out.parent / "settings.yaml"
    settings.write_text("folds: 2\ntrees: 50\nquestions: 40\n")
    arguments = [
        "anomaly",
        "--data",
        str(shared / "data"),
        "--out",
        str(out),
        "--config",
        str(settings),
        "--untracked",
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "40 of 40 asked" in result.output
    return out


def test_it_keeps_the_contract(version: Path) -> None:
    check(open_model(version), alerts(40))


def test_asking_finds_more_than_strangeness_alone(version: Path) -> None:
    metrics = read_manifest(version).metrics
    without = metrics["anomalies_in_the_held_out_hundred_without_questions"]
    assert metrics["anomalies_in_the_held_out_hundred"] > without
    assert metrics["share_of_anomalies"] < 0.05


def test_the_graph_says_what_the_forest_says_and_fills_gaps_with_medians() -> None:
    draw = np.random.default_rng(0)
    shape = draw.normal(size=(400, 6)).astype(np.float32)
    medians = np.arange(6, dtype=np.float32) / 10
    forest = AADForest(n_trees=30, random_seed=1).fit(shape)
    gaps = np.where(draw.random(shape.shape) < 0.2, np.float32(MISSING), shape)
    session = _session(as_onnx(forest, medians, 2.0, 0.5, "shape", "probability"))
    (found,) = session.run(["probability"], {"shape": gaps})
    wanted = 1 / (1 + np.exp(-(-2.0 * forest.score_samples(filled(gaps, medians)) + 0.5)))
    np.testing.assert_allclose(found[:, 0], wanted, atol=1e-5)


def _session(graph: bytes):
    import onnxruntime

    return onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])


def test_a_probability_rises_with_strangeness() -> None:
    odd = np.arange(200) >= 150
    slope, _ = logistic(np.linspace(0, 1e-3, 200), odd)
    assert slope > 0


def test_unusual_types_are_anomalies_and_unclear_ones_are_left_out(shared: Path) -> None:
    found = dataset.light_curves(shared / "data", dataset.ANOMALY_CLASSES)
    assert set(found.labels) == set(anomaly.CLASSES)
    assert {"SN", "SN I"} <= set(found.left_out)
