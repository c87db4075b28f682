"""From a configuration to a stream that runs."""

from pathlib import Path

import pytest

from rayfinch.config import load
from rayfinch.problems import ConfigError
from rayfinch.wiring import refuse_passing_places

JOB = Path("/tmp/ray/session_1/runtime_resources/working_dir_files/_ray_pkg_1")
CONFIG = Path(__file__).parents[2] / "configs" / "ztf.yaml"


def test_a_job_that_would_keep_its_data_in_its_own_copy_of_the_checkout_is_refused():
    with pytest.raises(
        ConfigError, match=r"archive\.uri: rayfinch-data/archive is in .*database\.url.*registry"
    ):
        refuse_passing_places(load(CONFIG, {"registry": {}}), JOB)


def test_absolute_places_and_servers_are_fine_in_a_job_and_anything_is_outside_of_one():
    places = {
        "archive": {"uri": "s3://bucket/archive"},
        "database": {"url": "postgresql+psycopg://me@host/rayfinch"},
        "registry": {"uri": "http://mlflow:5000"},
    }
    refuse_passing_places(load(CONFIG, places), JOB)
    refuse_passing_places(load(CONFIG), Path.cwd())
