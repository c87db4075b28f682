"""The stream as an observatory runs it: a Ray job, its code the checkout that is sent along."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.packets.decode import decode
from broker.packets.survey import survey
from tests.support.deployment import ROOT, Deployment, eventually
from tests.support.ports import answers, free_port
from tests.support.processes import end, spawn, tail, wait_until

# `ray.init` starts a head with its dashboard, in a session folder of its own, and ends it with this process:
# nothing here touches another Ray of the machine.
HEAD = """
import signal, sys, ray
ray.init(
    address="local", num_cpus=2,
    include_dashboard=True, dashboard_host="127.0.0.1", dashboard_port=int(sys.argv[1]),
    _temp_dir=sys.argv[2], object_store_memory=2**29, log_to_driver=False,
)
print("ready", flush=True)
signal.sigwait({signal.SIGTERM})
ray.shutdown()
"""
STOP_S = "60"


def environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | {"RAY_AUTH_MODE": "disabled"}


@pytest.fixture(scope="module")
def head() -> Iterator[str]:
    """The address to which jobs are submitted."""
    port = free_port()
    # Sockets lie in it, whose paths must be short.
    with tempfile.TemporaryDirectory(prefix="rf-", ignore_cleanup_errors=True) as folder:
        log = Path(folder) / "head.log"
        options = {"env": environment(), "cwd": folder}
        process = spawn([sys.executable, "-c", HEAD, str(port), folder], log, **options)
        try:
            wait_until(lambda: "ready" in tail(log) and answers(port), process, log, 90)
            yield f"http://127.0.0.1:{port}"
        finally:
            end(process, signal.SIGTERM)


def ray_job(head: str, command: str, *arguments: str, timeout_s: float = 150) -> str:
    words = [sys.executable, "-m", "ray.scripts.scripts", "job", command, "--address", head, *arguments]
    done = subprocess.run(
        words, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=timeout_s
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout + done.stderr


def submit(head: str, deployment: Deployment, *options: str, job: str, wait: bool = True) -> str:
    """As in the README, and with the interpreter of this test run."""
    variables = {"RAY_JOB_STOP_WAIT_TIME_S": STOP_S}
    stream = [sys.executable, "-m", "rayfinch", "stream", str(deployment.config), *options]
    waiting = [] if wait else ["--no-wait"]
    env = json.dumps({"env_vars": variables})
    return ray_job(
        head, "submit", "--submission-id", job, *waiting, "--working-dir", ".", "--runtime-env-json", env,
        "--", *stream,
    )  # fmt: skip


@pytest.fixture
def deployment(tmp_path: Path, kafka: str, topic: str) -> Deployment:
    # ray.address stays `local`: within a job the job's cluster counts.
    return Deployment(tmp_path, kafka, kafka, topic, models=("stamps", "lightcurve"))


def ids(packets: list[bytes]) -> list[int]:
    return decode(survey("ztf"), packets).alerts["alert_id"].to_pylist()


@pytest.mark.timeout(400)
@pytest.mark.xfail(reason="replicas of a first job sometimes do not start", strict=False)
def test_a_job_runs_the_stream_and_stops_it_without_loss(deployment, head, ztf_packets, topic):
    packets = [b for _, b in ztf_packets[:60]]
    deployment.send(packets[:30])
    said = submit(head, deployment, "--until-idle", job=f"{topic}-1")
    assert "succeeded" in said
    deployment.audit().assert_exactly_once(ids(packets[:30]))

    # A second job goes on where the first ended; stopped, it finishes what is in flight and lets go.
    submit(head, deployment, job=f"{topic}-2", wait=False)
    ledger = deployment.ledger()
    eventually(lambda: owner(deployment) != "", 90)
    deployment.send(packets[30:])
    eventually(lambda: len(ledger.offsets()) == 3 and bool(ledger.open_plans()), 60, sleep=0.01)
    ray_job(head, "stop", f"{topic}-2")
    assert "drained" in ray_job(head, "logs", f"{topic}-2"), "it was killed instead"
    assert owner(deployment) == ""
    audit = deployment.audit()
    kept = [i for i in ids(packets) if i in set(audit.alert_ids)]
    assert len(kept) > 30
    audit.assert_exactly_once(kept)


def owner(deployment: Deployment) -> str | None:
    from broker.database.reports import drivers

    rows = drivers(deployment.ledger().engine, deployment.stream)
    return str(rows[0]["owner"]) if rows else None
