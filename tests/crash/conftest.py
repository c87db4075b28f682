"""A Ray cluster that outlives the drivers, as an operator's does."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """Its address. Deployments that use it must not end it."""
    os.environ["RAY_AUTH_MODE"] = "disabled"
    import ray

    context = ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=2**30)
    yield context.address_info["gcs_address"]
    ray.shutdown()
