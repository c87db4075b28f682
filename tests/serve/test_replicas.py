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
from models.contract import ModelError, shipped_version
from models.folders import write_aliases
from serve.scoring import Deployed, application, deploy, shadow
from serve.versions import ServedModels
from tests.support.deployment import eventually


def install(folder: Path, version: str) -> Path:
    """The shipped light-curve network once more, as another version."""
    to = folder / "lightcurve" / version
    shutil.copytree(shipped_version("lightcurve"), to)
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


def scored(
    models: ServedModels, pinned: dict[str, str], packets: list[bytes], column: str = "scores"
) -> list[dict]:
    alerts = decode(survey("ztf"), packets, cutouts=True).alerts
    task = ray.remote(num_cpus=0)(lambda scorer, table: scorer.score(table)[column].to_pylist())
    return [entry for row in ray.get(task.remote(models.scorer(pinned), alerts)) for entry in row]


def test_a_newer_version_is_taken_once_it_is_loaded_and_an_open_batch_keeps_its_own(
    models, folder, ztf_packets
):
    packets = [packet for _, packet in ztf_packets[:20]]
    assert models.pin() == {"lightcurve": "1"}
    install(folder, "2")
    eventually(lambda: models.pin() == {"lightcurve": "2"})
    assert models.news() == ["model lightcurve moves from 1 to 2"]
    for version in ("1", "2"):
        entries = scored(models, {"lightcurve": version}, packets)
        assert [e["version"] for e in entries] == [version] * 20
        assert all(abs(sum(e["probabilities"]) - 1) < 1e-4 for e in entries)

    broken = install(folder, "3") / "weights.safetensors"
    broken.write_bytes(broken.read_bytes()[:1000])
    eventually(lambda: any("lightcurve: 3 is refused: it stays at 2" in told for told in models.news()))
    assert models.pin() == {"lightcurve": "2"}, "a version that cannot be loaded never serves"
    [entry] = scored(models, {"lightcurve": "3"}, packets[:1])
    assert entry["probabilities"] is None
    assert "ModelError" in entry["reason"]


def test_a_challenger_scores_in_the_shadow_and_the_champion_is_who_it_was(models, folder, topic, ztf_packets):
    packets = [packet for _, packet in ztf_packets[:20]]
    install(folder, "2")
    write_aliases(folder / "lightcurve", {"champion": "1", "challenger": "2"})
    both = {"lightcurve": "1", "lightcurve.shadow": "2"}
    assert models.pin() == {"lightcurve": "1"}
    eventually(lambda: models.pin() == both)
    assert {e["version"] for e in scored(models, both, packets)} == {"1"}
    shadows = scored(models, both, packets, "shadow")
    assert [(e["model"], e["version"]) for e in shadows] == [("lightcurve", "2")] * 20

    # It is promoted: the same version serves, and nothing is left in the shadow.
    write_aliases(folder / "lightcurve", {"champion": "2"})
    eventually(lambda: models.pin() == {"lightcurve": "2"})
    eventually(lambda: application(topic, shadow("lightcurve")) not in serve.status().applications)


def test_a_challenger_that_cannot_be_loaded_is_refused_and_the_champion_goes_on(models, folder):
    weights = install(folder, "2") / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    write_aliases(folder / "lightcurve", {"champion": "1", "challenger": "2"})
    models.pin()
    eventually(lambda: any("lightcurve: 2 is refused" in told for told in models.news()))
    assert models.pin() == {"lightcurve": "1"}


def test_replicas_that_are_set_up_alike_outlive_their_driver(models, folder, topic):
    before = serve.status().applications[application(topic, "lightcurve")].last_deployed_time_s
    deploy(topic, models.models)
    assert serve.status().applications[application(topic, "lightcurve")].last_deployed_time_s == before


def test_a_model_that_cannot_start_is_named_with_the_reason(tmp_path, topic, ray_cluster):
    version = install(tmp_path, "1")
    (version / "weights.safetensors").unlink()
    with pytest.raises(ModelError, match="models do not start: lightcurve"):
        deploy(topic, {"lightcurve": Deployed("lightcurve", tmp_path / "lightcurve")})
