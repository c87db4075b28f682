"""What each network costs, and each of its forms against plain fp32."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from rayfinch.bench import models as measured
from rayfinch.cli import app


def test_each_network_is_measured_whole_and_in_each_form(shared, monkeypatch) -> None:
    monkeypatch.setattr(measured, "ROWS", (64,))
    packets = str(shared / "data" / "ztf" / "ztf_public_20181128.tar.gz")
    result = CliRunner().invoke(app, ["bench", "models", "--packets", packets, "--json"])
    assert result.exit_code == 0, result.output
    stamps, lightcurve = json.loads(result.stdout)["models"]
    assert (stamps["model"], lightcurve["model"]) == ("stamps", "lightcurve")
    for model in (stamps, lightcurve):
        assert model["alerts_per_s"] > 0
        plain = [form for form in model["forms"] if form["form"] == "fp32"]
        assert max(form["against_fp32"] for form in plain) == 1
        [serves] = [f for f in model["forms"] if (f["form"], f["rows"]) == (model["serves"], model["rows"])]
        assert serves["agrees"]
        assert model["against_fp32"] == serves["against_fp32"]
    assert {form["form"] for form in stamps["forms"]} > {"fp32", "bf16", "together"}
