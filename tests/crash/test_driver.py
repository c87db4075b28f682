"""kill -9 of the driver between any two steps of a batch: nothing is lost or doubled."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from broker.stream.failpoint import POINTS
from tests.support.deployment import Deployment
from tests.support.processes import tail

pytestmark = pytest.mark.crash

# Of two neighbours between which nothing is written one is enough; `rayfinch chaos` goes through all.
SAME_AS_BEFORE = {"run.before", "outcome.before", "publish.before", "commit.before"}
STATES = [point for point in POINTS if point not in SAME_AS_BEFORE]


@pytest.fixture
def deployment(tmp_path: Path, kafka_pair: tuple[str, str], ray_cluster: str, topic: str) -> Deployment:
    source, own = kafka_pair
    return Deployment(tmp_path, source, own, topic, ray_cluster, models=("stamps", "lightcurve"))


@pytest.mark.timeout(500)
def test_a_driver_killed_at_each_step_loses_and_doubles_nothing(deployment, packets, alert_ids):
    """One driver after another dies, each at another step; each begins with what the one before left open."""
    share = -(-len(packets) // len(STATES))
    for i, point in enumerate(STATES):
        deployment.send(packets[i * share : (i + 1) * share])
        status = deployment.drive(failpoint=point)
        assert status == -signal.SIGKILL, f"it should have died at {point}: {tail(deployment.log)}"
    deployment.finish()
    deployment.audit().assert_exactly_once(alert_ids, dead_letters=1)
