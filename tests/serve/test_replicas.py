"""Versions come and go beside a stream that runs; what cannot be loaded never serves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray import serve

from broker.packets.decode import decode
from broker.packets.survey import survey
from models.contract import ModelError, shipped
from serve.scorer import ServedModels
from serve.scoring import Deployed, application, deploy


def install(folder: Path, version: str) -> Path:
    """The shipped light-curve network once more, as another version."""
    to = folder / "lightcurve" / version
    shutil.copytree(shipped() / "lightcurve" / "1", to)
    manifest = json.loads((to / "model.json").read_text())
    (to / "model.json").write_text(json.dumps(manifest | {"version": version}))
    return to


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    install(tmp_path, "1")
    return tmp_path


@pytest.fixture
def models(folder: Path, topic: str, ray_cluster: str) -> Iterator[ServedModels]:
    found = {"lightcurve": Deployed("lightcurve", folder / "lightcurve", timeout_s=30)}
    deploy(topic, found)
    yield ServedModels(topic, found)
    serve.delete(application(topic, "lightcurve"))


def scored(models: ServedModels, pinned: dict[str, str], packets: list[bytes]) -> list[dict]:
    alerts = decode(survey("ztf"), packets, cutouts=True).alerts
    task = ray.remote(num_cpus=0)(lambda scorer, table: scorer.score(table).to_pylist())
    return [entry for row in ray.get(task.remote(models.scorer(pinned), alerts)) for entry in row]


def test_a_newer_version_is_taken_once_it_is_loaded_and_an_open_batch_keeps_its_own(
    models, folder, ztf_packets, monkeypatch
):
    monkeypatch.setattr("serve.scorer.RESCAN_S", 0.0)
    packets = [packet for _, packet in ztf_packets[:20]]
    assert models.pin() == {"lightcurve": "1"}
    install(folder, "2")
    assert models.pin() == {"lightcurve": "2"}
    for version in ("1", "2"):
        entries = scored(models, {"lightcurve": version}, packets)
        assert [e["version"] for e in entries] == [version] * 20
        assert all(abs(sum(e["probabilities"]) - 1) < 1e-4 for e in entries)

    broken = install(folder, "3") / "weights.safetensors"
    broken.write_bytes(broken.read_bytes()[:1000])
    assert models.pin() == {"lightcurve": "2"}, "a version that cannot be loaded never serves"
    [entry] = scored(models, {"lightcurve": "3"}, packets[:1])
    assert entry["probabilities"] is None
    assert "ModelError" in entry["reason"]


def test_replicas_that_are_set_up_alike_outlive_their_driver(models, folder, topic):
    before = serve.status().applications[application(topic, "lightcurve")].last_deployed_time_s
    deploy(topic, models.models)
    assert serve.status().applications[application(topic, "lightcurve")].last_deployed_time_s == before


def test_a_model_that_cannot_start_is_named_with_the_reason(tmp_path, topic, ray_cluster):
    version = install(tmp_path, "1")
    (version / "weights.safetensors").unlink()
    with pytest.raises(ModelError, match="models do not start: lightcurve"):
        deploy(topic, {"lightcurve": Deployed("lightcurve", tmp_path / "lightcurve")})
