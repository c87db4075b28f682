"""Fixtures: real data and real servers. What is missing skips its tests or, under CI=true, fails them."""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from tests.support import kafka as kafka_server
from tests.support import postgres as postgres_server
from tests.support.kafka import KafkaServer
from tests.support.postgres import PostgresServer
from tests.support.versions import Versions

if TYPE_CHECKING:
    from models.registry import Registry

Packets = list[tuple[str, bytes]]

ZTF = ("ztf_public_20181128", "ztf_public_20200101", "ztf_public_2023_2025", "ztf_forced_photometry")
LSST_CONTAINERS = ("lsstcam_20250905_v9", "hsc_cosmos_v9")
# Where others take the machine's memory, Ray would kill what a test has started.
RAY_FOR_TESTS = {"RAY_AUTH_MODE": "disabled", "RAY_memory_monitor_refresh_ms": "0"}


def missing(reason: str) -> NoReturn:
    """Skip the test with its reason; under CI fail it, so that a green run has run everything."""
    if os.environ.get("CI", "").lower() in ("1", "true", "yes"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of `data` (real packets, stamps, light curves) and `kafka`, beside the checkout."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "data").is_dir():
        missing(f"no real data: {folder / 'data'} is missing")
    return folder


def _members(path: Path) -> Packets:
    with tarfile.open(path) as tar:
        return [(f"{path.name}/{m.name}", file.read()) for m in tar if (file := tar.extractfile(m))]


@pytest.fixture(scope="session")
def ztf_packets(shared: Path) -> Packets:
    """(name, bytes) of 1,144 real ZTF packets: Avro containers of schemas 3.2, 3.3, 4.01, rewritten 4.02."""
    return [p for name in ZTF for p in _members(shared / "data" / "ztf" / f"{name}.tar.gz")]


@pytest.fixture(scope="session")
def lsst_wire(shared: Path) -> Packets:
    """(name, bytes) of 70 real LSSTCam alerts in Confluent framing, schema id 900."""
    return _members(shared / "data" / "lsst" / "lsstcam_20250905_wire.tar.gz")


@pytest.fixture(scope="session")
def lsst_containers(shared: Path) -> Packets:
    """(name, bytes) of 204 LSST Avro containers: the alerts of `lsst_wire`, then 134 of HSC images."""
    return [p for name in LSST_CONTAINERS for p in _members(shared / "data" / "lsst" / f"{name}.tar.gz")]


@pytest.fixture(scope="session")
def lsst_schemas(shared: Path) -> Path:
    """The folder of ID.avsc, as a schema registry would return them."""
    return shared / "data" / "lsst" / "schemas"


@pytest.fixture(scope="session")
def kafka_available() -> None:
    """Asked for by tests that start a KafkaServer of their own (to kill it, or with other properties)."""
    if reason := kafka_server.unavailable():
        missing(reason)


@pytest.fixture(scope="session")
def kafka(kafka_available: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The bootstrap address of a real Kafka that all tests share: give topics unique names (`topic`)."""
    with KafkaServer(tmp_path_factory.mktemp("kafka")) as server:
        yield server.bootstrap


@pytest.fixture(scope="session")
def kafka_pair(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Two real Kafkas: the source's and our own."""
    with KafkaServer(tmp_path_factory.mktemp("own-kafka")) as own:
        yield kafka, own.bootstrap


@pytest.fixture
def topic() -> str:
    """A name that no other test uses, for a topic, a topic prefix or a stream."""
    return f"test-{uuid.uuid4().hex[:10]}"


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A real PostgreSQL. `postgres.create(name)` makes an empty database and returns its URL."""
    if postgres_server.programs() is None:
        missing("no PostgreSQL: install the package postgresql")
    # Not pytest's folders: those are for our own eyes only, and the server may run as another user.
    folder = Path(tempfile.mkdtemp(prefix="rayfinch-postgres-"))
    folder.chmod(0o755)
    try:
        with PostgresServer(folder) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_url(postgres: PostgresServer) -> str:
    """SQLAlchemy's URL of one PostgreSQL database, which all tests of the session share."""
    return postgres.create("rayfinch")


@pytest.fixture
def fresh_postgres_url(postgres: PostgresServer, topic: str) -> str:
    """SQLAlchemy's URL of an empty PostgreSQL database, this test's own."""
    return postgres.create(topic)


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """A real registry, MLflow on SQLite, which takes seconds to make: all tests share it (see `versions`)."""
    from models.registry import Registry

    return Registry(f"sqlite:///{tmp_path_factory.mktemp('registry')}/registry.db")


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    """Makes real versions of a model whose name no other test uses."""
    return Versions(f"lightcurve-{uuid.uuid4().hex[:10]}", tmp_path / "made")


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder on everybody's path: what tests put there is installed, in the cluster's processes as well."""
    folder = tmp_path_factory.mktemp("site")
    sys.path.append(str(folder))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(folder)]))
    return folder


@pytest.fixture(scope="session")
def ray_cluster(site: Path) -> Iterator[str]:
    """The address of a Ray cluster that outlives the drivers, as an operator's does: do not end it."""
    os.environ |= {**RAY_FOR_TESTS, "RAY_worker_niceness": "0"}  # as wiring.start_ray has it
    import ray

    context = ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=2**30)
    yield context.address_info["gcs_address"]
    ray.shutdown()
