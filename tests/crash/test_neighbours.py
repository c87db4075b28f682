"""kill -9 of all that is around the driver, Kafka on both sides too: nothing is lost or doubled."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.support.deployment import Deployment, eventually, kill, ray_processes
from tests.support.kafka import KafkaServer
from tests.support.processes import tail
from tests.support.shared import Shared

pytestmark = [pytest.mark.crash, pytest.mark.timeout(400)]  # the first test starts two Kafkas and a Ray


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


@pytest.fixture(scope="module")
def shared_driver(
    own_servers: list[KafkaServer],
    ray_cluster: str,
    ztf_packets: list[tuple[str, bytes]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Shared]:
    source, own = own_servers
    models = {"models": [{"name": "stamps"}, {"name": "lightcurve", "timeout_s": 2.0}]}

    def make() -> Deployment:
        name = f"test-{uuid.uuid4().hex[:10]}"
        folder = tmp_path_factory.mktemp("shared")
        return Deployment(folder, source.bootstrap, own.bootstrap, name, ray_cluster, settings=models)

    shared = Shared(make, iter([packet for _, packet in ztf_packets]))
    yield shared
    shared.end()


def under_fire(shared: Shared, fire: Callable[[], None]) -> list[bytes]:
    """Let `fire` do its worst while packets come, which are returned; all is kept exactly once."""
    try:
        driver = shared.running()
        shared.deployment.send(shared.take(20))
        shared.settle()
        packets = shared.take(100)
        with ThreadPoolExecutor(1) as thread:
            sender = thread.submit(trickle, shared.deployment, packets)
            time.sleep(0.3)
            fire()
            sender.result()
        shared.settle()
        assert driver.poll() is None, f"the driver ended: {tail(shared.deployment.log)}"
        shared.assert_exactly_once()
        return packets
    except BaseException:
        shared.end()
        shared.renew()
        raise


def trickle(deployment: Deployment, packets: list[bytes]) -> None:
    for i in range(0, len(packets), 10):
        deployment.send(packets[i : i + 10])
        time.sleep(0.2)


def test_a_killed_task_is_run_again(shared_driver):
    def fire() -> None:
        end = time.monotonic() + 30
        while time.monotonic() < end:
            for process in ray_processes("MapBatches(Work)"):
                process.kill()
                return
            time.sleep(0.002)
        raise AssertionError("no task was seen")

    under_fire(shared_driver, fire)


def test_a_killed_model_replica_comes_back_and_its_scores_with_it(shared_driver):
    def fire() -> None:
        replicas = ray_processes("ServeReplica:stream-crash-stamps")
        assert replicas
        for process in replicas:
            process.kill()

    scores = shared_driver.scores(under_fire(shared_driver, fire))
    assert len(scores["stamps"]) == len(scores["lightcurve"]) == 99
    assert all(s["probabilities"] for s in scores["lightcurve"]), "the other model goes on"

    def scores_again() -> bool:
        packets = shared_driver.take(5)
        shared_driver.deployment.send(packets)
        shared_driver.settle()
        return all(s["probabilities"] for s in shared_driver.scores(packets)["stamps"])

    eventually(scores_again, 60)


def test_a_stalled_model_costs_its_own_scores_and_says_so(shared_driver):
    stalled: list[psutil.Process] = []

    def fire() -> None:
        for process in ray_processes("ServeReplica:stream-crash-lightcurve"):
            process.send_signal(signal.SIGSTOP)
            stalled.append(process)
        assert stalled

    try:
        scores = shared_driver.scores(under_fire(shared_driver, fire))
    finally:
        for process in stalled:
            if process.is_running():
                process.send_signal(signal.SIGCONT)
    assert all(s["probabilities"] for s in scores["stamps"])
    silent = [s for s in scores["lightcurve"] if s["probabilities"] is None]
    assert silent
    assert all(s["reason"] for s in silent)


@pytest.mark.parametrize("which", ["source", "own"])
def test_a_killed_kafka_is_waited_for(shared_driver, own_servers, which):
    server = own_servers[which == "own"]

    def fire() -> None:
        server.kill()
        time.sleep(1.0)
        server.start()

    under_fire(shared_driver, fire)


def test_sigterm_finishes_what_is_in_flight(shared_driver):
    driver, ledger = shared_driver.running(), shared_driver.deployment.ledger()
    packets = shared_driver.take(100)
    before = ledger.planned()
    shared_driver.deployment.send(packets)
    eventually(lambda: ledger.planned() != before, 120, 0.01)
    driver.send_signal(signal.SIGTERM)
    assert driver.wait(60) == 0, tail(shared_driver.deployment.log)
    assert not ledger.open_plans(), "what was planned is done"
    ledger.release(ledger.acquire("next:1", 10, False))  # the lease was given back


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
