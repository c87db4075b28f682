"""`rayfinch archive`, as an operator meets it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from broker.archive.archive import Archive
from broker.packets.decode import Decoded
from rayfinch.cli import app

Run = Callable[..., Any]


@pytest.fixture
def run(ztf: Decoded, archive: Archive, keep: Callable[[pa.Table, str], None]) -> Run:
    """Run a subcommand on an archive of sixty alerts; its JSON."""
    keep(ztf.alerts, "s/1")

    def run(*arguments: str) -> Any:
        where = ["--archive", archive.uri, "--survey", "ztf", "--json"]
        result = CliRunner().invoke(app, ["archive", *arguments, *where])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return run


def test_get_prints_whole_alerts_with_their_ids_intact(run: Run, ztf: Decoded) -> None:
    alert = ztf.alerts.slice(7, 1).to_pylist()[0]
    [row] = run("get", str(alert["alert_id"]))
    assert row["alert_id"] == str(alert["alert_id"])
    assert row["source"]["candid" if "candid" in row["source"] else "pid"].isdigit()
    assert row["source"]["magpsf"] == alert["source"]["magpsf"]
    assert row["cutout_science"] == {"bytes": len(alert["cutout_science"])}
    assert row["scores"][0]["probabilities"] == [0.75, 0.25]
    assert alert["object_id"] in {r["object_id"] for r in run("get", "--object", alert["object_id"])}
    place = [str(alert["ra"]), str(alert["dec"]), "2"]
    assert row["alert_id"] in {r["alert_id"] for r in run("get", "--cone", *place)}
    assert len(run("get", "--where", "mjd > 0", "--limit", "4")) == 4


def test_show_draws_a_picture(run: Run, ztf: Decoded, tmp_path: Path) -> None:
    png = tmp_path / "alert.png"
    run("show", str(ztf.alerts["alert_id"][0].as_py()), "--png", str(png))
    assert png.read_bytes().startswith(b"\x89PNG")


def test_stats_and_compact(run: Run) -> None:
    assert run("compact")["fragments"] == 1
    assert run("stats")["indices"]["alert_id_idx"] == 60


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["get"], "say which alerts"),
        (["get", "1"], "say where the archive is"),
        (["stats", "--archive", "x", "--config", "y"], "not both"),
    ],
)
def test_what_is_missing_is_said(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(app, ["archive", *arguments])
    assert result.exit_code == 2
    assert said in result.output
