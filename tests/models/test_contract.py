"""What `open_model` opens, and what it refuses in a sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.contract import Model, ModelError, open_model, shipped, shipped_version
from models.manifest import FILE, WEIGHTS, read_manifest
from models.stamps import Stamps

VERSIONS = sorted(path.parent for path in shipped().glob("*/*/model.json"))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the shipped stamps network, to be spoilt."""
    return Path(shutil.copytree(shipped_version("stamps"), tmp_path / "1"))


def spoil(folder: Path, **changes: object) -> Path:
    manifest = json.loads((folder / FILE).read_text())
    (folder / FILE).write_text(json.dumps({**manifest, **changes}))
    return folder


def test_the_networks_are_shipped_and_open() -> None:
    assert [path.parent.name for path in VERSIONS] == ["anomaly", "fusion", "lightcurve", "stamps"]
    for folder in VERSIONS:
        model = open_model(folder)
        assert isinstance(model, Model)
        assert (model.name, model.version) == (folder.parent.name, folder.name)
        assert sum(path.stat().st_size for path in folder.iterdir()) < 9e6


def test_a_shipped_version_says_where_it_comes_from() -> None:
    for folder in VERSIONS:
        manifest = read_manifest(folder)
        assert manifest.training["command"].startswith(f"rayfinch train {manifest.name} ")
        assert all(len(file["sha256"]) == 64 for file in manifest.data["files"].values())
        assert set(manifest.metrics["held_out"]["classes"]) == set(manifest.classes)
        assert "held-out" in manifest.calibration["fitted_on"]


def test_fusion_holds_the_networks_that_ship_beside_it() -> None:
    parts = read_manifest(shipped_version("fusion")).training["parts"]
    assert parts == [f"{name}@{shipped_version(name).name}" for name in ("stamps", "lightcurve")]


def test_no_label_leaks_into_the_stamps_network() -> None:
    forbidden = ("ss", "rb", "drb", "ndethist", "ncovhist", "jd", "candid", "field", "rcid", "programid")
    names = [path.partition(".")[2] for path in Stamps.inputs]
    assert not [name for name in names if name.startswith(forbidden)]
    assert "history" not in Stamps.inputs


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [
        ("os:system", "neither in Rayfinch's `models`"),
        ("models.stamps", "not of the form"),
        ("../models/stamps:Stamps", "not of the form"),
        ("models.nothing:Here", "cannot be imported"),
        ("models.stamps:Nothing", "cannot be imported"),
        ("models.stamps:CLASSES", "not a class"),
        ("models.stamps:Ensemble", "not a class with `load` and `score`"),
        ("models.contract:Model", "the contract itself"),
        ("models.doubles:Double", "made in memory"),
        ("models.lightcurve:LightCurve", "has the classes"),
    ],
)
def test_architectures_outside_the_contract_are_refused(copy: Path, architecture: str, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        open_model(spoil(copy, architecture=architecture))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": "../../etc"}, "name '../../etc'"),
        ({"version": ".."}, "version '..'"),
        ({"version": 1}, "version must be a string"),
        ({"classes": []}, "classes must be a list"),
        ({"classes": ["SN", "SN"]}, "twice"),
        ({"surprise": 1}, "unknown keys surprise"),
        ({"hyperparameters": {"members": 5, "layers": 3}}, "odd hyper-parameters"),
        (
            {"hyperparameters": {"members": 4, "width": 8, "dropout": 0.4}},
            "differ in the tensors",
        ),
        ({"normalisation": {}}, "other packet columns"),
    ],
)
def test_odd_manifests_are_refused(copy: Path, changes: dict[str, object], reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        open_model(spoil(copy, **changes))


def test_missing_or_broken_files_are_refused(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no model\.json"):
        open_model(tmp_path / "nowhere")
    (copy / WEIGHTS).write_bytes(b"\x80\x04 a pickle")
    with pytest.raises(ModelError, match="cannot be read as safetensors"):
        open_model(copy)
    (copy / WEIGHTS).unlink()
    with pytest.raises(ModelError, match=r"has no weights\.safetensors"):
        open_model(copy)
    (copy / FILE).write_text("{")
    with pytest.raises(ModelError, match="cannot be read as JSON"):
        open_model(copy)


def test_weights_of_other_shapes_or_not_finite_are_refused(copy: Path) -> None:
    good = load_file(copy / WEIGHTS)
    name = "members.0.see.5.weight"
    save_file({**good, name: good[name][:, :-1].contiguous()}, copy / WEIGHTS)
    with pytest.raises(ModelError, match="has shape"):
        open_model(copy)
    save_file({**good, name: torch.full_like(good[name], torch.nan)}, copy / WEIGHTS)
    with pytest.raises(ModelError, match="not finite"):
        open_model(copy)


def test_weights_that_lie_elsewhere_are_refused(copy: Path, tmp_path: Path) -> None:
    elsewhere = (copy / WEIGHTS).rename(tmp_path / "elsewhere.safetensors")
    (copy / WEIGHTS).symlink_to(elsewhere)
    with pytest.raises(ModelError, match="points outside its folder"):
        open_model(copy)
