"""kill -9 of the driver just before and just after each step of a batch: nothing is lost or doubled."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from broker.stream.failpoint import POINTS
from tests.support.deployment import Deployment

pytestmark = pytest.mark.crash


@pytest.fixture
def deployment(tmp_path: Path, kafka_pair: tuple[str, str], ray_cluster: str, topic: str) -> Deployment:
    source, own = kafka_pair
    return Deployment(tmp_path, source, own, topic, ray_cluster, models=("stamps", "lightcurve"))


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_driver_loses_and_doubles_nothing(deployment, packets, alert_ids, point):
    deployment.send(packets)
    status = deployment.drive(failpoint=f"{point}:2")
    assert status == -signal.SIGKILL, f"it should have died at {point}"
    deployment.finish()
    deployment.audit().assert_exactly_once(alert_ids, dead_letters=1)
