"""Joins the parts: from a configuration to a stream that runs. The only place that knows all of them."""

from __future__ import annotations

import logging
import os
import signal
import socket
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayfinch import reconciler
from rayfinch.config import RaySettings, Rule, Settings
from rayfinch.problems import ConfigError, Problem

if TYPE_CHECKING:
    from broker.packets.survey import SchemaSource
    from broker.publish.outputs import Outputs
    from broker.stream.loop import Loop, Stream
    from broker.stream.plan import Plan
    from serve.scoring import Deployed

log = logging.getLogger("rayfinch.stream")

# A worker needs for each block what it has just freed for the one before. So it keeps its memory, in huge
# pages: to ask the system for fresh ones takes a sixth of all CPU time. (No mmap: glibc gives back what is
# beyond 32 MB. Arrow's own pool returns memory on a clock.) Tasks are the unit of parallel work: a pool of
# threads inside each would only wait for the others'. And Ray runs workers and replicas at nice 15: whatever
# else a machine has to do would starve the stream's work.
WORKER_ENV = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:"
    "glibc.malloc.trim_threshold=8589934592:glibc.malloc.arena_max=2",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "POLARS_MAX_THREADS": "1",
    "RAY_worker_niceness": "0",
}


def outputs(settings: Settings) -> Outputs:
    """The topics that the configuration asks for."""
    from broker.publish.outputs import Outputs, TopicRule

    publish = settings.publish

    def rule(found: Rule | None) -> TopicRule | None:
        return TopicRule(found.packet, found.framing) if found else None

    return Outputs(
        prefix=publish.prefix,
        threshold=publish.threshold,
        thresholds=publish.thresholds,
        all=rule(publish.all),
        classes=rule(publish.classes),
        topics={name: TopicRule(r.packet, r.framing) for name, r in publish.topics.items()},
        partitions=publish.partitions,
        replication=publish.replication,
        topic_config={key: str(value) for key, value in publish.topic_config.items()},
    )


def deployed(settings: Settings) -> dict[str, Deployed]:
    """The models that the configuration names, with the folders of their versions."""
    from models.contract import shipped
    from serve.scoring import Deployed

    folder = settings.models_folder or shipped()
    return {
        m.name: Deployed(m.name, folder / m.name, m.version, m.replicas, m.gpus, m.timeout_s)
        for m in settings.models
    }


def schema_source(settings: Settings) -> SchemaSource | None:
    """Where the survey's writer schemas come from; None for self-describing packets."""
    from broker.packets.registry import Folder, Registry

    source = settings.source
    if source.registry:
        registry = dict(source.registry)
        return Registry(str(registry.pop("url")), registry)
    return Folder(Path(source.schemas)) if source.schemas else None


def start_ray(settings: RaySettings) -> None:
    """Join the cluster of RAY_ADDRESS or `address`, or start one that ends with this process.

    This process ends with Ray, too (see rayfinch.lifeline).
    """
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    import ray

    from rayfinch.lifeline import end_with_ray

    address = os.environ.get("RAY_ADDRESS") or settings.address
    # Lance warns of forks; what Ray forks becomes another program at once.
    warnings.filterwarnings("ignore", message="lance is not fork-safe")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
    if address == "local":
        options |= {"num_cpus": settings.num_cpus, "include_dashboard": False}
        # Ray ends workers beyond one a CPU when they idle for a second; a new one costs three.
        os.environ.setdefault("RAY_num_workers_soft_limit", str((os.cpu_count() or 1) + 4))
        os.environ.update(WORKER_ENV | os.environ)  # inherited: no worker needs to be set up for it
    else:
        # What the job's own runtime_env has already must not be said twice; but the niceness that a job's
        # driver finds in its environment is its supervisor's, and reaches no worker.
        given = os.environ.keys() - {"RAY_worker_niceness"}
        variables = {name: value for name, value in WORKER_ENV.items() if name not in given}
        options |= {"runtime_env": {"env_vars": variables}}
    ray.init(address=address, ignore_reinit_error=True, **options)
    end_with_ray()


def stream(settings: Settings) -> Stream:
    """Everything that the loop needs, built but not started: no replica, no lease, no transaction."""
    from broker.archive.archive import Archive
    from broker.database.engine import connect
    from broker.database.ledger import Ledger
    from broker.publish.publisher import Publisher
    from broker.stream.loop import Limits, Stream
    from broker.stream.source import KafkaSource
    from serve.versions import ServedModels

    rules = outputs(settings)
    batch = settings.batch
    return Stream(
        name=settings.stream,
        survey=settings.survey,
        source=KafkaSource(settings.source.kafka, settings.source.topics, settings.source.refresh_s),
        schemas=schema_source(settings),
        models=ServedModels(settings.stream, deployed(settings)),
        archive=Archive(settings.archive.uri, settings.survey, settings.archive.storage_options or None),
        outputs=rules,
        ledger=Ledger(connect(settings.database.url), settings.stream, settings.survey),
        publisher=lambda: Publisher(settings.publish.kafka, settings.stream, rules, settings.survey),
        limits=Limits(
            max_alerts=batch.max_alerts,
            max_bytes=batch.max_bytes,
            deadline_s=batch.deadline_s,
            in_flight=batch.in_flight,
            lease_ttl_s=settings.lease_ttl_s,
            compact_every_s=settings.archive.compact_every_s,
            watchdog_s=settings.watchdog_s,
        ),
        start=settings.source.start,
    )


def refuse_passing_places(settings: Settings, here: Path) -> None:
    """Raise ConfigError where data would go into a Ray job's copy of the checkout."""
    if "working_dir_files" not in here.parts:
        return
    kept = {
        "archive.uri": settings.archive.uri,
        "database.url": settings.database.url.removeprefix("sqlite:///"),
    }
    if settings.registry:
        kept["registry.uri"] = settings.registry.uri.removeprefix("sqlite:///")
    problems = [
        Problem(
            key,
            f"{place} is in the job's own copy of the checkout, which goes with it: make it absolute",
        )
        for key, place in kept.items()
        if "://" not in place and not Path(place).is_absolute()
    ]
    if problems:
        raise ConfigError(settings.stream, problems)


def start(settings: Settings, on_batch: Callable[[Plan, dict[str, Any]], None]) -> Loop:
    """Start Ray and the models' replicas, and make the loop. Raises ModelError, ConfigError."""
    refuse_passing_places(settings, Path.cwd())
    reconciler.start(settings)
    start_ray(settings.ray)
    import ray

    from broker.stream.warm import warm

    # Workers, replicas and this driver start side by side; all import for seconds. One worker more than
    # there are CPUs: while Datasets have those, batches before them are being written.
    workers = int(ray.cluster_resources().get("CPU", 1)) + 1
    warming = [warm.remote(["broker.stream.run", "serve.scorer"]) for _ in range(min(workers, 32))]
    from broker.stream.loop import Loop
    from serve.scoring import deploy

    deploy(settings.stream, deployed(settings))
    loop = Loop(stream(settings), f"{socket.gethostname()}:{os.getpid()}", on_batch)
    ray.wait(warming)  # the first batch needs one of them
    return loop


@contextmanager
def drained_by_signals(loop: Loop) -> Iterator[None]:
    """SIGTERM and SIGINT stop the planning; what is in flight is finished. A second one ends at once.

    Enter it after Ray has started: `ray.init` replaces SIGTERM's handler.
    """

    def drain(signum: int, frame: object) -> None:
        log.warning("%s: finishing what is in flight", signal.Signals(signum).name)
        loop.stop.set()
        signal.signal(signum, signal.SIG_DFL)

    before = {s: signal.signal(s, drain) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
