"""`rayfinch models`, as an ML team uses it: on a real registry, with real versions."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from models.folders import RegistryError, read_aliases
from models.manifest import read_manifest
from models.testing import PROMISES, alerts
from rayfinch.commands.models import app
from rayfinch.config import shipped
from rayfinch.problems import ConfigError
from tests.support.versions import with_golden, with_weights
from training.dataset import LIGHT_CURVE_CLASSES


@pytest.fixture
def run(registry):
    """Run a subcommand on the test's registry: (exit status, what it printed)."""

    def command(*arguments: str | Path) -> tuple[int, str]:
        result = CliRunner().invoke(app, [*map(str, arguments), "--registry", registry.uri])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output

    return command


def test_from_a_folder_to_champion_and_back(run, versions, tmp_path):
    name = versions.name
    for version in ("1", "2"):
        folder = with_golden(versions.make(version))
        code, said = run("register", folder, "--note", f"sprint {version}", "--json")
        assert (code, json.loads(said)["version"]) == (0, version)
    code, said = run("promote", f"{name}@1")
    assert (code, said) == (0, f"{name}@1 is the champion now\n")
    code, said = run("challenge", f"{name}@latest")
    assert said.endswith(f"{name} challenger - -> 2 (challenge)\n")

    score = f"{read_manifest(versions.root / '1').metrics['held_out']['macro_f1']:.4f}"
    mine = [line for line in run("list")[1].splitlines() if line.startswith(name)]
    assert [line.split()[:4] for line in mine] == [
        [f"{name}@1", "champion", "macro_f1", score],
        [f"{name}@2", "challenger", "macro_f1", score],
    ]

    code, said = run("promote", f"{name}@2")
    assert code == 1
    assert said.splitlines() == [
        f"{name}@2 is not promoted:",
        f"- without a frozen set {name}@2 cannot be compared with {name}@1",
    ]
    assert run("promote", f"{name}@2", "--force")[0] == 2  # without a note
    code, said = run("promote", f"{name}@2", "--force", "--note", "asked for by the SN group", "--json")
    told = json.loads(said)
    assert (code, told["promoted"], told["forced"], told["passed"]) == (0, True, True, False)

    code, said = run("rollback", name, "--note", "it was wrong")
    assert said.endswith(f"{name} champion 2 -> 1 (rollback): it was wrong\n")
    shown = json.loads(run("show", f"{name}@champion", "--json")[1])
    assert (shown["version"], shown["manifest"]["name"], shown["note"]) == ("1", name, "sprint 1")
    assert [(m["alias"], m["after"], m["how"], m["note"]) for m in shown["history"]] == [
        ("champion", "1", "promote", ""),
        ("challenger", "2", "challenge", ""),
        ("champion", "2", "force", "asked for by the SN group"),
        ("challenger", None, "force", "it is the champion now"),
        ("champion", "1", "rollback", "it was wrong"),
    ]
    assert "cannot be compared" in shown["history"][2]["decision"]["reasons"][0]
    assert f"{name} champion 2 -> 1 (rollback)" in run("show", f"{name}@1")[1]

    code, said = run("sync", name, "--folder", tmp_path / "models")
    assert (code, said) == (0, f"{tmp_path}/models/{name}: champion 1\n")
    assert read_aliases(tmp_path / "models" / name) == {"champion": "1"}


def test_a_version_is_promoted_for_what_it_does_on_a_frozen_set(run, versions, tmp_path):
    """The champion's weights are half of the challenger's, whose verdicts are the truth here."""
    from models.contract import open_model

    name = versions.name
    run("register", with_golden(with_weights(versions.make("1"), lambda w: w / 2)))
    folder = with_golden(versions.make("2"))
    run("register", folder)
    run("promote", f"{name}@1")
    table = alerts(1500, seed=3)
    scores = open_model(folder).score(table).to_pandas()
    rows = [i for c in scores.columns for i in scores.index[scores.idxmax(axis=1) == c][:80]]
    truth = pa.array(scores.idxmax(axis=1).to_numpy()[rows].tolist())
    frozen = tmp_path / "frozen.parquet"
    pq.write_table(table.drop_columns(["cutouts"]).take(rows).append_column("class", truth), frozen)
    assert set(truth.to_pylist()) == set(LIGHT_CURVE_CLASSES.values())
    gate = ("--frozen", frozen, "--label", "class", "--calibration-margin", "1", "--slower", "5")
    code, said = run("promote", f"{name}@2", *gate)
    assert code == 0, said
    assert said.startswith(f"{name}@2 is the champion now\nmacro-F1 1.0000 against 0.")
    decision = json.loads(run("show", f"{name}@2", "--json")[1])["history"][-1]["decision"]
    assert decision["macro_f1"]["lower_bound"] > 0
    assert decision["frozen"]["rows"] == len(rows)
    code, said = run("promote", f"{name}@1", *gate, "--class-margin", "0.01", "--class-margin", "Ia=0.9")
    assert code == 1
    assert "its lower bound (95%, " in said
    assert "more than its margin of 0.01" in said
    assert "class Ia " not in said


def test_diff_says_what_differs_and_by_how_much_scores_do(run, versions):
    old = with_golden(versions.make("1"))
    new = with_golden(with_weights(versions.make("2", code_revision="f00"), lambda w: w * 0.9))
    code, said = run("diff", old, new, "--json")
    found = json.loads(said)
    assert code == 0
    assert set(found["model.json"]) == {"code_revision"}
    assert found["model.json"]["code_revision"][1] == "f00"
    assert found["scores"]["alerts"] == found["scores"]["scored_by_both"] == 8
    assert 0 < found["scores"]["largest_difference"] < 1
    assert "largest_difference" in run("diff", old, new)[1]


def test_the_promises_of_the_contract_are_tested_one_by_one(run, versions):
    code, said = run("test", versions.make("1"))
    assert code == 0
    assert [line.split()[0] for line in said.splitlines()] == ["ok"] * len(PROMISES)
    assert json.loads(run("test", versions.root / "1", "--json")[1])["ok"]


def test_what_does_not_exist_is_told(run, versions, registry):
    run("register", versions.make("1"))
    for arguments, sentence in {
        ("show", "stamps"): "'stamps' is not NAME@VERSION",
        ("show", f"{versions.name}@9"): "@9 is not registered in",
        ("rollback", versions.name): "has no champion before None",
    }.items():
        with pytest.raises(RegistryError, match=sentence):
            run(*arguments)
    assert run("promote", f"{versions.name}@1", "--class-margin", "AGN=much")[0] == 2


def test_the_registry_is_the_configurations(registry, versions, tmp_path, monkeypatch):
    registry.register(versions.make("1"))
    registry.promote(versions.name, "1")
    document = yaml.safe_load(shipped("ztf").read_text())
    document |= {
        "registry": {"uri": registry.uri},
        "models_dir": str(tmp_path / "served"),
        "models": [{"name": versions.name}],
    }
    config = tmp_path / "night.yaml"
    config.write_text(yaml.safe_dump(document))
    result = CliRunner().invoke(app, ["sync", "--config", str(config), "--json"])
    assert json.loads(result.output)["models"] == [
        {"name": versions.name, "aliases": {"champion": "1"}, "problems": []}
    ]
    assert (tmp_path / "served" / versions.name / "1" / "model.json").exists()
    without = CliRunner().invoke(app, ["list", "--config", str(shipped("ztf"))])
    assert isinstance(without.exception, ConfigError)
    assert "registry: is null: set registry.uri there" in str(without.exception)
    monkeypatch.chdir(tmp_path)
    nowhere = CliRunner().invoke(app, ["list"])
    assert "no registry is in rayfinch-data/registry.db yet" in str(nowhere.exception)
