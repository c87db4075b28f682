"""`rayfinch status`: what an operator sees of a stream, from its book, its source and its archive."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from broker.database.engine import connect
from broker.database.ledger import Ledger
from broker.stream.plan import DeadLetter, Gap, Range
from broker.stream.planning import Partition
from rayfinch.cli import app
from rayfinch.status import lags
from tests.support.deployment import Deployment
from tests.support.ports import free_port
from tests.support.running import Running


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "160"})


@pytest.fixture
def config(tmp_path: Path, kafka: str, topic: str) -> Path:
    """A deployment whose topic is not there (any more)."""
    servers = {"bootstrap.servers": kafka}
    document = {
        "stream": "ztf",
        "survey": "ztf",
        "source": {"kafka": servers, "topics": [topic]},
        "publish": {"kafka": servers},
        "archive": {"uri": str(tmp_path / "archive")},
        "database": {"url": f"sqlite:///{tmp_path / 'rayfinch.db'}"},
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Of a stream that has done a batch, works on another, and has had its troubles."""
    ledger = Ledger(connect(f"sqlite:///{tmp_path / 'rayfinch.db'}"), "ztf", "ztf")
    lease = ledger.acquire("host:17", 60, False)
    done = ledger.plan(lease, [Range("t", "id", 0, 0, 8)], {"stamps": "1"})
    ledger.begin_attempt(lease, done.batch)
    letters = [DeadLetter("t", "id", 0, i, "no magic", b"abc") for i in (2, 3)]
    ledger.record_outcome(lease, done.batch, {}, letters, [Gap("t", "id", 0, 0, 1, "expired")])
    outcome = {
        "counts": {"alerts": 5, "dead_letters": 2},
        "stages_ms": {"decode": 30.0},
        "latency_ms": {"p50": 500.0, "p95": 800.0, "p99": 890.0, "max": 900.0},
    }
    ledger.commit(lease, done, None, outcome)
    ledger.plan(lease, [Range("t", "id", 0, 8, 10)], {"stamps": "2"})
    ledger.event("gap", "an offset is gone", {"first": 0})
    return ledger


def test_json_tells_everything_in_one_document(ledger, config):
    shown = run("status", str(config), "--json")
    assert shown.exit_code == 0, shown.output
    found = json.loads(shown.stdout)
    assert (found["stream"], found["models"]) == ("ztf", {"stamps": "2"})
    assert (found["driver"]["owner"], found["driver"]["alive"]) == ("host:17", True)
    assert [(r["minutes"], r["alerts"]) for r in found["rates"]] == [(1, 5), (10, 5), (60, 5)]
    planned, done = found["batches"]
    assert (planned["state"], planned["offsets"], planned["alerts"]) == ("planned", 2, None)
    assert (done["state"], done["alerts"], done["attempt"], done["latency_ms"]["p99"]) == (
        "done",
        5,
        1,
        890.0,
    )
    assert found["dead_letters"] == {"states": {"dead": 2}, "reasons": [{"reason": "no magic", "n": 2}]}
    assert [(g["first"], g["end"], g["reason"]) for g in found["gaps"]] == [(0, 1, "expired")]
    assert [e["message"] for e in found["events"]] == ["an offset is gone"]


def test_a_source_that_does_not_answer_is_said_in_a_line(ledger, config, monkeypatch):
    monkeypatch.setattr("broker.stream.source.ANSWER_S", 0.5)
    document = yaml.safe_load(config.read_text())
    document["source"]["kafka"]["bootstrap.servers"] = f"127.0.0.1:{free_port()}"
    config.write_text(yaml.safe_dump(document))
    shown = run("status", str(config))
    assert shown.exit_code == 0, shown.output
    assert "does not answer" in shown.stdout
    for expected in ("host:17", "0.50 s", "2 dead", "no magic", "expired", "an offset is gone", "stamps 2"):
        assert expected in shown.stdout
    assert "there is no archive" in shown.stdout


def test_a_released_stream_is_stopped(ledger, config):
    ledger.release(ledger.acquire("host:17", 60, False))
    assert "ztf (ztf): stopped" in run("status", str(config)).stdout


def test_a_database_that_is_not_there_is_not_made(config, tmp_path):
    shown = run("status", str(config))
    assert shown.exit_code != 0
    assert "there is no database" in str(shown.exception)
    assert not (tmp_path / "rayfinch.db").exists()


def test_a_database_without_tables_gets_none(config, tmp_path):
    (tmp_path / "rayfinch.db").touch()
    assert "has no tables" in str(run("status", str(config)).exception)
    assert (tmp_path / "rayfinch.db").stat().st_size == 0


def test_lag_is_the_sources_end_less_what_is_committed():
    ends = [Partition("t", "id", 1, 30), Partition("t", "id", 0, 10), Partition("t", "new", 0, 4)]
    book = [
        {"topic": "t", "topic_id": "id", "partition": 0, "planned": 10, "committed": 8},
        {"topic": "t", "topic_id": "old", "partition": 0, "planned": 9, "committed": 9},
        {"topic": "gone", "topic_id": "x", "partition": 0, "planned": 7, "committed": 5},
    ]
    assert [(r["topic"], r["partition"], r["end"], r["committed"], r["lag"]) for r in lags(ends, book)] == [
        ("t", 0, 10, 8, 2),
        ("t", 1, 30, None, 30),
        ("t", 0, 4, None, 4),
        ("gone", 0, None, 5, None),
    ]


def test_after_a_run_nothing_is_behind(tmp_path, kafka, ray_cluster, topic, ztf_packets):
    deployment = Deployment(tmp_path / "d", kafka, kafka, topic, ray_cluster)
    deployment.send([b for _, b in ztf_packets[:20]])
    with Running(deployment) as running:
        running.until(20)
    found = json.loads(run("status", str(deployment.config), "--json").stdout)
    assert (found["source"]["error"], found["source"]["lag"]) == (None, 0)
    assert sum(p["committed"] for p in found["source"]["partitions"]) == 20
    assert found["totals"]["alerts"] == found["archive"]["alerts"] == 20
    assert (found["driver"]["owner"], found["driver"]["alive"]) == (None, False)
