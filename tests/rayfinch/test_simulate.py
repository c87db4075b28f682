"""`rayfinch simulate`: a folder or a tarball of packets, with the truth in a side file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from broker.packets.files import read_packets
from models.contract import open_model, shipped_version
from models.stamps import CLASSES
from rayfinch.cli import app
from training import frozen


def run(*args: object):
    return CliRunner().invoke(app, ["simulate", *map(str, args)])


def test_a_tarball_is_the_same_for_the_same_seed_and_is_read_like_the_survey_s(tmp_path: Path):
    out = tmp_path / "one.tar.gz"
    result = run("--alerts", 12, "--seed", 3, "--out", out, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert run("--alerts", 12, "--seed", 3, "--out", tmp_path / "two.tar.gz").exit_code == 0
    assert (tmp_path / "two.tar.gz").read_bytes() == out.read_bytes()
    truth = [json.loads(line) for line in (tmp_path / "one.truth.jsonl").read_text().splitlines()]
    packets = list(read_packets([out]))
    assert [Path(name).name for name, _ in packets] == [f"{row['candid']}.avro" for row in truth]
    assert told["alerts"] == len(packets) == sum(told["classes"].values()) == 12
    assert told["bytes"] == sum(len(packet) for _, packet in packets)


def test_a_folder_has_a_file_a_packet_and_the_truth(tmp_path: Path):
    out = tmp_path / "night"
    assert run("--alerts", 5, "--out", out).exit_code == 0
    assert len(list(read_packets([out]))) == 5
    assert {"candid", "objectId", "class", "parameters"} <= json.loads(
        (out / "truth.jsonl").open().readline()
    ).keys()


@pytest.mark.parametrize("survey", ["ztf", "lsst"])
def test_a_table_has_the_decoded_alerts_with_their_class_and_is_judged_as_it_is(
    tmp_path: Path, lsst_schemas: Path, survey: str
):
    out = tmp_path / "sky.parquet"
    options = ["--survey", "lsst", "--schemas", lsst_schemas] if survey == "lsst" else []
    result = run("--alerts", 40, "--seed", 3, "--out", out, *options)
    assert result.exit_code == 0, result.output
    truth = [json.loads(line) for line in (tmp_path / "sky.truth.jsonl").read_text().splitlines()]
    found = frozen.read(out, CLASSES, complete=False)
    assert found.table["alert_id"].to_pylist() == [row["candid"] for row in truth]
    assert found.labels.tolist() == [row["class"] for row in truth]
    assert set(found.table["survey"].to_pylist()) == {survey}
    said = open_model(shipped_version("stamps")).score(found.table)
    assert said["SN"].null_count == 0, "it has cutouts and columns"


def test_what_is_there_is_not_overwritten(tmp_path: Path):
    (tmp_path / "mine.avro").write_bytes(b"precious")
    result = run("--out", tmp_path)
    assert result.exit_code == 2
    assert "is there already" in result.stderr
