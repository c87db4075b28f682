"""Whether simulated alerts pass for real ones: what a classifier may tell, and what it must."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from rayfinch.cli import app
from training.simulation.check import FEWEST, IMAGES, NAMES, TELLING, Told, compared, statistics


def made(draw: np.random.Generator, rows: int, label: str = "SN") -> Told:
    """Alerts of as many objects, whose numbers all come from one distribution; some are missing."""
    numbers = draw.normal(size=(rows, len(NAMES))).astype(np.float32)
    numbers[draw.random(numbers.shape) < 0.1] = np.nan
    return Told(numbers, np.full(rows, label), np.array([f"{label}{i}" for i in range(rows)]))


def test_what_is_alike_is_not_told_apart() -> None:
    draw = np.random.default_rng(0)
    found = compared(made(draw, 300), made(draw, 500))
    value, low, high = found["area"]
    assert low <= 0.5 <= high
    assert 0.4 < value < 0.6
    assert found["classes"]["SN"]["alerts"] == 300
    assert len(found["telling"]) == TELLING
    assert max(row["area"] for row in found["telling"]) < 0.65


def test_a_number_that_is_off_is_named_with_its_direction() -> None:
    draw = np.random.default_rng(1)
    real, simulated = made(draw, 300), made(draw, 300)
    simulated.numbers[:, NAMES.index("elong")] -= 3
    found = compared(real, simulated)
    assert found["area_of_columns"][0] > 0.95
    assert found["area_of_images"][1] < 0.55, "the images are alike"
    assert (found["telling"][0]["name"], found["telling"][0]["simulated"]) == ("elong", "smaller")


def test_the_mixture_of_classes_does_not_tell() -> None:
    draw = np.random.default_rng(2)
    bright, faint = made(draw, 400, "SN"), made(draw, 400, "VS")
    bright.numbers[:, 0] += 5
    real = Told.joined([bright, faint.of_class("VS", 100)])
    other, more = made(draw, 150, "SN"), made(draw, 800, "VS")
    other.numbers[:, 0] += 5
    found = compared(real, Told.joined([other, more]))
    assert found["area"][1] <= 0.55
    assert {name: row["alerts"] for name, row in found["classes"].items()} == {"SN": 150, "VS": 100}


def test_few_objects_of_a_class_are_not_judged() -> None:
    draw = np.random.default_rng(3)
    found = compared(made(draw, FEWEST - 1), made(draw, 200))
    assert "area" not in found
    assert "area" not in found["classes"]["SN"]


def test_statistics_of_images_are_what_they_say() -> None:
    scaled = np.zeros((1, 3, 63, 63), np.float32)
    scaled[0, 0, 31, 31], scaled[0, 1, 31, 28] = 100, -50
    valid = np.ones(scaled.shape, bool)
    valid[0, 2, :21] = False
    found = dict(zip(IMAGES, statistics(scaled, valid)[0].tolist(), strict=True))
    assert found["science peak"] == pytest.approx(np.log1p(100))
    assert found["science core"] == pytest.approx(1)
    assert found["science asymmetry"] == 0
    assert found["template trough"] == pytest.approx(np.log1p(50))
    assert found["template asymmetry"] == pytest.approx(2)
    assert found["difference missing"] == pytest.approx(1 / 3)


def test_the_command_tells_simulated_alerts_from_the_survey_s(shared: Path, ray_cluster: str) -> None:
    result = CliRunner().invoke(
        app, ["simulate", "--check", str(shared / "data"), "--alerts", "300", "--seed", "5", "--json"]
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert 0.5 < found["area"][0] <= 1
    assert {"SN", "VS", "asteroid", "bogus", "AGN"} == set(found["classes"])
    assert {row["name"] for row in found["telling"]} <= set(NAMES)


def test_either_packets_are_written_or_judged(tmp_path: Path) -> None:
    for options in ([], ["--out", str(tmp_path / "x"), "--check", str(tmp_path)]):
        result = CliRunner().invoke(app, ["simulate", *options])
        assert result.exit_code == 2
        assert "--out" in result.output
        assert "--check" in result.output
    result = CliRunner().invoke(app, ["simulate", "--check", str(tmp_path)])
    assert (result.exit_code, result.output.count("\n")) == (2, 1)
    assert "alerts.parquet" in result.output
    assert "--data" not in result.output, "it has no such option"
