"""The benchmark: a real run is judged exact, and the judge finds what is not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from broker.packets.decode import decode
from broker.packets.schema import SCORES
from broker.packets.survey import survey
from rayfinch.bench import kafka as kafkas
from rayfinch.bench.cpu import role
from rayfinch.bench.driver import Batch, configure
from rayfinch.bench.held import _scored
from rayfinch.bench.judge import Held, faults, objects_faults
from rayfinch.bench.sample import sample
from rayfinch.bench.span import Mark, Span, figures, steady
from rayfinch.bench.stream import Asked, written
from rayfinch.cli import app
from rayfinch.config import shipped
from serve.scorer import SILENT

ROOT = Path(__file__).parents[2]
SENT = {1, 2, 3}


def held(*alert_ids: int, scored: set[int] = SENT) -> Held:
    return Held("the archive", list(alert_ids), {"stamps": scored})


def test_the_judge_finds_nothing_where_every_alert_is_there_once_and_scored():
    assert faults(SENT, [held(3, 1, 2)], {"stamps": SENT}) == []


@pytest.mark.parametrize(
    ("place", "fault"),
    [
        (held(1, 2), "the archive lacks 1 (such as 3) of 3 alerts"),
        (held(1, 2, 3, 2), "the archive holds twice 1 (such as 2) of 3 alerts"),
        (held(1, 2, 3, 4), "the archive holds unsent 1 (such as 4) of 3 alerts"),
        (held(1, 2, 3, scored={1, 3}), "the archive has 1 (such as 2) alerts without a score of stamps"),
    ],
)
def test_the_judge_finds_a_lost_a_doubled_a_strange_and_an_unscored_alert(place: Held, fault: str):
    assert faults(SENT, [held(1, 2, 3), place], {"stamps": SENT}) == [fault]


def test_a_model_owes_no_score_to_an_alert_that_is_not_eligible():
    assert faults(SENT, [held(1, 2, 3, scored={1})], {"stamps": {1}}) == []


def test_the_judge_finds_an_object_with_a_wrong_number_of_alerts():
    assert objects_faults({"a": 1, "b": 2}, {"a": 1, "b": 2}) == []
    (fault,) = objects_faults({"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 1})
    assert fault == "the database counts the alerts of 2 objects wrong, such as b: 2 instead of 3"


def test_a_score_counts_with_its_probabilities_or_where_the_model_could_not_say():
    def score(model: str, probabilities: list[float] | None, reason: str = "late") -> dict[str, object]:
        said = {"probabilities": probabilities, "reason": None if probabilities else reason}
        return {"model": model, "version": "1", "classes": ["x"], **said}

    rows = [[score("a", [1.0]), score("b", [1.0])], [], [score("a", None), score("b", None, SILENT)]]
    alerts = pa.table({"alert_id": [7, 8, 9], "scores": pa.array(rows, SCORES)})
    assert _scored(alerts) == {"a": {7}, "b": {7, 9}}


def test_the_ids_that_are_expected_are_those_that_are_sent(ztf_packets):
    some = sample(ztf_packets[:3] + ztf_packets[:2], None)
    assert (len(some.packets), some.left_out) == (3, 2)
    ids, sent = zip(*some.messages(8), strict=True)
    assert decode(survey("ztf"), [m.value for m in sent]).alerts["alert_id"].to_pylist() == list(ids)
    assert len(set(ids)) == 8


def test_lsst_ids_are_expected_too(lsst_wire, lsst_schemas):
    some = sample(lsst_wire[:2], lsst_schemas)
    assert some.survey == "lsst"
    assert len({i for i, _ in islice(some.messages(5), 5)}) == 5


def test_packets_of_two_surveys_are_refused(ztf_packets, lsst_containers):
    result = CliRunner().invoke(app, ["bench", "stream", "--packets", "/nowhere"])
    assert result.exit_code == 2
    with pytest.raises(ValueError, match="2 surveys"):
        sample([ztf_packets[0], lsst_containers[0]], None)


def test_only_places_of_a_configuration_are_replaced(tmp_path, monkeypatch):
    monkeypatch.setenv("RAYFINCH_BATCH__MAX_ALERTS", "77")
    monkeypatch.setenv("RAYFINCH_DATABASE__URL", "postgresql+psycopg://me@db/production")
    path = configure(shipped("ztf"), tmp_path, "127.0.0.1:1", "in", "bench", None)
    settings = written(path)
    assert settings.batch.max_alerts == 77
    assert settings.database.url == f"sqlite:///{tmp_path}/rayfinch.db"
    assert settings.publish.kafka == settings.source.kafka == {"bootstrap.servers": "127.0.0.1:1"}
    assert [m.name for m in settings.models] == ["stamps", "lightcurve"]
    assert Asked(20_000).warm(settings) == 154
    assert Asked(100, rate=50.0).warm(settings) == 50
    with pytest.raises(ValueError, match="at least 154"):
        Asked(100).warm(settings)


def batch(at: float, alerts: int) -> Batch:
    return Batch(at, {"counts": {"alerts": alerts}, "stages_ms": {"decode": 5.0}}, mark(at, at / 2))


def mark(at: float, cpu: float) -> Mark:
    return Mark(at, Counter({"driver": cpu}), kafka_cpu_s=at)


def test_a_backlog_is_measured_where_as_much_is_in_flight_at_the_end_as_at_the_beginning():
    batches = [batch(float(at), 10) for at in (30, 40, 44, 48, 50)]
    span = steady(batches, warm_up=20, in_flight=2)
    assert (span.begin.at, span.end.at, span.alerts) == (40, 48, 20)
    with pytest.raises(ValueError, match="too few"):
        steady(batches[:3], warm_up=20, in_flight=2)


def test_figures_are_of_the_measured_part_alone():
    span = Span(mark(40, 1.0), mark(44, 3.0), [batch(42, 10), batch(44, 30)])
    found = figures(span, [1.0, 2.0, 3.0], [(30, 999.0), (41, 100.0), (43, 150.0), (50, 999.0)])
    assert (found["seconds"], found["alerts_per_s"], found["cpu_ms_per_alert"]) == (4, 10, 50)
    assert (found["latency_p50_s"], found["latency_max_s"]) == (2, 3)
    assert (found["peak_pss_mb"], found["pss_mb_first_tenth"], found["pss_mb_last_tenth"]) == (150, 100, 150)
    assert found["alerts_per_s_by_quarter"] == [5, 15]
    assert found["stages_ms"] == {"decode": 5}


@pytest.mark.parametrize(
    ("command", "what"),
    [
        ("ray::IDLE", "workers"),
        ("ray::MapBatches(Work)", "workers"),
        ("ray::ServeReplica:stream-ztf-stamps:replica", "replicas"),
        ("ray::ServeController.listen_for_change", "serve controller"),
        ("/x/ray/core/src/ray/raylet/raylet --raylet_socket_name=/tmp/ray", "raylet"),
        ("/x/ray/core/src/ray/gcs/gcs_server --log_dir=/tmp", "gcs"),
        ("python -u /x/ray/_private/log_monitor.py --session-dir=/tmp", "ray's helpers"),
        ("python /x/ray/_private/workers/default_worker.py", "workers"),
    ],
)
def test_processes_are_told_apart_by_their_command_lines(command: str, what: str):
    assert role(command) == what
    assert role(command, root=True) == "driver"


def test_a_named_kafka_script_must_be_there(monkeypatch):
    monkeypatch.setenv("RAYFINCH_KAFKA", "/nowhere/start")
    with pytest.raises(kafkas.KafkaScriptError, match="/nowhere/start"):
        kafkas.script()


@pytest.mark.parametrize("bad", [["--rate", "fast"], ["--rate", "0"], ["--rate", "5", "--burst", "9"]])
def test_a_wrong_rate_is_a_usage_error(bad):
    assert CliRunner().invoke(app, ["bench", "stream", *bad]).exit_code == 2


def test_a_real_run_is_judged_exact(shared, kafka, tmp_path):
    command = [sys.executable, "-m", "rayfinch", "bench", "stream", "--json", "--burst", "120"]
    command += ["--packets", str(shared / "data/ztf/ztf_public_20181128.tar.gz"), "--warm-up", "40"]
    command += ["--bootstrap", kafka, "--data", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["exact"]
    assert (figures["alerts"], figures["warm_up"]) == (120, 40)
    assert figures["kafka"] == f"at {kafka}"
    assert 0 < figures["latency_p50_s"] <= figures["latency_p99_s"] < figures["seconds"] + 5
    assert {"driver", "workers", "replicas"} <= figures["cpu_ms_by_process"].keys()
    assert figures["cpu_ms_per_alert"] == pytest.approx(sum(figures["cpu_ms_by_process"].values()), rel=0.01)
    assert figures["alerts_per_s"] == pytest.approx(120 / figures["seconds"], rel=0.01)
    assert figures["peak_pss_mb"] > 100
    assert {"fetch", "decode", "score", "publish"} <= figures["stages_ms"].keys()
