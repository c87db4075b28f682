"""Golden scores: asked again wherever a version is loaded."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from safetensors.torch import load_file, save_file

from models.contract import open_model, shipped, shipped_version
from models.doubles import Double
from models.golden import FILE, check_golden, read_golden, write_golden
from models.manifest import WEIGHTS, ModelError
from models.testing import alerts


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(shipped_version("lightcurve"), tmp_path / "1"))


@pytest.mark.parametrize("name", ["stamps", "lightcurve", "fusion"])
def test_a_shipped_version_has_golden_scores_and_gives_them_here(name: str) -> None:
    for folder in (shipped() / name).iterdir():
        golden = read_golden(folder)
        assert golden is not None
        assert (folder / FILE).stat().st_size < 400_000
        gap = check_golden(open_model(folder), folder)
        assert gap is not None
        assert gap < 0.01


def test_weights_that_have_changed_are_refused(copy: Path) -> None:
    """As after a bad copy, or a training that overwrote them: every value is finite, every shape right."""
    good = load_file(copy / WEIGHTS)
    save_file({name: tensor * 0.8 for name, tensor in good.items()}, copy / WEIGHTS)
    with pytest.raises(ModelError, match=r"a golden score differs by 0\.\d+, more than 0\.01"):
        open_model(copy)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"ARROW1\0\0 cut", "cannot be read as an Arrow file"), (b"", "cannot be read as an Arrow file")],
)
def test_a_broken_file_is_named(copy: Path, content: bytes, reason: str) -> None:
    (copy / FILE).write_bytes(content)
    with pytest.raises(ModelError, match=reason):
        open_model(copy)


def test_scores_of_other_classes_are_refused(copy: Path) -> None:
    table = pa.table({"flux": [1.0], "score:yes": pa.array([1.0], pa.float32())})
    with pa.ipc.new_file(copy / FILE, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(ModelError, match="scores of yes, not of the model's classes"):
        open_model(copy)


def test_a_model_that_says_nothing_has_no_golden_scores(tmp_path: Path) -> None:
    silent = Double(probabilities=(float("nan"), float("nan")))
    with pytest.raises(ModelError, match="no score for any"):
        write_golden(silent, alerts(3), tmp_path)


def test_only_the_declared_inputs_are_kept(tmp_path: Path) -> None:
    write_golden(Double(), alerts(3), tmp_path)
    found, scores = read_golden(tmp_path) or (None, None)
    assert found is not None
    assert scores is not None
    assert found.column_names == ["flux"]
    assert scores.column_names == ["yes", "no"]
    assert check_golden(Double(), tmp_path) == 0.0
