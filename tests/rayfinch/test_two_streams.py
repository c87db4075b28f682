"""Two surveys side by side: one database, one archive, one cluster; neither sees the other."""

from __future__ import annotations

import io
import json

import fastavro
import pytest
from sqlalchemy import text

from broker.database.engine import connect
from broker.packets.decode import decode
from broker.packets.registry import Folder
from broker.packets.survey import survey
from tests.support.deployment import Deployment
from tests.support.processes import end, tail

MODELS = ("stamps", "lightcurve")


@pytest.fixture
def streams(tmp_path, kafka_pair, ray_cluster, topic, lsst_schemas) -> dict[str, Deployment]:
    source, own = kafka_pair
    shared = {
        "archive": {"uri": str(tmp_path / "archive")},
        "database": {"url": f"sqlite:///{tmp_path / 'rayfinch.db'}"},
    }
    settings = {"ztf": shared, "lsst": {**shared, "source": {"schemas": str(lsst_schemas)}}}
    return {
        name: Deployment(
            tmp_path / name,
            source,
            own,
            f"{topic}-{name}",
            ray_cluster,
            survey=name,
            stream="crash" if name == "ztf" else "crash-lsst",  # the crash tests' replicas are warm
            models=MODELS,
            settings=settings[name],
        )
        for name in ("ztf", "lsst")
    }


def test_lsst_and_ztf_share_a_database_and_an_archive(
    streams, lsst_wire, lsst_schemas, ztf_packets, tmp_path
):
    packets = {"ztf": [b for _, b in ztf_packets[:100]], "lsst": [b for _, b in lsst_wire]}
    schemas = {"ztf": None, "lsst": Folder(lsst_schemas)}
    sent = {name: decode(survey(name), packets[name], schemas[name]).alerts for name in packets}
    ids = {name: alerts["alert_id"].to_pylist() for name, alerts in sent.items()}
    assert len(set(ids["lsst"])) == 70
    assert min(ids["lsst"]) > 2**53, "ids that a double would round"
    for name, deployment in streams.items():
        deployment.send(packets[name])

    drivers = {name: d.start("--until-idle") for name, d in streams.items()}
    try:
        for name, driver in drivers.items():
            assert driver.wait(150) == 0, tail(streams[name].log)
    finally:
        for driver in drivers.values():
            end(driver, 9)

    kept = {p.name for p in (tmp_path / "archive").iterdir()}
    assert kept >= {"lsst.lance", "ztf.lance"}
    for name, deployment in streams.items():
        audit = deployment.audit()
        audit.assert_exactly_once(ids[name])
        for scores in audit.alerts["scores"].to_pylist():
            said = {s["model"]: s["probabilities"] is not None for s in scores}
            assert said.keys() == set(MODELS)
            assert name != "lsst" or all(said.values()), scores
    assert in_topic(streams["lsst"]) == {
        (a, o) for a, o in zip(ids["lsst"], sent["lsst"]["object_id"].to_pylist(), strict=True)
    }
    with connect(streams["lsst"].loaded.database.url).connect() as db:
        recent = db.execute(text("select alert_id from recent_alerts where survey = 'lsst'")).scalars()
        assert sorted(recent) == sorted(ids["lsst"])
        last = db.execute(text("select last_alert_id from objects where survey = 'lsst'")).scalars()
        assert set(last) <= set(ids["lsst"])


def in_topic(deployment: Deployment) -> set[tuple[int, str]]:
    """(alert id, object id) as a reader of the full topic finds them, with the schema that we published."""
    schemas = [
        json.loads(value) for topic, _, value in deployment.audit().messages if topic.endswith(".schemas")
    ]
    [full] = [s for s in schemas if any(f["name"] == "diaSource" for f in s["fields"])]
    parsed = fastavro.parse_schema(full)
    found = set()
    for _, _, value in deployment.audit().in_topic("all"):
        alert = fastavro.schemaless_reader(io.BytesIO(value), parsed)
        source = alert["diaSource"]
        found.add((source["diaSourceId"], str(source["diaObjectId"] or source["ssObjectId"])))
    return found
