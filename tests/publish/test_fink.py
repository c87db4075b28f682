"""The published fink-client reads our Fink-framed topics as it is."""

import importlib
import os
from pathlib import Path

import pytest

from broker.publish.encode import Outputs, TopicRule, encode
from broker.publish.publisher import Publisher
from tests.publish.tables import row, table, writer_schemas


@pytest.fixture
def alert_consumer(monkeypatch, tmp_path):
    """fink_client's AlertConsumer, which looks for credentials in the user's home when it is imported."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return importlib.import_module("fink_client.consumer").AlertConsumer


def publish(kafka, prefix, originals, packet):
    outputs = Outputs(prefix=prefix, all=TopicRule(packet, "fink"), classes=None)
    survey = row(originals[0])["survey"]
    publisher = Publisher({"bootstrap.servers": kafka}, prefix, outputs, survey)
    publisher.open()
    records = encode(table([row(o) for o in originals]), writer_schemas(originals), outputs)
    publisher.publish([records], [], {}, {"batch": 1}, lambda: None)
    publisher.close()
    return outputs.all_topic(survey, "public")


@pytest.mark.parametrize("survey", ["ztf", "lsst"])
@pytest.mark.parametrize("packet", ["full", "slim"])
def test_fink_client_reads_100_alerts(kafka, topic, request, alert_consumer, survey, packet):
    originals = request.getfixturevalue(survey)[:: 1 if survey == "lsst" else 10][:100]
    name = publish(kafka, topic, originals, packet)
    consumer = alert_consumer([name], {"bootstrap.servers": kafka, "group.id": topic}, survey)
    alerts = {}
    for _ in range(100):
        found, alert, key = consumer.poll(20)
        assert found == name
        assert key.startswith('{"type":"record"')
        alerts[alert["candid" if survey == "ztf" else "diaSourceId"]] = alert
    consumer.close()
    for original in originals:
        alert = alerts[row(original)["alert_id"]]
        assert alert["rayfinch_scores"][0]["top_class"] == "SN"
        if packet == "full":
            assert repr({field: alert[field] for field in original.alert}) == repr(original.alert)


@pytest.mark.parametrize("packet", ["full", "no-cutouts", "slim"])
def test_fink_client_saves_our_alerts_as_files(kafka, topic, ztf, alert_consumer, packet, tmp_path: Path):
    name = publish(kafka, topic, ztf[:2], packet)
    folder = tmp_path / "alerts"
    folder.mkdir()
    consumer = alert_consumer([name], {"bootstrap.servers": kafka, "group.id": topic}, "ztf")
    for _ in range(2):
        consumer.poll_and_write(str(folder), 20)
    consumer.close()
    assert set(os.listdir(folder)) == {f"{o.alert['objectId']}_{o.alert['candid']}.avro" for o in ztf[:2]}
