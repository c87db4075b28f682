"""The stream as an observatory runs it: a Ray job, its code the checkout that is sent along."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.job_submission import JobSubmissionClient

from broker.packets.decode import decode
from broker.packets.survey import survey
from tests.conftest import RAY_FOR_TESTS
from tests.support.deployment import ROOT, Deployment, eventually
from tests.support.ports import free_port
from tests.support.processes import end, spawn, wait_until
from tests.test_readme import sessions

RAY = [sys.executable, "-m", "ray.scripts.scripts"]


def environment() -> dict[str, str]:
    """Ours without what `ray_cluster` has put there: the stream itself has to see to it."""
    ray = ("RAY_ADDRESS", "RAY_worker_niceness")
    return {k: v for k, v in os.environ.items() if k not in ray} | RAY_FOR_TESTS


@pytest.fixture(scope="module")
def head() -> Iterator[str]:
    """The address to which jobs are submitted, of a Ray that shares no port and no folder with another."""
    named = ("", "dashboard-", "dashboard-agent-listen-", "ray-client-server-")
    ports = {name: free_port() for name in named} | {"min-worker-": 0, "max-worker-": 0}  # 0: any
    url = f"http://127.0.0.1:{ports['dashboard-']}"
    # Sockets lie in it, whose paths must be short.
    with tempfile.TemporaryDirectory(prefix="rf-", ignore_cleanup_errors=True) as folder:
        log = Path(folder) / "head.log"
        command = [
            *RAY, "start", "--head", "--block", "--num-cpus=2", f"--object-store-memory={2**29}",
            f"--temp-dir={folder}", "--dashboard-host=127.0.0.1", "--disable-usage-stats",
            *(f"--{name}port={port}" for name, port in ports.items()),
        ]  # fmt: skip
        process = spawn(command, log, env=environment(), cwd=folder)
        try:
            wait_until(lambda: takes_jobs(url), process, log, 180)
            yield url
        finally:
            end(process, signal.SIGKILL)  # its servers die with it; a clean end takes half a minute


def takes_jobs(url: str) -> bool:
    """Whether the head's dashboard answers, and its agent, which is up seconds later."""
    try:
        JobSubmissionClient(url).submit_job(entrypoint="true")
    except (ConnectionError, RuntimeError):
        return False
    return True


def ray_job(head: str, command: str, *arguments: str, timeout_s: float = 300) -> str:
    words = [*RAY, "job", command, "--address", head, *arguments]
    done = subprocess.run(
        words, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=timeout_s
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout + done.stderr


def submit(head: str, deployment: Deployment, *options: str, job: str, wait: bool = True) -> str:
    """The README's command, with the interpreter and the configuration of this test."""
    words = shlex.split(next(command for command, _ in sessions() if command.startswith("ray job submit")))
    at = words.index("--")
    assert words[at + 1 :] == ["python", "-m", "rayfinch", "stream", "configs/ztf.yaml"]
    stream = [sys.executable, "-m", "rayfinch", "stream", str(deployment.config), *options]
    waiting = [] if wait else ["--no-wait"]
    return ray_job(head, "submit", "--submission-id", job, *waiting, *words[3:at], "--", *stream)


@pytest.fixture
def deployment(tmp_path: Path, kafka: str, topic: str) -> Deployment:
    # ray.address stays `local`: within a job the job's cluster counts.
    return Deployment(tmp_path, kafka, kafka, topic, models=("stamps", "lightcurve"))


def ids(packets: list[bytes]) -> list[int]:
    return decode(survey("ztf"), packets).alerts["alert_id"].to_pylist()


@pytest.mark.timeout(900)
def test_a_job_runs_the_stream_and_stops_it_without_loss(deployment, head, ztf_packets, topic):
    packets = [b for _, b in ztf_packets[:60]]
    deployment.send(packets[:30])
    said = submit(head, deployment, "--until-idle", job=f"{topic}-1")
    assert "succeeded" in said
    deployment.audit().assert_exactly_once(ids(packets[:30]))

    # A second job goes on where the first ended; stopped, it finishes what is in flight and lets go.
    submit(head, deployment, job=f"{topic}-2", wait=False)
    ledger = deployment.ledger()
    eventually(lambda: owner(deployment) != "", 300)
    deployment.send(packets[30:])
    eventually(lambda: len(ledger.offsets()) == 3 and bool(ledger.open_plans()), 120, sleep=0.01)
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
