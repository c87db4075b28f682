"""kill -9 of all that is around the driver, Kafka on both sides too: nothing is lost or doubled."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.support.deployment import Deployment, eventually, kill, ray_processes
from tests.support.kafka import KafkaServer
from tests.support.processes import tail

pytestmark = pytest.mark.crash


@pytest.fixture(scope="module")
def own_servers(
    kafka_available: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[KafkaServer]]:
    """A source and an own cluster that these tests may kill."""
    servers = [KafkaServer(tmp_path_factory.mktemp(name)) for name in ("source", "own")]
    for server in servers:
        server.start()
    yield servers
    for server in servers:
        server.kill()


@pytest.fixture
def deployment(tmp_path: Path, own_servers: list[KafkaServer], ray_cluster: str, topic: str) -> Deployment:
    source, own = own_servers
    models = ("stamps", "lightcurve")
    return Deployment(tmp_path, source.bootstrap, own.bootstrap, topic, ray_cluster, models=models)


def under_fire(deployment: Deployment, packets: list[bytes], fire: Callable[[], None]) -> None:
    """Run a driver to the end, while packets keep coming and `fire` does its worst in the middle."""
    deployment.send(packets[:50])
    process = deployment.start()
    try:
        ledger = deployment.ledger()
        eventually(lambda: bool(ledger.offsets()) and not ledger.open_plans(), 120)
        with ThreadPoolExecutor(1) as thread:
            sender = thread.submit(trickle, deployment, packets[50:])
            time.sleep(0.3)
            fire()
            sender.result()
        wanted = len(packets)
        eventually(lambda: sum(ledger.offsets().values()) >= wanted and not ledger.open_plans(), 120)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, tail(deployment.log)
    finally:
        if process.poll() is None:
            kill(process)


def trickle(deployment: Deployment, packets: list[bytes]) -> None:
    for i in range(0, len(packets), 10):
        deployment.send(packets[i : i + 10])
        time.sleep(0.2)


def test_a_killed_task_is_run_again(deployment, packets, alert_ids):
    def fire() -> None:
        end = time.monotonic() + 30
        while time.monotonic() < end:
            for process in ray_processes("MapBatches(Work)"):
                process.kill()
                return
            time.sleep(0.002)
        raise AssertionError("no task was seen")

    under_fire(deployment, packets, fire)
    deployment.audit().assert_exactly_once(alert_ids, dead_letters=1)


def test_a_killed_model_replica_comes_back_and_its_scores_with_it(deployment, packets, alert_ids):
    def fire() -> None:
        replicas = ray_processes("ServeReplica:stream-crash-stamps")
        assert replicas
        for process in replicas:
            process.kill()

    under_fire(deployment, packets, fire)
    audit = deployment.audit()
    audit.assert_exactly_once(alert_ids, dead_letters=1)
    scores = [entry for row in audit.alerts["scores"].to_pylist() for entry in row]
    assert len(scores) == 2 * len(alert_ids)
    assert all(s["probabilities"] for s in scores if s["model"] == "lightcurve"), "the other model goes on"


def test_a_stalled_model_costs_its_own_scores_and_says_so(deployment, packets, alert_ids):
    deployment.settings["models"] = [{"name": "stamps", "timeout_s": 2.0}, {"name": "lightcurve"}]
    deployment.__post_init__()
    stalled: list[psutil.Process] = []

    def fire() -> None:
        for process in ray_processes("ServeReplica:stream-crash-stamps"):
            process.send_signal(signal.SIGSTOP)
            stalled.append(process)
        assert stalled

    try:
        under_fire(deployment, packets, fire)
    finally:
        for process in stalled:
            if process.is_running():
                process.send_signal(signal.SIGCONT)
    audit = deployment.audit()
    audit.assert_exactly_once(alert_ids, dead_letters=1)
    scores = [entry for row in audit.alerts["scores"].to_pylist() for entry in row]
    assert all(s["probabilities"] for s in scores if s["model"] == "lightcurve")
    silent = [s for s in scores if s["model"] == "stamps" and s["probabilities"] is None]
    assert silent
    assert all(s["reason"] for s in silent)


@pytest.mark.parametrize("which", ["source", "own"])
def test_a_killed_kafka_is_waited_for(deployment, packets, alert_ids, own_servers, which):
    server = own_servers[which == "own"]

    def fire() -> None:
        server.kill()
        time.sleep(1.0)
        server.start()

    under_fire(deployment, packets, fire)
    deployment.audit().assert_exactly_once(alert_ids, dead_letters=1)


def test_sigterm_finishes_what_is_in_flight(deployment, packets):
    deployment.send(packets)
    process = deployment.start()
    try:
        ledger = deployment.ledger()
        eventually(lambda: bool(ledger.planned()), 120, 0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, tail(deployment.log)
    finally:
        if process.poll() is None:
            kill(process)
    assert not ledger.open_plans(), "what was planned is done"
    assert ledger.acquire("next:1", 10, False), "the lease was given back"


def test_a_driver_that_slept_through_its_successors_start_does_nothing(deployment, packets, alert_ids):
    deployment.send(packets[:50])
    sleeper = deployment.start()
    try:
        ledger = deployment.ledger()
        eventually(lambda: bool(ledger.offsets()) and not ledger.open_plans(), 120)
        deployment.send(packets[50:])
        eventually(lambda: bool(ledger.open_plans()), 60, 0.002)
        sleeper.send_signal(signal.SIGSTOP)
        deployment.finish()
        sleeper.send_signal(signal.SIGCONT)
        assert sleeper.wait(60) != 0, "it says that it lost the stream"
    finally:
        if sleeper.poll() is None:
            os.kill(sleeper.pid, signal.SIGCONT)
            kill(sleeper)
    deployment.audit().assert_exactly_once(alert_ids, dead_letters=1)
