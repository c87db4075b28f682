"""`rayfinch train`: a version folder that opens, the same from the same seed, with its origin inside."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

from models.contract import open_model
from models.manifest import WEIGHTS, read_manifest
from models.points import DETECTION
from models.registry import Registry
from models.testing import alerts, check
from rayfinch.commands.train import app
from training import anomaly, fusion, lightcurve, stamps
from training.cuts import Cuts, truncated, until
from training.dataset import light_curves
from training.lightcurve import Samples
from training.runs import EXPERIMENT, NUMBERS, PICTURE
from training.settings import SettingsError, settings

ALONE = {"times": 1, "workers": 0, "trees": 5, "copies": 1}  # in this process
QUICK = {"stamps": {**ALONE, "simulated": 0}, "lightcurve": ALONE}
NETWORKS = tuple(QUICK)
Once = dict[str, tuple[Path, str]]


def train(network: str, data: Path, out: Path, *options: str) -> Result:
    """One epoch, few trees and no simulated alerts, where the options do not say otherwise."""
    arguments = [network, "--data", str(data), "--out", str(out), "--epochs", "1", *options]
    if "--registry" not in options:
        arguments.append("--untracked")
    if "--config" not in options:
        arguments += ["--config", settings_file(out, **QUICK[network])]
    return CliRunner().invoke(app, arguments)


def settings_file(out: Path, **values: int) -> str:
    """A file beside the version folder."""
    path = out.with_suffix(".yaml")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(values))
    return str(path)


@pytest.fixture(scope="module")
def once(little: Path, tmp_path_factory: pytest.TempPathFactory) -> Once:
    """A version of each network, and what its training said."""
    room = tmp_path_factory.mktemp("once")
    found = {}
    for network in NETWORKS:
        result = train(network, little, room / network / "1")
        assert result.exit_code == 0, result.output
        found[network] = room / network / "1", result.output
    return found


@pytest.mark.parametrize("network", NETWORKS)
def test_a_trained_version_opens_and_keeps_the_contract(network: str, little: Path, once: Once) -> None:
    folder, _ = once[network]
    check(open_model(folder), alerts(40))
    manifest = read_manifest(folder)
    assert (manifest.name, manifest.version) == (network, "1")
    assert 0 <= manifest.metrics["held_out"]["macro_f1"] <= 1
    for name, file in manifest.data["files"].items():
        assert file["sha256"] == hashlib.sha256((little / name).read_bytes()).hexdigest()
    assert manifest.training["seed"] == 1
    assert manifest.training["config"]["epochs"] == 1


@pytest.mark.parametrize("network", NETWORKS)
def test_people_read_a_table_of_classes(network: str, once: Once) -> None:
    _, output = once[network]
    assert "held-out macro-F1" in output
    assert "epoch 1/1" in output
    for name in (stamps if network == "stamps" else lightcurve).CLASSES:
        assert f"\n{name}" in output


def weights(folder: Path) -> bytes:
    return (folder / WEIGHTS).read_bytes()


def test_the_same_seed_gives_the_same_weights(little: Path, tmp_path: Path, once: Once) -> None:
    for name, seed in (("1", "1"), ("2", "2")):
        assert train("stamps", little, tmp_path / name, "--seed", seed).exit_code == 0
    assert weights(tmp_path / "1") == weights(once["stamps"][0]) != weights(tmp_path / "2")


def test_members_learn_to_see_from_simulated_alerts_first(
    little: Path, tmp_path: Path, ray_cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The made-up sky is the same whichever process makes which part of it."""
    monkeypatch.setattr("training.simulated.PART", 20)
    monkeypatch.setattr(stamps, "INJECTED", 60)
    found = []
    for name, simulated in (("1", 70), ("2", 70), ("3", 0)):
        config = settings_file(
            tmp_path / name, **{**ALONE, "simulated": simulated, "simulated_epochs": 1, "folds": 2}
        )
        result = train("stamps", little, tmp_path / name, "--config", config)
        assert result.exit_code == 0, result.output
        assert ("70/70 alerts simulated" in result.output) == (simulated > 0)
        found.append(load_file(tmp_path / name / WEIGHTS))
    first, again, without = (each["members.0.look.0.weight"] for each in found)
    assert torch.equal(first, again)
    assert not torch.equal(first, without)


def test_workers_give_the_weights_that_one_process_gives(
    little: Path, tmp_path: Path, ray_cluster: str, once: Once
) -> None:
    config = settings_file(tmp_path / "2", **{**QUICK["lightcurve"], "workers": 2})
    assert train("lightcurve", little, tmp_path / "2", "--config", config).exit_code == 0
    assert weights(tmp_path / "2") == weights(once["lightcurve"][0])


def test_each_time_over_is_judged_and_the_first_is_kept(little: Path, tmp_path: Path, once: Once) -> None:
    config = settings_file(tmp_path / "2", **{**QUICK["lightcurve"], "times": 2})
    assert train("lightcurve", little, tmp_path / "2", "--config", config).exit_code == 0
    one, two = (read_manifest(folder).metrics for folder in (once["lightcurve"][0], tmp_path / "2"))
    assert two["held_out"]["rows"] == 2 * one["held_out"]["rows"]
    assert len(two["macro_f1_of_times"]) == 2
    first, kept = (load_file(folder / WEIGHTS) for folder in (once["lightcurve"][0], tmp_path / "2"))
    assert {n for n in first if not torch.equal(first[n], kept[n])} <= {"temperature"}, "the same members"


def test_it_learns_from_a_file_of_alerts_as_from_the_folder(little: Path, tmp_path: Path, once: Once) -> None:
    """Such as an export of the archive with labels."""
    found = light_curves(little)
    table = found.table.drop_columns("source").append_column("label", pa.array(found.labels))
    pq.write_table(table, tmp_path / "alerts.parquet")
    result = train("lightcurve", tmp_path / "alerts.parquet", tmp_path / "2", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["name"], told["version"]) == ("lightcurve", "2")
    assert weights(tmp_path / "2") == weights(once["lightcurve"][0])
    assert set(read_manifest(tmp_path / "2").data["files"]) == {"alerts.parquet"}


@pytest.fixture(scope="module")
def parts(once: Once) -> dict[str, Path]:
    """A version of each network that fusion holds."""
    return {network: folder for network, (folder, _) in once.items()}


def fuse(data: Path, out: Path, parts: dict[str, Path], *options: str) -> Result:
    of = [text for name, folder in parts.items() for text in (f"--{name}", str(folder))]
    arguments = ["fusion", "--data", str(data), "--out", str(out), "--untracked", *of, *options]
    return CliRunner().invoke(app, arguments)


def test_fusion_is_made_of_the_two_others_and_keeps_the_contract(
    little: Path, tmp_path: Path, parts: dict[str, Path]
) -> None:
    result = fuse(little, tmp_path / "1", parts)
    assert result.exit_code == 0, result.output
    assert "alerts with images and history" in result.output
    check(open_model(tmp_path / "1"), alerts(40))
    manifest, held = read_manifest(tmp_path / "1"), load_file(tmp_path / "1" / WEIGHTS)
    assert manifest.training["parts"] == ["stamps@1", "lightcurve@1"]
    for network, prefix in (("stamps", "stamps"), ("lightcurve", "types")):
        for name, values in load_file(parts[network] / WEIGHTS).items():
            assert torch.equal(held[f"{prefix}.{name}"], values)


def test_fusion_refuses_parts_that_learned_from_other_data(
    little: Path, tmp_path: Path, parts: dict[str, Path]
) -> None:
    """It could not tell which objects they never saw."""
    other = Path(shutil.copytree(little, tmp_path / "data"))
    table = pl.read_parquet(other / "stamps" / "alerts.parquet")
    table.with_columns(pl.col("magpsf") + 0.1).write_parquet(other / "stamps" / "alerts.parquet")
    result = fuse(other, tmp_path / "1", parts)
    assert result.exit_code == 2
    assert "was trained on another stamps/alerts.parquet" in result.output


def test_a_run_is_kept_with_settings_curves_pictures_and_the_version(little: Path, tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'registry.db'}"
    result = train("lightcurve", little, tmp_path / "4", "--registry", uri)
    assert result.exit_code == 0, result.output
    assert "kept as run" in result.output
    with Registry(uri).client() as client:
        experiment = client.get_experiment_by_name(EXPERIMENT)
        [run] = client.search_runs([experiment.experiment_id])
        assert run.info.status == "FINISHED"
        assert run.data.params["epochs"] == "1"
        assert run.data.params["seed"] == "1"
        assert any(name.startswith("sha256 ") for name in run.data.params)
        assert len(client.get_metric_history(run.info.run_id, "validation of member 1")) == 1
        assert "macro_f1" in run.data.metrics
        names = {file.path for file in client.list_artifacts(run.info.run_id)}
        assert names == {PICTURE, NUMBERS, "version"}
        version = {file.path for file in client.list_artifacts(run.info.run_id, "version")}
        assert {"version/model.json", f"version/{WEIGHTS}"} <= version


def test_wrong_input_is_one_sentence_and_exit_2(little: Path, tmp_path: Path) -> None:
    result = train("stamps", tmp_path, tmp_path / "1")
    assert (result.exit_code, result.output.count("\n")) == (2, 1)
    assert "has no data set with the classes asteroid" in result.output
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "model.json").write_text("{}")
    assert "versions never change" in train("stamps", little, tmp_path / "2").output
    assert "cannot be a version" in train("stamps", little, tmp_path / "a b").output
    (tmp_path / "c.yaml").write_text("epoch: 3\n")
    result = train("lightcurve", little, tmp_path / "3", "--config", str(tmp_path / "c.yaml"))
    assert result.exit_code == 2
    assert "unknown settings epoch" in result.output


@pytest.mark.parametrize(
    ("network", "kind"),
    [
        ("stamps", stamps.Config),
        ("lightcurve", lightcurve.Config),
        ("fusion", fusion.Config),
        ("anomaly", anomaly.Config),
    ],
)
def test_the_documented_settings_are_the_defaults(network: str, kind: type) -> None:
    path = Path(__file__).parents[2] / "configs" / f"train-{network}.yaml"
    assert yaml.safe_load(path.read_text()) == asdict(kind())
    assert settings(kind, path) == kind()


@pytest.mark.parametrize("text", ["epochs: many", "epochs: -1", "epochs: 1.5", "- 1", "{", "folds: true"])
def test_settings_of_another_type_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=r"settings\.yaml"):
        settings(lightcurve.Config, path)


def test_light_curves_are_cut_at_a_detection(little: Path) -> None:
    curves = Samples.of(light_curves(little)).curves
    rows = len(curves.offsets) - 1
    five = truncated(curves, until(curves, 5))
    assert five.lengths.tolist() == [3 + 5] * rows, "three limits before the first detection"
    month = truncated(curves, until(curves, 8), np.full(rows, 10.0))
    assert month.lengths.tolist() == [4] * rows, "one point in three days"
    draw = np.random.default_rng(0)
    for _ in range(20):
        cut = Cuts().made(curves, draw)
        assert (cut.lengths > 0).all()
        assert (cut.kind[cut.offsets[1:] - 1] == DETECTION).all()
        assert np.isfinite(cut.flux).all()
