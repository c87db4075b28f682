"""`rayfinch evaluate`, as a scientist uses it, on a data set in the layout of the real ones."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from models.contract import shipped_version
from rayfinch.cli import app


def evaluated(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["evaluate", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """The registry's default is a folder where one stands."""
    monkeypatch.chdir(tmp_path)


def test_a_network_of_stamps_is_judged_and_drawn(shared, tmp_path):
    png = tmp_path / "stamps.png"
    code, said = evaluated(
        shipped_version("stamps"), "--data", shared / "data", "--plots", png, "--against",
        shipped_version("stamps"), "--json",
    )  # fmt: skip
    found = json.loads(said)
    assert code == 0
    assert (found["model"], found["rows"], found["unscored"]) == (
        f"stamps@{shipped_version('stamps').name}",
        1066,
        0,
    )
    assert {name: sum(row.values()) for name, row in found["seen_as"].items()} == {"other": 9, "TDE": 3}
    assert 0.9 < found["conformal"]["coverage"] <= 1, "it has seen them all"
    assert found["left_out"]["TDE"] == 3
    assert found["trained_on"] == "stamps/alerts.parquet"
    value, low, high = found["macro_f1"]
    assert low < value < high
    assert {"band", "magnitude", "galactic latitude", "stamps"} == set(found["slices"])
    assert found["against"]["difference"] == [0.0, 0.0, 0.0]
    assert 0 < found["seconds_per_alert"] < 1
    assert png.read_bytes().startswith(b"\x89PNG")


def test_a_network_of_light_curves_is_judged_by_age(little):
    code, said = evaluated(shipped_version("lightcurve"), "--data", little)
    assert code == 0
    lines = said.splitlines()
    assert lines[0].startswith(f"lightcurve@{shipped_version('lightcurve').name} on ")
    assert [line.split(":")[0] for line in lines if line.startswith("day")] == [
        *("day   2", "day   7", "day  14", "day  30", "day  60")
    ]


def test_a_data_set_of_other_classes_is_told(little):
    from training.dataset import DatasetError

    with pytest.raises(DatasetError, match="has no data set with the classes"):
        evaluated(shipped_version("stamps"), "--data", little / "lightcurves")
