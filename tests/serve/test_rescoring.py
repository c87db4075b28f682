"""Archived alerts, scored by a version that came later; what was done is not done again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from broker.archive.archive import Archive
from broker.archive.rescored import Rescored
from broker.packets.decode import decode
from broker.packets.schema import SCORES
from broker.packets.survey import survey
from models.contract import open_model, shipped_version
from models.doubles import Double
from serve.rescoring import Rescorer, rescore, scored
from serve.scorer import entries


@pytest.fixture
def archive(tmp_path: Path, ztf_packets: list[tuple[str, bytes]]) -> Archive:
    """60 real alerts, as a stream without models keeps them."""
    found = decode(survey("ztf"), [packet for _, packet in ztf_packets[:60]])
    alerts = found.alerts.append_column("scores", pa.array([[]] * 60, SCORES))
    alerts = alerts.append_column("batch", pa.repeat(pa.scalar("s/i/1"), 60))
    for name, value in {"ingested_at": 0, "topic": "t", "partition": 0, "offset": 0}.items():
        at = alerts.schema.get_field_index(name)
        kind = alerts.schema.field(at).type
        alerts = alerts.set_column(at, alerts.schema.field(at), pa.repeat(pa.scalar(value).cast(kind), 60))
    kept = Archive(str(tmp_path / "archive"), "ztf")
    kept.prepare(alerts.schema)
    assert kept.commit(kept.write(alerts), "s/i/1", lambda: None)
    return kept


@pytest.mark.parametrize("name", ["stamps", "lightcurve"])
def test_the_scores_are_those_that_the_version_gives_in_a_stream(archive, ztf_packets, name) -> None:
    folder = shipped_version(name)
    model = open_model(folder)
    live = decode(survey("ztf"), [packet for _, packet in ztf_packets[:60]], cutouts=True).alerts
    _, wanted = entries(model, np.arange(60), model.score(live))
    by_id = dict(zip(live["alert_id"].to_pylist(), wanted.to_pylist(), strict=True))
    found = Rescorer(str(folder), archive)(live.select(["alert_id"]))
    assert len(found) == 60
    # Each load may find another numerical format the fastest (models.variants.AGREEMENT).
    for row in found.to_pylist():
        assert row["probabilities"] == pytest.approx(by_id[row["alert_id"]]["probabilities"], abs=0.01)


def test_a_version_that_raises_costs_its_own_scores(archive) -> None:
    found = scored(Double(raises=RuntimeError("no luck")), archive.get(columns=["alert_id", "flux"]))
    assert found["reason"].to_pylist() == ["RuntimeError: no luck"] * 60
    assert found["probabilities"].null_count == 60


def test_a_run_goes_on_where_the_last_one_ended(archive, ray_cluster) -> None:
    told: list[tuple[int, int]] = []
    folder = shipped_version("lightcurve")
    first = rescore(archive, folder, "band = 'g'", 1, lambda *now: told.append(now))
    assert first["scored"] == first["alerts"] > 0
    assert told[0] == (0, first["alerts"])
    assert told[-1] == (first["alerts"], first["alerts"])
    rest = rescore(archive, folder, "true", 1, lambda *now: None)
    assert rest == {"alerts": 60, "before": first["alerts"], "scored": 60 - first["alerts"], "failed": 0}
    kept = Rescored(archive.uri, "ztf")
    ids = archive.get(columns=["alert_id"])["alert_id"].to_pylist()
    assert kept.ids("lightcurve", folder.name) == set(ids)
    assert sorted(kept.get(ids)["alert_id"].to_pylist()) == sorted(ids), "each once"
