"""Networks of others in a stream: registered, fetched by the stream itself, and their scores intact."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from models.folders import CHAMPION
from models.registry import Registry
from tests.support.deployment import Deployment
from tests.support.foreign import acai, braai, supernnova

STREAMED = "hb"  # of the five scorers: each has replicas of its own to be started


@pytest.mark.timeout(240)
def test_they_say_in_a_stream_what_their_authors_published(
    tmp_path: Path,
    shared: Path,
    ztf_packets: list[tuple[str, bytes]],
    kafka_pair: tuple[str, str],
    ray_cluster: str,
    topic: str,
) -> None:
    registry = Registry(f"sqlite:///{tmp_path / 'registry.db'}")
    made = [braai(shared, tmp_path / "made")]
    made += [acai(shared, tmp_path / "made", letter) for letter in STREAMED]
    made.append(supernnova(tmp_path / "made"))
    for folder, model in made:
        registry.register(folder)
        registry.alias(model.name, CHAMPION, model.version)

    source, own = kafka_pair
    settings = {
        "registry": {"uri": registry.uri, "poll_s": 0.5},
        "models_dir": str(tmp_path / "models"),
        "publish": {"threshold": 0.99},
    }
    names = [model.name for _, model in made]
    deployment = Deployment(tmp_path, source, own, topic, ray_cluster, models=names, settings=settings)
    with np.load(shared / "data" / "weights" / "golden.npz") as file:
        golden = dict(file)
    packets = [p for name, p in ztf_packets if name.startswith(("ztf_public_2020", "ztf_forced"))]
    known = json.loads((Path(__file__).parents[1] / "models" / "supernnova_golden.json").read_text())
    packets += [p for name, p in ztf_packets if Path(name).stem in known][:20]
    deployment.send(packets)
    deployment.finish()

    kept = {row["alert_id"]: row["scores"] for row in deployment.audit().alerts.to_pylist()}
    for name, column in {"braai": "braai_d6_m9", **{f"acai-{k}": f"acai_{k}" for k in STREAMED}}.items():
        for alert_id, wanted in zip(golden["alert_id"].tolist(), golden[column].tolist(), strict=True):
            [score] = [s for s in kept[alert_id] if s["model"] == name]
            assert score["reason"] is None
            assert score["probabilities"][0] == pytest.approx(wanted, abs=1e-5)

    asked = {
        str(alert_id): [s for s in scores if s["model"] == "supernnova"] for alert_id, scores in kept.items()
    }
    assert {len(scores) for scores in asked.values()} == {1}
    for alert_id in known.keys() & asked.keys():
        assert asked[alert_id][0]["probabilities"][0] == pytest.approx(known[alert_id], abs=2e-4)
    assert len(known.keys() & asked.keys()) == 20
